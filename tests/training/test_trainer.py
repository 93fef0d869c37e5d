from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from semikit.core.task import Scores
from semikit.distributed.groups import LostError
from semikit.errors import ConfigError, DataError, RunError, WeightsError
from semikit.registry import METHODS
from semikit.run import build
from semikit.run import resume as resuming
from semikit.run.config import resolve
from semikit.run.load import load_network
from semikit.training.checkpoint import LAST, read_best, read_checkpoint
from semikit.training.reporter import Reporter
from semikit.training.tracking import Tracker, read_rows
from semikit.training.trainer import Interrupted
from tests.helpers import photos
from tests.helpers.equality import differences
from tests.helpers.sync_counter import SyncCounter

Raw = dict[str, Any]


class Stopping(Reporter):
    """Sends this process a signal after so many steps; keeps what it is told."""

    def __init__(self, after: int | None = None) -> None:
        self.after, self.steps = after, 0
        self.told: list[str] = []
        self.logged: list[Mapping[str, float]] = []

    def start(self, first: int, total: int) -> None:
        self.steps = first
        self.told.append(f"start {first} of {total}")

    def advance(self) -> None:
        self.steps += 1
        if self.steps == self.after:
            os.kill(os.getpid(), signal.SIGTERM)

    def log(self, values: Mapping[str, float]) -> None:
        self.logged.append(values)

    def evaluation(self, iteration: int, scores: Mapping[str, Scores], best: Mapping[str, Any]) -> None:
        self.told.append(f"evaluation {iteration}")

    def notice(self, text: str) -> None:
        self.told.append(text)

    def end(self) -> None:
        self.told.append("end")


def train(raw: Raw, folder: Path, stop: int | None = None, resume: bool = False) -> build.Run:
    """A run in a folder, to its end or to where it is told to stop."""
    reporter = Stopping(stop)
    run = build.build_run(resolve(raw), folder, reporter)
    if resume:
        resuming.resume(run, reporter)
    tracker = Tracker(folder, run.trainer.step)
    try:
        if stop is None:
            run.trainer.fit(tracker)
        else:
            with pytest.raises(Interrupted, match=f"Go on with: --resume {folder}") as caught:
                run.trainer.fit(tracker)
            assert caught.value.exit_code == 130
    finally:
        tracker.close()
    return run


def states(folder: Path) -> dict[str, Any]:
    """Everything of the last checkpoint that does not tell the time."""
    state = read_checkpoint(folder / "weights" / LAST)
    return {key: value for key, value in state.items() if key not in ("seconds", "meter")}


def table(folder: Path) -> list[dict[str, float]]:
    timed = ("images_per_second", "waiting", "peak_memory_mib")
    return [{key: value for key, value in row.items() if key not in timed} for row in read_rows(folder)]


@pytest.fixture(scope="module")
def whole(photo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an uninterrupted run of a method."""
    made: dict[str, Path] = {}

    def folder(method: str) -> Path:
        if method not in made:
            made[method] = tmp_path_factory.mktemp(method)
            train(settings(photo_data, method), made[method])
        return made[method]

    return folder


def settings(photo_data: Path, method: str = "unimatch_v2", **train: Any) -> Raw:
    """Six steps, two an epoch, scored after every third; with drop path, which draws from torch's own generator."""
    raw: Raw = photos.raw(photo_data, method)
    raw["model"] = {**raw["model"], "encoder_args": {**photos.ENCODER_ARGS, "drop_path_rate": 0.3}}
    raw["train"] = {**raw["train"], **train}
    return raw


@pytest.mark.parametrize(
    ("method", "stops"),
    [
        ("unimatch_v2", [1]),
        ("unimatch_v2", [2, 5]),
        ("fixmatch", [3]),
        ("unimatch_v1", [5]),
        ("supervised", [1, 4]),
        pytest.param("corrmatch", [4], marks=pytest.mark.long),
        pytest.param("u2pl", [4], marks=pytest.mark.long),
        pytest.param("allspark", [4], marks=pytest.mark.long),
    ],
)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    whole: Callable[[str], Path], photo_data: Path, tmp_path: Path, method: str, stops: list[int]
) -> None:
    raw = settings(photo_data, method)
    torch.manual_seed(77)  # what the caller drew before is of no consequence
    for number, stop in enumerate([*stops, None]):
        run = train(raw, tmp_path, stop, resume=number > 0)
        assert run.trainer.step == (6 if stop is None else stop)
    expected = whole(method)
    assert not differences(states(tmp_path), states(expected))
    best, other = (read_best(folder / "weights" / "best.safetensors") for folder in (tmp_path, expected))
    assert not differences(best, other)
    for row, wanted in zip(table(tmp_path), table(expected), strict=True):
        assert row == pytest.approx(wanted, rel=1e-5)


def test_pictures_show_the_weights_that_are_kept(photo_data: Path, tmp_path: Path) -> None:
    raw = settings(photo_data, eval_every=1)
    raw["optimizer"] = {**raw["optimizer"], "lr": 0.3}  # and it gets worse
    run = train(raw, tmp_path)
    best = run.trainer.best
    assert best["iteration"] < 6, "the last network is another one than the best"
    kept = load_network(tmp_path)[0].eval()
    shown = run.task.evaluation.comparison({"prediction": kept}, run.task.learned.val, run.trainer.inference, True)
    with Image.open(tmp_path / "images" / "validation.png") as drawn:
        found = np.asarray(drawn)
    last = run.task.evaluation.comparison(
        {"prediction": run.trainer.method.student.eval()}, run.task.learned.val, run.trainer.inference, True
    )
    drawn_of_best = found[-shown.height :].astype(int)
    assert np.abs(drawn_of_best - np.asarray(last)).max() > 8
    assert np.abs(drawn_of_best - np.asarray(shown)).max() <= 8, "but for rounding of the confidence"
    assert found[: -shown.height].min() < 128, "a caption"


def test_training_moves_something(whole: Callable[[str], Path], photo_data: Path) -> None:
    """Or equality would mean little."""
    state = states(whole("unimatch_v2"))
    fresh = build.build_run(resolve(settings(photo_data)), Path("-"), Reporter()).trainer.method.state_dict()
    learned = [key for key in fresh if key.endswith("weight")]
    assert not any(torch.equal(fresh[key], state["method"][key]) for key in learned)
    student = "student.classifier.weight"
    assert not torch.equal(state["method"][student], state["method"][student.replace("student", "teacher")])


def test_resuming_from_the_one_before(whole: Callable[[str], Path], photo_data: Path, tmp_path: Path) -> None:
    raw = settings(photo_data)
    train(raw, tmp_path, 5)
    (tmp_path / "weights" / LAST).write_bytes(b"damaged")
    reporter = Stopping()
    run = build.build_run(resolve(raw), tmp_path, reporter)
    resuming.resume(run, reporter)
    assert run.trainer.step == 3
    assert "Going on from previous.ckpt at iteration 3" in reporter.told[0]
    tracker = Tracker(tmp_path, run.trainer.step)
    run.trainer.fit(tracker)
    tracker.close()
    assert not differences(states(tmp_path), states(whole("unimatch_v2")))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(whole: Callable[[str], Path], photo_data: Path, tmp_path: Path, workers: int) -> None:
    train(settings(photo_data, "unimatch_v1", workers=workers), tmp_path)
    found, expected = states(tmp_path), states(whole("unimatch_v1"))
    assert not differences(found["method"], expected["method"])
    assert not differences(found["optimizer"], expected["optimizer"])


def test_another_seed_is_another_run(whole: Callable[[str], Path], photo_data: Path, tmp_path: Path) -> None:
    raw = settings(photo_data, seed=1, iterations=1)
    train(raw, tmp_path)
    key = "student.classifier.weight"
    assert not torch.equal(states(tmp_path)["method"][key], states(whole("unimatch_v2"))["method"][key])


def test_the_callers_generator_is_left_alone(photo_data: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(settings(photo_data, iterations=1), tmp_path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("method", [*METHODS.names(), "unimatch_v2 auto"])
def test_a_whole_step_does_not_wait_for_the_device(photo_data: Path, method: str) -> None:
    method, _, auto = method.partition(" ")
    raw = photos.raw(photo_data, method)
    raw["method"] |= {"threshold": auto} if auto else {}
    config = resolve(raw)
    if METHODS.get(method).requirements(config.method).whole_images:
        pytest.skip("learns classes of whole images only")
    run = build.build_run(config, Path("-"), Reporter())
    raw_batches = list(run.task.batches(range(2), 0, False))
    with SyncCounter() as counter:
        for step, raw in enumerate(raw_batches):
            views = run.task.views(raw, step, torch.device("cpu"))
            run.trainer.meter.add(run.trainer.stepper(*views, step), 0.0)
    assert counter.total > 500
    assert not counter.found


def test_what_a_reporter_is_told(photo_data: Path, tmp_path: Path) -> None:
    raw = settings(photo_data, log_every=2, eval_every=4)
    reporter = Stopping()
    run = build.build_run(resolve(raw), tmp_path, reporter)
    tracker = Tracker(tmp_path)
    run.trainer.fit(tracker)
    tracker.close()
    assert reporter.told == ["start 0 of 6", "evaluation 4", "evaluation 6", "end"]
    assert len(reporter.logged) == 3
    assert {"loss", "confident", "images_per_second", "waiting"} <= reporter.logged[0].keys()
    rows = read_rows(tmp_path)
    wanted = {"iteration", "epoch", "loss", "loss_x", "loss_u", "confident", "student_mIoU", "teacher_mIoU"}
    assert wanted | {"lr", "images_per_second", "peak_memory_mib"} <= rows[0].keys()
    assert [row["epoch"] for row in rows] == [2, 3]


def test_cudnn_times_its_convolutions_in_steps_and_not_in_evaluations(
    photo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, timed = build.build_run(resolve(settings(photo_data)), tmp_path, Reporter()), set[tuple[str, bool]]()

    def noted(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        timed.add((name, torch.backends.cudnn.benchmark))
        return function(*arguments)

    for name in ("views", "evaluate"):
        monkeypatch.setattr(run.task, name, partial(noted, name, getattr(run.task, name)))
    before = torch.backends.cudnn.benchmark
    run.trainer.fit(None)
    assert timed == {("views", True), ("evaluate", False)}
    assert torch.backends.cudnn.benchmark == before


def test_the_interrupted_run_scores_nothing_it_was_not_due_to(photo_data: Path, tmp_path: Path) -> None:
    run = train(settings(photo_data), tmp_path, 1)
    assert not run.trainer.latest
    assert read_checkpoint(tmp_path / "weights" / LAST)["step"] == 1


def test_a_signal_during_an_evaluation_is_saved_too(
    photo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = settings(photo_data, eval_every=1, save_every=1000)
    run = build.build_run(resolve(raw), tmp_path, Stopping())
    evaluate = run.task.evaluate

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*arguments)

    monkeypatch.setattr(run.task, "evaluate", interrupted)
    tracker = Tracker(tmp_path)
    with pytest.raises(Interrupted, match="iteration 1; saved"):
        run.trainer.fit(tracker)
    tracker.close()
    assert read_checkpoint(tmp_path / "weights" / LAST)["step"] == 1


def test_an_evaluation_that_lost_a_process_is_made_up_for(
    whole: Callable[[str], Path], photo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = settings(photo_data, save_every=2)
    run = build.build_run(resolve(raw), tmp_path, Stopping(None))

    def lost(*_: Any) -> Any:
        raise LostError("another process is gone")

    monkeypatch.setattr(run.task, "evaluate", lost)
    tracker = Tracker(tmp_path, 0)
    with pytest.raises(LostError, match="at iteration 3"):
        run.trainer.fit(tracker)
    tracker.close()
    assert read_checkpoint(tmp_path / "weights" / LAST)["step"] == 2, "one of step 3 would leave its evaluation out"
    train(raw, tmp_path, resume=True)
    found, expected = states(tmp_path), states(whole("unimatch_v2"))
    assert not differences([found["method"], found["best"]], [expected["method"], expected["best"]])
    assert [row["iteration"] for row in table(tmp_path)] == [3, 6]


@pytest.mark.parametrize("select", ["teacher", "student"])
def test_the_best_may_be_chosen_of_one_network(photo_data: Path, tmp_path: Path, select: str) -> None:
    run = train(settings(photo_data, select=select), tmp_path)
    assert run.trainer.best["model"] == select


def test_a_finished_run_is_only_scored_again(whole: Callable[[str], Path], photo_data: Path, tmp_path: Path) -> None:
    raw = settings(photo_data)
    train(raw, tmp_path)
    before = table(tmp_path)
    run = train(raw, tmp_path, resume=True)
    run.trainer.score()
    assert run.trainer.latest.keys() == {"student", "teacher"}
    assert table(tmp_path) == before


CONVOLUTIONAL = {"encoder": "test_resnet", "weights": "none", "decoder_channels": 8}


def test_an_evaluation_changes_nothing(photo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norm would learn from validation images and pictures if it were not in eval mode."""
    run = build.build_run(resolve({**photos.raw(photo_data), "model": CONVOLUTIONAL}), tmp_path, Reporter())
    trainer = run.trainer
    trainer.method.train()
    before = {key: value.clone() for key, value in trainer.method.state_dict().items()}
    tracker = Tracker(tmp_path)
    trainer.evaluate(tracker)
    tracker.close()
    assert not differences(before, dict(trainer.method.state_dict()))
    assert trainer.method.student.training
    assert (tmp_path / "images/validation.png").exists()


def test_a_resumed_run_of_a_network_with_batch_norm(photo_data: Path, tmp_path: Path) -> None:
    raw = {**photos.raw(photo_data, "unimatch_v1"), "model": CONVOLUTIONAL}
    train(raw, tmp_path / "whole")
    train(raw, tmp_path / "parts", 4)
    train(raw, tmp_path / "parts", resume=True)
    assert not differences(states(tmp_path / "parts"), states(tmp_path / "whole"))


def test_a_resumed_run_may_keep_less_for_the_backward_pass(photo_data: Path, tmp_path: Path) -> None:
    raw = {**photos.raw(photo_data, "unimatch_v1"), "model": CONVOLUTIONAL}
    train(raw, tmp_path / "whole")
    train(raw, tmp_path / "parts", 4)
    train({**raw, "model": {**CONVOLUTIONAL, "checkpointing": True}}, tmp_path / "parts", resume=True)
    assert states(tmp_path / "parts")["config"]["model"]["checkpointing"]
    for key in ("method", "optimizer", "best"):
        assert not differences(states(tmp_path / "parts")[key], states(tmp_path / "whole")[key])


class Breaking:
    """A task whose labelled images are not numbers at some steps."""

    def __init__(self, task: Any, *steps: int) -> None:
        self.task, self.steps = task, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def views(self, raw: Any, step: int, device: torch.device) -> Any:
        labeled, unlabeled = self.task.views(raw, step, device)
        if step in self.steps:
            labeled = replace(labeled, images=labeled.images * torch.nan)
        return labeled, unlabeled


def test_a_step_that_is_not_finite_stops_the_run_and_its_batch_is_kept(photo_data: Path, tmp_path: Path) -> None:
    run = build.build_run(resolve(settings(photo_data, "unimatch_v1", log_every=2)), tmp_path, Reporter())
    whole_task = run.trainer.task
    run.trainer.task = Breaking(whole_task, 1, 2)
    tracker = Tracker(tmp_path)
    path = tmp_path / "nonfinite-iteration-1.safetensors"
    with pytest.raises(RunError, match=r"not finite at iteration 1 \(1 skipped, train.max_skipped=0\)") as caught:
        run.trainer.fit(tracker)
    tracker.close()
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value)
    kept = load_file(path)
    raw = next(iter(whole_task.batches(range(1, 2), 0, False)))
    labeled, unlabeled = whole_task.views(raw, 1, torch.device("cpu"))
    assert unlabeled is not None
    assert unlabeled.partner_batch is not None
    assert kept["labeled_images"].isnan().all()
    expected = {
        "labels": labeled.labels,
        "labeled_index": labeled.index,
        "weak": unlabeled.weak,
        "strong_1": unlabeled.strong[0],
        "strong_2": unlabeled.strong[1],
        "second": unlabeled.partner_batch.images,
    }
    assert not differences({key: kept[key] for key in expected}, expected)


def test_some_skipped_steps_may_be_allowed_also_over_a_resumption(photo_data: Path, tmp_path: Path) -> None:
    raw = settings(photo_data, max_skipped=2, save_every=1)
    run = build.build_run(resolve(raw), tmp_path, Stopping(3))
    run.trainer.task = Breaking(run.trainer.task, 1, 2)
    tracker = Tracker(tmp_path)
    with pytest.raises(Interrupted):
        run.trainer.fit(tracker)
    again = build.build_run(resolve(raw), tmp_path, Reporter())
    resuming.resume(again, Reporter())
    assert int(again.trainer.stepper.skipped) == 2
    again.trainer.task = Breaking(again.trainer.task, 1, 2, 4)
    with pytest.raises(RunError, match=r"at iteration 1 \(3 skipped"):
        again.trainer.fit(tracker)
    tracker.close()


def test_data_that_vanish_stop_the_run_after_a_checkpoint(tmp_path: Path) -> None:
    data = photos.write(tmp_path / "data")
    raw = settings(data, max_bad_files=0)
    folder = tmp_path / "run"
    reporter = Stopping()
    run = build.build_run(resolve(raw), folder, reporter)
    image = data.parent / "train/images/train7.png"  # without a mask: always unlabelled
    content = image.read_bytes()
    image.write_bytes(content[:200])
    tracker = Tracker(folder)
    with pytest.raises(RunError, match=r"data could not be read at iteration \d; saved.*train7.png") as caught:
        run.trainer.fit(tracker)
    assert caught.value.exit_code == 3
    assert reporter.told[-1] == "end"
    image.write_bytes(content)
    again = build.build_run(resolve(raw), folder, Reporter())
    resuming.resume(again, Reporter())
    again.trainer.fit(tracker)
    tracker.close()
    train(raw, tmp_path / "whole")
    assert not differences(states(folder)["method"], states(tmp_path / "whole")["method"])


def test_validation_images_that_vanish_stop_the_run(tmp_path: Path) -> None:
    data = photos.write(tmp_path / "data")
    run = build.build_run(resolve(settings(data, iterations=1)), tmp_path / "run", Reporter())
    (tmp_path / "run").mkdir()
    (data.parent / "val/images/val1.png").unlink()
    tracker = Tracker(tmp_path / "run")
    with pytest.raises(RunError, match=r"nothing could be scored at iteration 1: .*val1\.png"):
        run.trainer.fit(tracker)
    tracker.close()


def test_a_full_disk_stops_the_run(photo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(state: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", no_space)
    with pytest.raises(RunError, match="No space left on device") as caught:
        train(settings(photo_data, iterations=1), tmp_path)
    assert caught.value.exit_code == 3


def test_another_configuration_is_not_resumed(whole: Callable[[str], Path], photo_data: Path) -> None:
    raw = settings(photo_data)
    raw["optimizer"] = {**raw["optimizer"], "weight_decay": 0.5}
    run = build.build_run(resolve(raw), whole("unimatch_v2"), Reporter())
    with pytest.raises(ConfigError, match=r"optimizer\.weight_decay: 0\.01 -> 0\.5"):
        resuming.resume(run, Reporter())


def test_what_does_not_change_the_result_may_change(whole: Callable[[str], Path], photo_data: Path) -> None:
    raw = settings(photo_data, workers=2, log_every=1, save_every=1)
    run = build.build_run(resolve(raw), whole("unimatch_v2"), Reporter())
    resuming.resume(run, Reporter())
    assert run.trainer.step == 6


def test_another_split_is_not_resumed(tmp_path: Path) -> None:
    data = photos.write(tmp_path / "data")
    raw = settings(data, iterations=1)
    train(raw, tmp_path / "run")
    photos.save(data.parent / "train/images/one_more.png", torch.zeros(40, 48, 3))
    run = build.build_run(resolve(raw), tmp_path / "run", Reporter())
    with pytest.raises(DataError, match=r"counts\.unlabeled: 4 -> 5"):
        resuming.resume(run, Reporter())


def test_nothing_to_resume(photo_data: Path, tmp_path: Path) -> None:
    run = build.build_run(resolve(settings(photo_data)), tmp_path, Reporter())
    with pytest.raises(WeightsError, match="no checkpoint"):
        resuming.resume(run, Reporter())
