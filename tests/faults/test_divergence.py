"""Runs that diverge, under every precision and accumulation and for every task, and how they go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from semikit.core.batch import Labeled
from semikit.errors import RunError
from semikit.run import build
from semikit.run import resume as resuming
from semikit.run.config import resolve
from semikit.training.checkpoint import LAST, read_checkpoint
from semikit.training.reporter import Reporter
from semikit.training.tracking import Tracker, read_rows
from tests.helpers import icons, pairs, photos
from tests.helpers.equality import differences

Raw = dict[str, Any]
IMAGES = 8
"""Labelled images of a step; batch norm needs two of them in each of four micro-batches."""
BAD = 2
"""The step whose batch is broken."""
PLACES = [(1, 0), (2, 0), (2, 1), (4, 0), (4, 2), (4, 3)]
"""Micro-batches of a step, and which of them is broken: the only one; first and last; first, one in between, last."""


@pytest.fixture(scope="module")
def larger_icons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 32 pixels: of 16 the last convolution sees 1 x 1, where torch's bf16 gradient on CPUs is arbitrary memory."""
    return Path(icons.write(tmp_path_factory.mktemp("icons"), side=32))


@pytest.fixture
def raw_of(photo_data: Path, pair_data: Path, larger_icons: Path) -> Callable[[str], Raw]:
    """The smallest configuration of a task: four steps of labelled and unlabelled images, each saved."""
    small = {"seg": (photos, photo_data), "cd": (pairs, pair_data), "cls": (icons, larger_icons)}

    def raw(task: str) -> Raw:
        module, data = small[task]
        made: Raw = module.raw(data)
        made["train"] |= {"iterations": 4, "batch": IMAGES, "eval_every": 4, "save_every": 1, "log_every": 1}
        return made

    return raw


class Listening(Reporter):  # type: ignore[misc]
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def notice(self, text: str) -> None:
        self.told.append(text)


class Breaking:
    """A task one of whose labelled images is not a number at some steps."""

    def __init__(self, task: Any, image: int, *steps: int) -> None:
        self.task, self.image, self.steps = task, image, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def views(self, raw: Any, step: int, device: torch.device) -> Any:
        labeled, unlabeled = self.task.views(raw, step, device)
        assert isinstance(labeled, Labeled)
        if step in self.steps:
            images = labeled.images.clone()
            images[self.image, ..., 1, 2] = torch.nan
            labeled = replace(labeled, images=images)
        return labeled, unlabeled


@contextmanager
def started(raw: Raw, folder: Path, image: int | None = None, resume: bool = False) -> Iterator[tuple[Any, Any]]:
    """A run with its reporter and tracker; `image` of the bad step is broken."""
    folder.mkdir(exist_ok=True)
    reporter = Listening()
    run = build.build_run(resolve(raw), folder, reporter)
    if resume:
        resuming.resume(run, reporter)
    if image is not None:
        run.trainer.task = Breaking(run.trainer.task, image, BAD)
    tracker = Tracker(folder, run.trainer.step)
    try:
        yield run, tracker
    finally:
        tracker.close()


def stops_and_goes_on(raw: Raw, folder: Path, precision: str, parts: int, part: int) -> None:
    """One trial: the run stops at the bad step, nothing was changed by it, and it goes on at a lower rate."""
    raw["train"] |= {"precision": precision, "accumulate": parts}
    image = part * (IMAGES // parts)
    with started(raw, folder, image) as (run, tracker), pytest.raises(RunError) as caught:
        run.trainer.fit(tracker)
    assert caught.value.exit_code == 3
    lower = run.config.optimizer.lr / 10
    text = str(caught.value)
    assert f"not finite at iteration {BAD} (1 skipped, train.max_skipped=0)" in text
    assert f"Go on from the checkpoint before with --resume {folder} and a lower learning rate" in text
    assert f"optimizer.lr={lower:g}" in text
    assert [int(run.trainer.stepper.skipped), int(run.trainer.stepper.first_skipped)] == [1, BAD]
    kept = load_file(folder / f"nonfinite-iteration-{BAD}.safetensors")["labeled_images"]
    assert [bool(one.isnan().any()) for one in kept] == [number == image for number in range(IMAGES)]
    before = read_checkpoint(folder / "weights" / LAST)
    assert before["step"] == BAD
    assert before["skipped"] == [0, -1]
    assert not differences(before["method"], dict(run.trainer.method.state_dict())), "student, teacher or a buffer"
    assert not differences(before["optimizer"]["state"], run.trainer.stepper.optimizer.state_dict()["state"])

    raw["optimizer"] |= {"lr": lower}
    raw["train"] |= {"max_skipped": 10}
    with started(raw, folder, image, resume=True) as (again, tracker):
        told = again.trainer.reporter.told
        assert told[0].startswith(f"from iteration {BAD} on with another optimizer.lr: ")
        assert "train.max_skipped: 0 -> 10" in told[0]
        again.trainer.fit(tracker)
    state = read_checkpoint(folder / "weights" / LAST)
    assert state["step"] == 4
    assert state["skipped"] == [1, BAD]
    assert [line.split(": ")[1] for line in state["changed"]] == ["optimizer.lr", "train.max_skipped"]
    assert all(torch.isfinite(p).all() for p in again.trainer.method.parameters())
    assert resuming.read_run_config(folder, {}).optimizer.lr == pytest.approx(lower)


@pytest.mark.parametrize(
    ("task", "precision", "place"),
    [("seg", "fp32", (4, 2)), ("cd", "bf16", (2, 1)), ("cls", "fp16", (4, 0)), ("cls", "fp32", (1, 0))],
)
def test_a_run_stops_and_goes_on(
    raw_of: Callable[[str], Raw], tmp_path: Path, task: str, precision: str, place: tuple[int, int]
) -> None:
    stops_and_goes_on(raw_of(task), tmp_path / "run", precision, *place)


@pytest.mark.long
@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
def test_every_precision_and_accumulation(raw_of: Callable[[str], Raw], tmp_path: Path, task: str) -> None:
    """18 trials for each task."""
    for precision, (parts, part) in product(("fp32", "bf16", "fp16"), PLACES):
        folder = tmp_path / f"{precision}-{parts}-{part}"
        stops_and_goes_on(raw_of(task), folder, precision, parts, part)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_learning_rate_that_is_far_too_high(raw_of: Callable[[str], Raw], tmp_path: Path, precision: str) -> None:
    """Nothing was saved yet, and it says so."""
    raw = raw_of("seg")
    raw["optimizer"] |= {"lr": 1e30, "encoder_lr": 1e30}
    raw["train"] |= {"precision": precision, "save_every": 4}
    with started(raw, tmp_path / "run") as (run, tracker), pytest.raises(RunError) as caught:
        run.trainer.fit(tracker)
    assert caught.value.exit_code == 3
    assert "Nothing is saved: begin with a lower learning rate (optimizer.lr=1e+29 optimizer.encoder_lr=1e+29)" in str(
        caught.value
    )
    assert not (tmp_path / "run/weights").exists()
    bad = int(run.trainer.stepper.first_skipped)
    assert not load_file(tmp_path / f"run/nonfinite-iteration-{bad}.safetensors")["labeled_images"].isnan().any()


BAD_TEACHER = {"name": "fixmatch", "teacher": "auto", "ema_decay": 0.9999, "ema_ramp": False, "threshold": 0.99}


def far_behind(raw_of: Callable[[str], Raw]) -> Raw:
    """A teacher that hardly moves beside a student that learns."""
    raw = raw_of("cls")
    raw["method"] = dict(BAD_TEACHER)
    raw["optimizer"] |= {"lr": 3e-3}
    raw["train"] |= {"iterations": 40, "batch": 4, "eval_every": 8, "save_every": 8, "log_every": 8}
    return raw


def test_auto_does_without_a_teacher_that_stays_behind(raw_of: Callable[[str], Raw], tmp_path: Path) -> None:
    raw, folder = far_behind(raw_of), tmp_path / "run"
    with started(raw, folder) as (run, tracker):
        run.trainer.fit(tracker)
    behind = [line for line in run.trainer.reporter.told if "points behind the student" in line]
    assert ["again: from now on the student labels (method.teacher auto)" in line for line in behind] == [False, True]
    method = run.trainer.method
    assert method.student_labels
    assert method.label_source is method.student
    whole = read_checkpoint(folder / "weights" / LAST)

    (folder / "weights" / LAST).unlink()
    with started(raw, folder, resume=True) as (again, tracker):
        assert "Going on from previous.ckpt at iteration 32" in again.trainer.reporter.told[0]
        assert again.trainer.method.label_source is again.trainer.method.student
        again.trainer.fit(tracker)
    assert not differences(read_checkpoint(folder / "weights" / LAST)["method"], whole["method"])
    assert not [line for line in again.trainer.reporter.told if "behind" in line], "it is told once"


def test_classes_that_collapse_are_told_and_a_resumed_run_tells_the_same(
    raw_of: Callable[[str], Raw], tmp_path: Path
) -> None:
    """A teacher that hardly moves gives one class to all images."""
    raw, folder = far_behind(raw_of), tmp_path / "run"
    raw["method"] |= {"teacher": "ema", "threshold": 0.34}
    raw["train"] |= {"iterations": 12, "eval_every": 4, "save_every": 3}
    with started(raw, folder) as (run, tracker):
        run.trainer.fit(tracker)
    (told,) = [line for line in run.trainer.reporter.told if "collapse into one" in line]
    assert told.startswith("100.0 % of the confident pseudo-labels (")
    assert read_rows(folder)[-1]["classes_predicted"] == 1
    assert read_rows(folder)[-1]["largest_class"] == 1
    (folder / "weights" / LAST).unlink()
    with started(raw, folder, resume=True) as (again, tracker):
        assert again.trainer.step == 9
        again.trainer.fit(tracker)
    assert [line for line in again.trainer.reporter.told if "collapse into one" in line] == [told]


@pytest.mark.parametrize(("first", "then"), [("fp16", "fp32"), ("fp32", "fp16"), ("fp16", "bf16")])
def test_a_run_goes_on_in_another_precision(
    raw_of: Callable[[str], Raw], tmp_path: Path, first: str, then: str
) -> None:
    raw = raw_of("cls")
    raw["train"] |= {"precision": first}
    with started(raw, tmp_path / "run", 0) as (run, tracker), pytest.raises(RunError):
        run.trainer.fit(tracker)
    raw["train"] |= {"precision": then}
    with started(raw, tmp_path / "run", resume=True) as (again, tracker):
        again.trainer.fit(tracker)
    state = read_checkpoint(tmp_path / "run/weights" / LAST)
    assert state["step"] == 4
    assert state["changed"] == [f"iteration {BAD}: train.precision: {first!r} -> {then!r}"]
    assert (state["scaler"] is not None) == (then == "fp16")
    with started(raw, tmp_path / "run", resume=True) as (same, _):
        assert same.trainer.reporter.told == [], "it is told when it happens"
        assert same.trainer.snapshot["changed"] == state["changed"]
