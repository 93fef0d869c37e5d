"""`train.growth`: the unlabelled batch grows over the run, and everything that counts images counts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from semikit.core.batch import Unlabeled
from semikit.core.schedules import Growth
from semikit.data.loading.streams import items_at
from semikit.errors import ConfigError
from semikit.run import build
from semikit.run.config import resolve
from semikit.run.facts import facts_of
from semikit.run.results import results_of
from semikit.training.checkpoint import LAST, read_checkpoint
from semikit.training.memory import planned_micro_batches
from semikit.training.reporter import Reporter
from semikit.training.settings import check_micro_batches, schedule_of
from tests.helpers import icons, photos
from tests.helpers.equality import differences
from tests.helpers.processes import Server
from tests.training.test_acting_runs import train

GROWING = {"iterations": 8, "eval_every": 4, "log_every": 2, "ratio": 4, "growth": 0.7}


def test_the_sizes_are_those_of_the_paper() -> None:
    """Fast FixMatch, B-EXP with alpha 0.7: u (1 - q / (0.3 + 0.7 q)), q = 1 - t/T. At t/T = 0, 0.5, 0.8 that is
    0, 1 - 0.5 / 0.65 = 0.2308 and 1 - 0.2 / 0.44 = 0.5455 of u; mean 1 - (1 - 0.3 ln(1/0.3) / 0.7) / 0.7, 0.3085.
    """
    growth = Growth(batch=1, ratio=10_000, alpha=0.7, iterations=1000)
    assert [growth.at(step) for step in (0, 500, 800, 1000, 2000)] == [1, 2308, 5455, 10_000, 10_000]
    assert growth.before(1000) / 1e7 == pytest.approx(0.3085, abs=6e-4)
    assert growth.before(1002) == growth.before(1000) + 20_000
    small = Growth(batch=4, ratio=7, alpha=0.7, iterations=10)
    sizes = [small.at(step) for step in range(10)]
    assert sizes == sorted(sizes)
    assert set(sizes) <= set(range(4, 29, 4))
    assert [small.before(step) for step in range(11)] == [sum(sizes[:step]) for step in range(11)]
    assert [Growth(2, 4, 0.0, 8).at(step) for step in range(8)] == [2, 2, 2, 4, 4, 4, 6, 8]


def growing(photo_data: Path, icon_data: Path, task: str, **more: Any) -> dict[str, Any]:
    made = photos.raw(photo_data) if task == "seg" else icons.raw(icon_data, "fixmatch")
    made["train"] |= {**GROWING, "batch": 2, "group": 2, **more}
    return made


@pytest.mark.parametrize("task", ["seg", "cls"])
def test_a_step_has_its_images_and_no_image_is_left_out(photo_data: Path, icon_data: Path, task: str) -> None:
    run = build.build_run(resolve(growing(photo_data, icon_data, task)), Path("-"), Reporter())
    growth: Any = run.task.layout.growth
    assert growth == Growth(2, 4, 0.7, 8)
    seen: list[int] = []
    for step, raw in enumerate(run.task.batches(range(8), 0, False)):
        labeled, unlabeled = run.task.views(raw, step, torch.device("cpu"))
        assert isinstance(unlabeled, Unlabeled)
        assert (len(labeled.index), len(unlabeled.index)) == (2, growth.at(step))
        assert all(len(view) == growth.at(step) for view in (unlabeled.weak, *unlabeled.strong, *unlabeled.boxes))
        assert unlabeled.positions == range(growth.at(step))
        seen += unlabeled.index.tolist()
    assert seen == items_at(0, "unlabeled", run.task.counts.unlabeled or 0, 0, growth.before(8)).tolist()
    (later,) = run.task.batches(range(5, 6), 0, False)
    _, again = run.task.views(later, 5, torch.device("cpu"))
    assert again is not None
    assert again.index.tolist() == seen[growth.before(5) : growth.before(6)], "a run that goes on has the same images"


def test_it_changes_neither_the_length_nor_the_micro_batches(photo_data: Path, icon_data: Path) -> None:
    raw = growing(photo_data, icon_data, "cls", iterations=None, epochs=3, batch=4, group=4, accumulate=2)
    task = build.build_task(resolve(raw))
    for growth in (None, 0.5):
        train_settings = resolve({**raw, "train": raw["train"] | {"growth": growth}}).train
        assert schedule_of(train_settings, task.counts).iterations == 3
        check_micro_batches(train_settings, 2, ohem=False)
    supervised = resolve({**raw, "method": {"name": "supervised"}})
    assert build.batch_layout_of(supervised).growth is None


def test_what_is_refused(photo_data: Path, icon_data: Path) -> None:
    for change, words in (({"ratio": 1}, "grow from 1 to train.ratio"), ({"compile": "default"}, "keep one")):
        with pytest.raises(ConfigError, match=words):
            resolve(growing(photo_data, icon_data, "seg", **change))


def test_the_plan_says_what_is_saved(photo_data: Path, icon_data: Path) -> None:
    """Sizes 2, 2, 2, 2, 2, 2, 4, 6: 22 of 64 unlabelled images. Compute, a pass that learns three times one that does
    not: (3 · 16 + 4 · 64) / (3 · 16 + 4 · 22) = 2.2 times less.
    """
    run = build.build_run(resolve(growing(photo_data, icon_data, "cls")), Path("-"), Reporter())
    assert [run.task.layout.unlabeled_at(step) for step in range(8)] == [2, 2, 2, 2, 2, 2, 4, 6]
    assert run.trainer.images(8) == 16 + 22
    facts = facts_of(run, 1)
    first = "2 to 8 unlabelled images a step (train.growth 0.7): 66 % fewer over the run, 2.2 times less"
    assert facts["growth"].startswith(first)
    assert "2 + 2 … 8 images" in facts["length"]


@pytest.mark.long
@pytest.mark.parametrize("task", ["seg", "cls"])
def test_a_run_counts_its_images_and_goes_on_alike(
    photo_data: Path, icon_data: Path, tmp_path: Path, task: str
) -> None:
    raw = growing(photo_data, icon_data, task)
    run, _ = train(raw, tmp_path / "whole")
    assert results_of(run)["images_per_second"] == pytest.approx(38 / run.trainer.seconds, abs=0.01)
    train(raw, tmp_path / "parts", stop=5)
    train(raw, tmp_path / "parts", resume=True)
    states = [read_checkpoint(tmp_path / name / "weights" / LAST) for name in ("whole", "parts")]
    for key in ("method", "optimizer", "meter"):
        assert not differences(states[0][key], states[1][key]), key


def test_memory_is_tried_with_the_largest_step(photo_data: Path, icon_data: Path) -> None:
    run = build.build_run(resolve(growing(photo_data, icon_data, "seg")), Path("-"), Reporter())
    layout = run.task.layout
    assert layout.unlabeled_at(layout.largest_step) == max(layout.unlabeled_at(step) for step in range(8)) == 6
    assert layout.unlabeled_at(layout.typical_step) == 4
    planned_micro_batches(run.trainer.method, run.task, lambda parts: run.trainer.stepper, 1, False, run.device)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("task", ["seg", "cls"])
def test_two_processes_and_micro_batches_learn_what_one_does(
    photo_data: Path, icon_data: Path, tmp_path: Path, server: Server, task: str
) -> None:
    vit = ("--encoder", "test_vit", "model.encoder_args={depth: 2, embed_dim: 32, num_heads: 2}", "--weights", "none")
    vit = (*vit, "--workers", "0", "--device", "cpu", "--crop", "32")
    flags, data, labels = {"seg": (photos.FLAGS, photo_data, "4"), "cls": (vit, icon_data, "6")}[task]
    sgd = ("optimizer.name=sgd", "optimizer.lr=0.01", "optimizer.encoder_lr=0.01", "optimizer.warmup=0")
    asked = ["train", task, "--data", data, *flags, "--labels", labels, "--method", "fixmatch", *sgd]
    asked += ["method.threshold=0.4", "method.teacher=ema", "method.forward=separate", "--batch", "4", "train.group=2"]
    asked += ["--iterations", "6", "--eval-every", "6", "train.ratio=3", "train.growth=0.2"]
    for ended in (
        server.run(*asked, "train.accumulate=2", "--out", tmp_path / "one"),
        *server.run_together(2, *asked, "--out", tmp_path / "two"),
    ):
        assert ended.code == 0, ended.out
    one, two = (read_checkpoint(tmp_path / name / "weights" / LAST)["method"] for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=2e-4, atol=2e-5)
