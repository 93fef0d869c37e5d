"""`method.threshold: auto`: which images are held out, what is measured on them, and the rule that follows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semikit.core.batch import Prediction
from semikit.core.settings import AutoThreshold
from semikit.core.thresholds import GatedThreshold
from semikit.data.calibration import with_calibration
from semikit.data.splits import choose
from semikit.errors import ConfigError, DataError
from semikit.run import build
from semikit.run.config import resolve
from semikit.run.results import results_of
from semikit.training.checkpoint import LAST, read_checkpoint
from semikit.training.tracking import read_rows
from tests.helpers import icons, photos, tiny
from tests.helpers.equality import differences
from tests.helpers.processes import Server
from tests.training.test_acting_runs import train


def prediction(*confidence: float) -> Prediction:
    return Prediction(torch.zeros(len(confidence), dtype=torch.long), torch.tensor(confidence))


def test_the_floor_follows_the_mean_confidence_where_the_threshold_is_not_reliable() -> None:
    """EMA: 0.99 · 0.6 + 0.01 · 0.8 = 0.602 of the valid ones; the floor 0.95 · 0.602 = 0.5719."""
    gated, valid = GatedThreshold(AutoThreshold()), torch.tensor([True, True, True, False])
    seen = prediction(0.96, 0.86, 0.58, 0.99)
    assert gated(seen, valid, torch.arange(4)).tolist() == [True, False, False, False]
    assert float(gated.usual) == pytest.approx(0.602)
    gated.reliable.fill_(0.0)
    gated.usual.fill_(0.6)
    assert gated(seen, valid, torch.arange(4)).tolist() == [True, True, True, False]
    assert float(gated.current) == pytest.approx(0.5719)
    for usual, bound in ((0.1, 0.3), (1.0, 0.9)):
        gated.settings = AutoThreshold(strict=0.9)
        gated.usual.fill_(usual)
        assert float(gated.current) == pytest.approx(bound)


def test_every_method_with_a_threshold_takes_it_and_no_two_rules_at_once() -> None:
    method: Any = tiny.method("unimatch_v2", threshold="auto")
    assert isinstance(method.rule.threshold, GatedThreshold)
    with pytest.raises(ValueError, match="both choose the threshold"):
        tiny.method("fixmatch", threshold="auto", class_quantile=0.8)


def gate_raw(photo_data: Path, icon_data: Path, task: str, **threshold: Any) -> dict[str, Any]:
    made = photos.raw(photo_data) if task == "seg" else icons.raw(icon_data, "fixmatch", data={"labels": "12"})
    made["method"]["threshold"] = {"kind": "auto", "strict": 0.4, **threshold}
    made["train"] |= {"iterations": 4, "eval_every": 2, "log_every": 2}
    return made


@pytest.mark.parametrize(("task", "held"), [("seg", 1), ("cls", 3)])
def test_held_out_images_are_learned_from_in_no_way(photo_data: Path, icon_data: Path, task: str, held: int) -> None:
    config = resolve(gate_raw(photo_data, icon_data, task))
    plain = resolve({**config.to_raw(), "method": {"name": config.method_name}})
    split, before = (build.build_task(one).learned.split for one in (config, plain))  # type: ignore[attr-defined]
    gone = set(split.calibration)
    assert len(gone) == held
    assert set(split.labeled) == set(before.labeled) - gone
    assert set(split.unlabeled) == set(before.unlabeled) - gone
    assert {"calibration"} == split.held_out.keys() - before.held_out.keys()
    if task == "cls":  # one of each of three classes
        labels = build.build_task(config).learned.train.labels  # type: ignore[attr-defined]
        assert sorted(labels[list(gone)]) == [0, 1, 2]


def test_no_class_loses_its_last_image_and_groups_stay_together(icon_data: Path) -> None:
    task: Any = build.build_task(resolve(icons.raw(icon_data, data={"labels": "all"})))
    parts = task.learned.parts
    one_each = choose(None, replace(parts, train=parts.train), 0) if not parts.balanced else choose("3", parts, 0)
    with pytest.raises(DataError, match="of 3 none can be spared"):
        with_calibration(one_each, parts, 0.05)
    every = choose("all", parts, 0)
    grouped = with_calibration(every, parts, 0.05, "{folder}{stem:1}")
    names = np.array(parts.train.names)
    keys = [{f"{Path(name).parent}{Path(name).name[0]}" for name in names[list(some)]} for some in
            (grouped.calibration, grouped.labeled)]  # fmt: skip
    assert keys[0]
    assert not keys[0] & keys[1]


def measured(run: build.Run, network: torch.nn.Module, threshold: float) -> tuple[int, int, int]:
    """The same counts, one image after the other, by the evaluation's own view of them."""
    counts = np.zeros(3, np.int64)
    task: Any = run.task
    for seen in task.examined(network, "train", run.trainer.inference, task.calibration)[1]:
        valid = seen.valid.numpy()
        confident = (seen.surest.numpy() >= threshold) & valid
        counts += [valid.sum(), confident.sum(), (confident & (seen.most.numpy() == seen.labels.numpy())).sum()]
    return tuple(counts.tolist())


@pytest.mark.parametrize(
    ("task", "level", "rule"),
    [("seg", 1.0, "floor"), pytest.param("seg", 0.0, "strict", marks=pytest.mark.long), ("cls", 1.0, None)],
)
def test_a_run_measures_and_says_its_rule(
    photo_data: Path, icon_data: Path, tmp_path: Path, task: str, level: float, rule: str | None
) -> None:
    raw = gate_raw(photo_data, icon_data, task, level=level)
    run, told = train(raw, tmp_path / "whole")
    results = json.loads(json.dumps(results_of(run)))["reliability"]
    counts = measured(run, run.trainer.method.teacher.eval(), 0.4)
    assert (results["positions"], results["confident"], results["right"]) == counts
    assert results["reliability"] == pytest.approx(counts[2] / counts[1])
    assert rule in (None, results["rule"])
    gated: Any = run.trainer.method.rule.threshold  # type: ignore[union-attr]
    assert results["threshold"] == pytest.approx(float(gated.current))
    assert [float(gated.reliable)] == [float(results["rule"] == "strict")]
    rows = read_rows(tmp_path / "whole")
    assert rows[-1]["reliability"] == pytest.approx(results["reliability"], rel=1e-5)
    said = [line for line in told if "method.threshold auto" in line]
    assert said
    assert "0.4 stays" in said[-1] if results["rule"] == "strict" else "an adaptive floor" in said[-1]


@pytest.mark.long
@pytest.mark.parametrize("task", ["seg", "cls"])
def test_a_run_that_goes_on_measures_alike(photo_data: Path, icon_data: Path, tmp_path: Path, task: str) -> None:
    raw = gate_raw(photo_data, icon_data, task, level=1.0)
    run, told = train(raw, tmp_path / "whole")
    _, heard = train(raw, tmp_path / "parts", stop=3)
    again, more = train(raw, tmp_path / "parts", resume=True)
    states = [read_checkpoint(tmp_path / name / "weights" / LAST) for name in ("whole", "parts")]
    for key in ("method", "optimizer", "reliability"):
        assert not differences(states[0][key], states[1][key]), key
    assert again.trainer.gate.last == run.trainer.gate.last
    said = [[line for line in lines if "held-out" in line] for lines in (told, [*heard, *more])]
    assert said[0] == said[1]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
def test_two_processes_measure_what_one_does(
    photo_data: Path, pair_data: Path, icon_data: Path, tmp_path: Path, server: Server, task: str
) -> None:
    flags, data, labels = {
        "seg": (photos.FLAGS, photo_data, "4"),
        "cd": (photos.FLAGS, pair_data, "4"),
        "cls": (icons.FLAGS, icon_data, "12"),
    }[task]
    auto = "method.threshold={kind: auto, strict: 0.4}"
    length = ("--iterations", "2", "--eval-every", "1", "--batch", "4", "train.group=2", "--method", "fixmatch", auto)
    asked = ["train", task, "--data", data, *flags, "--labels", labels, *length]
    for ended in (
        server.run(*asked, "--out", tmp_path / "one"),
        *server.run_together(2, *asked, "--out", tmp_path / "two"),
    ):
        assert ended.code == 0, ended.out
    one, two = (json.loads((tmp_path / name / "results.json").read_text())["reliability"] for name in ("one", "two"))
    assert one["positions"] > 0
    assert one["rule"] == two["rule"]
    for key in ("positions", "confident", "right", "threshold"):
        assert two[key] == pytest.approx(one[key], rel=0.02), key


def test_too_few_labels_and_a_level_beyond_1_are_refused(photo_data: Path, icon_data: Path) -> None:
    raw = gate_raw(photo_data, icon_data, "seg")
    raw["data"]["labels"] = "1"
    with pytest.raises(DataError, match="Label more, or give a number"):
        build.build_task(resolve(raw))
    with pytest.raises(ConfigError, match="level"):
        resolve(gate_raw(photo_data, icon_data, "seg", level=2.0))
