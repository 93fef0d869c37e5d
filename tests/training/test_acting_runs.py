"""Small runs whose guards act: what they do is in the log, the events, the results and the checkpoint, and a run that
was interrupted does the same.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semikit.core.thresholds import ClassThreshold
from semikit.run import build
from semikit.run import resume as resuming
from semikit.run.config import resolve
from semikit.run.results import results_of
from semikit.training.checkpoint import LAST, read_checkpoint
from semikit.training.reporter import Reporter
from semikit.training.tracking import Tracker, read_rows
from semikit.training.trainer import Interrupted
from tests.helpers import icons, photos
from tests.helpers.equality import differences
from tests.helpers.processes import Server

Raw = dict[str, Any]


class Listening(Reporter):
    """Keeps what it is told; sends this process a signal after so many steps."""

    def __init__(self, stop: int | None) -> None:
        self.stop, self.steps = stop, 0
        self.told: list[str] = []

    def start(self, first: int, total: int) -> None:
        self.steps = first

    def advance(self) -> None:
        self.steps += 1
        if self.steps == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)

    def notice(self, text: str) -> None:
        self.told.append(text)


def train(raw: Raw, folder: Path, stop: int | None = None, resume: bool = False) -> tuple[build.Run, list[str]]:
    """A run to its end, or to where it is told to stop, and what was told."""
    folder.mkdir(exist_ok=True)
    reporter = Listening(stop)
    run = build.build_run(resolve(raw), folder, reporter)
    if resume:
        resuming.resume(run, reporter)
    tracker = Tracker(folder, run.trainer.step)
    try:
        if stop is None:
            run.trainer.fit(tracker)
        else:
            with pytest.raises(Interrupted):
                run.trainer.fit(tracker)
    finally:
        tracker.close()
    return run, reporter.told


def nothing_confident(photo_data: Path, icon_data: Path) -> Raw:
    """No pixel reaches the threshold."""
    made: Raw = photos.raw(photo_data)
    made["method"]["threshold"] = 0.9999
    made["train"] |= {"iterations": 6, "eval_every": 2, "log_every": 2}
    return made


def lagging(photo_data: Path, icon_data: Path) -> Raw:
    """A teacher that hardly moves beside a student that learns."""
    made: Raw = icons.raw(icon_data, "fixmatch")
    made["method"] |= {"ema_decay": 0.9999, "ema_ramp": False, "threshold": 0.5}
    made["optimizer"]["lr"] = 3e-3
    made["train"] |= {"iterations": 48, "eval_every": 8, "log_every": 8}
    return made


def collapsed(photo_data: Path, icon_data: Path) -> Raw:
    """A teacher that hardly moves gives one class to all images."""
    made = lagging(photo_data, icon_data)
    made["method"] |= {"threshold": 0.34}
    made["train"] |= {"iterations": 16, "eval_every": 4, "log_every": 4}
    return made


@pytest.mark.parametrize(
    ("raw_of", "remedies", "stops"),
    [
        (nothing_confident, ["class_quantile"], (3, 5)),
        pytest.param(lagging, ["ema_decay"], (10, 30), marks=pytest.mark.long),
        (collapsed, ["class_quantile", "ramp"], (11, 13)),
    ],
)
def test_a_run_that_acts_says_what_it_did_and_goes_on_alike(
    photo_data: Path, icon_data: Path, tmp_path: Path, raw_of: Any, remedies: list[str], stops: tuple[int, ...]
) -> None:
    raw = raw_of(photo_data, icon_data)
    tells, _ = train(raw, tmp_path / "tells")
    raw["train"]["guard"] = "act"
    run, told = train(raw, tmp_path / "whole")
    results = results_of(run)
    done = results["actions"]
    assert [action["remedy"] for action in done][: len(remedies)] == remedies
    for action in done:
        assert [action["text"] in line and "from now on" in line.lower() for line in told].count(True) == 1, told
    assert json.loads(json.dumps(done)) == done
    events = EventAccumulator(str(tmp_path / "whole")).Reload()
    for action in done:
        (event,) = events.Tensors(f"actions/{action['remedy']}/text_summary")
        assert event.step == action["iteration"]
    first = done[0]["iteration"]
    rows, before = (read_rows(tmp_path / name) for name in ("whole", "tells"))
    same = [row["loss"] == other["loss"] for row, other in zip(rows, before, strict=True)]
    acted = [row["iteration"] > first for row in rows]
    assert all(equal for equal, after in zip(same, acted, strict=True) if not after), "nothing changes before"
    assert not all(same), "and something does afterwards"
    assert results_of(tells)["actions"] == []

    heard: list[str] = []
    for number, stop in enumerate([*stops, None]):
        again, lines = train(raw, tmp_path / "again", stop, resume=number > 0)
        heard += lines
    assert results_of(again)["actions"] == done
    assert [line for line in heard if "from now on" in line.lower()] == [
        line for line in told if "from now on" in line.lower()
    ]
    states = [read_checkpoint(tmp_path / name / "weights" / LAST) for name in ("again", "whole")]
    for key in ("method", "optimizer", "guards", "best"):
        assert not differences(states[0][key], states[1][key]), key


def test_a_run_that_was_told_may_go_on_with_guards_that_act(photo_data: Path, icon_data: Path, tmp_path: Path) -> None:
    raw = nothing_confident(photo_data, icon_data)
    train(raw, tmp_path, stop=3)
    raw["train"]["guard"] = "act"
    run, told = train(raw, tmp_path, resume=True)
    assert any("train.guard: 'tell' -> 'act'" in line for line in told)
    assert [action.iteration for action in run.trainer.guards.done()] == [4]
    assert read_rows(tmp_path)[1]["confident"] == 0 < read_rows(tmp_path)[-1]["confident"]


def test_a_step_that_is_skipped_leaves_the_new_thresholds_as_they_were(
    photo_data: Path, icon_data: Path, tmp_path: Path
) -> None:
    """The stepper puts back what a step without effect changed, also what came later than the run."""
    raw = nothing_confident(photo_data, icon_data)
    raw["train"]["guard"] = "act"
    run, _ = train(raw, tmp_path)
    threshold: Any = run.trainer.method.rule.threshold
    assert isinstance(threshold, ClassThreshold)
    before = threshold.histogram.clone()
    assert before.any()
    labeled, unlabeled = run.task.views(next(iter(run.task.batches(range(1), 0, False))), 0, run.device)
    labeled.images[0] = float("nan")
    run.trainer.method.train()
    run.trainer.stepper(labeled, unlabeled, 6)
    assert int(run.trainer.stepper.skipped) == 1
    assert not differences(threshold.histogram, before)


@pytest.mark.parametrize("shard", ["false", pytest.param("true", marks=pytest.mark.long)])
def test_two_processes_act_alike(photo_data: Path, tmp_path: Path, server: Server, shard: str) -> None:
    flags = [*photos.FLAGS, "--labels", "4", "train.group=2", "--iterations", "6", "--eval-every", "2"]
    more = ["method.threshold=0.9999", "train.guard=act", f"train.shard={shard}", "--out", tmp_path / "2"]
    found = server.run_together(2, "train", "seg", "--data", photo_data, *flags, *more)
    out = "".join(process.out for process in found)
    assert [process.code for process in found] == [0, 0], out
    assert " ".join(out.split()).count("from now on of each predicted class") == 1
    results = json.loads((tmp_path / "2" / "results.json").read_text())
    assert [(action["iteration"], action["remedy"]) for action in results["actions"]] == [(4, "class_quantile")]
    assert read_rows(tmp_path / "2")[-1]["confident"] > 0
    (tmp_path / "2" / "weights" / LAST).rename(tmp_path / "whole.ckpt")
    again = server.run_together(2, "train", "seg", "--resume", tmp_path / "2", f"train.shard={shard}")
    assert [process.code for process in again] == [0, 0], again
    states = [read_checkpoint(path) for path in (tmp_path / "2" / "weights" / LAST, tmp_path / "whole.ckpt")]
    assert states[0]["method"]["rule.threshold.histogram"].any()
    for key in ("method", "guards"):
        assert not differences(states[0][key], states[1][key]), key
