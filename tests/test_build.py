from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from semikit.core.task import Counts
from semikit.errors import ConfigError, WeightsError
from semikit.run import build
from semikit.run import load as trained
from semikit.run.config import resolve
from semikit.training.checkpoint import save_best, save_last
from semikit.training.reporter import Reporter
from semikit.training.settings import TrainSettings, schedule_of
from tests.helpers import photos
from tests.helpers.equality import differences


def schedule(unlabeled: int | None, labeled: int = 10, **train: Any) -> Any:
    settings = TrainSettings.model_validate({"epochs": 1, "batch": 16, "group": 4, **train})
    return schedule_of(settings, Counts(labeled=labeled, unlabeled=unlabeled, val=1, test=0))


@pytest.mark.parametrize(
    ("name", "unlabeled", "batch", "group", "epochs", "iterations"),
    [
        ("Pascal 92", 10490, 16, 4, 60, 39_300),
        ("Cityscapes 1/16", 2789, 8, 2, 180, 62_820),
        ("ADE20K 1/64", 19894, 8, 2, 60, 149_220),
        ("COCO 1/512", 118_287 - 232, 16, 4, 20, 147_560),
        ("LEVIR 5 %", 6764, 8, 8, 60, 50_700),
        ("WHU 20 %", 4758, 8, 8, 60, 35_640),
    ],
)
def test_lengths_of_the_published_runs(
    name: str, unlabeled: int, batch: int, group: int, epochs: int, iterations: int
) -> None:
    assert schedule(unlabeled, batch=batch, group=group, epochs=epochs).iterations == iterations


def test_an_epoch_is_a_pass_over_the_unlabelled_images() -> None:
    assert schedule(160).per_epoch == 10
    assert schedule(160, ratio=2).per_epoch == 5
    assert schedule(0, labeled=32).per_epoch == 2, "without unlabelled images, over the labelled ones"
    assert schedule(3).per_epoch == 1


@pytest.mark.parametrize(
    ("train", "eval_every"),
    [
        ({"epochs": 5}, 10),
        ({"epochs": 100}, 50),
        ({"epochs": None, "iterations": 7}, 7),
        ({"epochs": None, "iterations": 990}, 50),
        ({"epochs": 100, "eval_every": 3}, 3),
    ],
)
def test_evaluations_once_an_epoch_but_at_most_twenty(train: dict[str, Any], eval_every: int) -> None:
    made = schedule(160, **train)
    assert made.eval_every == eval_every
    assert made.save_every == eval_every
    if "eval_every" not in train:
        assert -(-made.iterations // made.eval_every) <= 20


def test_nobody_counted_the_unlabelled_images() -> None:
    """An epoch is then a pass over the labelled ones."""
    made = schedule(None, labeled=160, epochs=None, iterations=990)
    assert (made.iterations, made.per_epoch, made.eval_every) == (990, 10, 50)


def test_checkpoints_have_an_interval_of_their_own() -> None:
    assert schedule(160, save_every=4).save_every == 4


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(photo_data: Path) -> None:
    config = resolve(photos.raw(photo_data))
    torch.manual_seed(1)
    first = build.build_run(config, Path("-"), Reporter())
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = build.build_run(config, Path("-"), Reporter())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not differences(first.trainer.method.state_dict(), second.trainer.method.state_dict())
    other = build.build_run(resolve(photos.raw(photo_data, train={"seed": 1})), Path("-"), Reporter())
    assert differences(first.network.state_dict(), other.network.state_dict())


def test_methods_learn_from_what_they_are_told(photo_data: Path) -> None:
    run = build.build_run(
        resolve(photos.raw(photo_data, train={"iterations": None, "epochs": 3})), Path("-"), Reporter()
    )
    run_info: Any = run.trainer.method.run_info
    assert (run_info.num_classes, run_info.num_labeled, run_info.num_unlabeled) == (3, 4, 4)
    assert (run_info.steps_per_epoch, run_info.iterations, run_info.group) == (2, 6, 2)


def test_hard_example_mining_and_micro_batches(photo_data: Path) -> None:
    raw = photos.raw(photo_data, train={"accumulate": 2})
    raw["method"]["ohem"] = {"threshold": 0.7}
    with pytest.raises(ConfigError, match="a micro-batch has to hold whole groups"):
        build.requirements_of(resolve(raw))


# -------------------------------------------------------------------------------------------------- trained networks


@pytest.fixture
def run(photo_data: Path, tmp_path: Path) -> build.Run:
    """A run with a checkpoint in which student and teacher differ."""
    made = build.build_run(resolve(photos.raw(photo_data)), tmp_path, Reporter())
    with torch.no_grad():
        for parameter in made.trainer.method.student.parameters():
            parameter.add_(1)
    return made


@pytest.mark.parametrize("better", ["student", "teacher", None])
def test_a_checkpoint_gives_the_better_network(run: build.Run, better: str | None) -> None:
    run.trainer.best = {"model": better} if better else {}
    run.trainer.save()
    network, metadata = trained.load_network(run.folder / "weights/last.ckpt")
    expected = getattr(run.trainer.method, better or "teacher").state_dict()
    assert not differences(dict(network.state_dict()), dict(expected))
    assert metadata["task"] == "seg"
    assert not network.training


def test_nothing_was_evaluated_yet(run: build.Run) -> None:
    run.trainer.save()
    with pytest.raises(WeightsError, match=r"no trained weights at .*has not been evaluated yet"):
        trained.load_network(run.folder)


def test_weights_of_something_else(tmp_path: Path) -> None:
    save_best(tmp_path, {"w": torch.ones(1)}, {"task": "seg"})
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(WeightsError, match="not a checkpoint of semikit"):
        trained.load_network(tmp_path / "foreign.ckpt")
    torch.save({"state_dict": {"w": torch.ones(1)}}, tmp_path / "foreign.pth")
    with pytest.raises(WeightsError, match=r"is no released UniMatch V2 checkpoint"):
        trained.load_network(tmp_path / "foreign.pth")
    save_last(tmp_path, {"step": 1})
    with pytest.raises(WeightsError, match="not a checkpoint of semikit"):
        trained.load_network(tmp_path / "last.ckpt")
