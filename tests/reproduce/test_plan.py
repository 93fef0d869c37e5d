from __future__ import annotations

import shlex
from copy import deepcopy
from functools import lru_cache
from typing import Any

import pytest

from semikit.cli import console
from semikit.cli.app import run
from semikit.errors import InputError
from semikit.registry import TASKS
from semikit.reproduce.cells import Cell, cells, command
from semikit.reproduce.plan import changed_settings, composed, facts, plan_cell
from semikit.run import lifecycle, recipes
from semikit.run.config import resolve

ENCODERS = {"cifar10": "wrn-28-2", "svhn": "wrn-28-2", "stl10": "wrn-stl", "imagenet": "resnet50"}
"""Of the recipes, where the tables name none."""
TRAINABLE = list({command(cell): cell for cell in cells() if cell.waits is None}.values())


def one(identity: str) -> Cell:
    (cell,) = cells(identity)
    return cell


@pytest.mark.parametrize(
    ("identity", "iterations"),
    [
        ("table1/unimatch-v2-dinov2-small/92", 39_300),
        ("table2/unimatch-v2-dinov2-small/1_16", 62_820),
        ("table3/unimatch-v2-dinov2-small/1_64", 149_220),
        ("table4/unimatch-v2-dinov2-small/1_512", 147_560),
        ("table1/labeled-only-dinov2-base/92", 93 * 60),  # 3000 images, 4 processes of 8
        ("table2/labeled-only-dinov2-base/all", 187 * 360),
        ("table3/labeled-only-dinov2-base/all", 1263 * 120),
        ("table1/labeled-only-resnet101/92", 11 * 80),  # 92 images, 4 processes of 2
        ("table1/unimatch-v1-resnet101/92", 1311 * 80),
        ("table11/fixmatch-doubled/pascal-92", 328 * 120),  # 10490 images, 8 processes of 4
        ("table13/coco-whole/ade20k-all", 15106 * 30),  # 118287 + 123403 images, 8 processes of 2
        ("table13/cityscapes-extra/cityscapes-all", 2500 * 40),
        ("table14/unimatch-v2-dinov2-small/levir-5%", 50_700),
        ("table14/unimatch-v2-dinov2-base/whu-20%", 35_640),
        ("table14/labeled-only-dinov2-base/whu-40%", 187 * 60),  # 3000 pairs, one process of 16
        ("table14/unimatch-v1-deeplab-resnet50/levir-10%", 801 * 80),
        ("table15/unimatch-v2/250-seed0", 2**20),
        ("table18/simmatch/10%", 4003 * 400),  # 1281167 images, 8 processes of 40
        ("table18/comatch/10%", 1801 * 400),  # 1281167 - 128000 images, 8 processes of 80
    ],
)
def test_iterations(identity: str, iterations: int) -> None:
    assert plan_cell(one(identity)).schedule.iterations == iterations


def test_every_cell_has_a_plan() -> None:
    assert len(TRAINABLE) > 300
    for cell in TRAINABLE:
        plan = plan_cell(cell)
        assert plan.config.model.encoder == (cell.encoder or ENCODERS[cell.dataset])
        assert plan.config.method_name == cell.method
        assert plan.config.data.published.name == cell.dataset  # type: ignore[attr-defined]
        assert plan.config.train.select == cell.reports
        small = cell.task == "cls" and cell.dataset != "imagenet"
        epochs = cell.dataset == "cifar10" and cell.method != "unimatch_v2"
        assert plan.schedule.eval_every == ((5000, 1024)[epochs] if small else plan.schedule.per_epoch)
        assert (plan.counts.unlabeled > 0) >= plan.learns_unlabeled


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.long)])
def test_every_command_trains_its_cell(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real command line: what it would train is the cell's configuration."""
    read, seen = lru_cache(recipes.read_yaml), []
    monkeypatch.setattr(recipes, "read_yaml", lambda path: deepcopy(read(path)))
    monkeypatch.setattr(lifecycle, "plan", lambda raw, processes, time: seen.append(raw))
    monkeypatch.setattr(console, "print_plan", lambda plan, console, show_config: None)
    for cell in TRAINABLE[::every]:
        words = shlex.split(command(cell))
        assert words[:2] == ["semikit", "train"]
        assert run([*words[1:], "--dry-run"]) == 0, command(cell)
        assert resolve(seen.pop()) == resolve(composed(cell)), command(cell)


def test_the_plan_in_words() -> None:
    told = facts(plan_cell(one("table2/unimatch-v2-dinov2-base/1_16")))
    assert told["published"] == "mIoU 83.6 (teacher)"
    assert told["images"] == "cityscapes: 186 labelled, 2789 unlabelled, 500 for validation"
    assert told["network"] == "dinov2-base + dpt"
    assert told["crop"] == "798"
    assert told["batch"].startswith("8 labelled + 8 unlabelled, in 4 groups of 2")
    assert told["length"] == "180 epochs of 349 iterations: 62820 iterations"
    assert told["evaluation"] == "windows of 798 slide; every 349 iterations"
    assert told["method"] == "unimatch_v2 · ohem=(threshold 0.7, min_kept 200000)"
    assert told["command"] == command(one("table2/unimatch-v2-dinov2-base/1_16"))
    assert "log" not in told
    alone = facts(plan_cell(one("table1/labeled-only-dinov2-small/183")))
    assert alone["batch"].startswith("32 labelled, in 4 groups of 8")
    assert "none unlabelled" in alone["images"]
    assert "frozen" in facts(plan_cell(one("table7/frozen-dinov2-base/pascal-92")))["network"]
    assert facts(plan_cell(one("table1/unimatch-v2-dinov2-base/92")))["log"] == "teacher 86.29, student 86.41"


def test_change_detection_is_chosen_on_the_test_tiles_as_published() -> None:
    found = cells("table14")
    assert len(found) == 36
    for cell in found:
        plan = plan_cell(cell)
        assert plan.config.task == "cd"
        assert (plan.config.train.protocol, plan.config.train.select, plan.config.train.group) in {
            ("paper", "student", 8),
            ("paper", "student", 16),
        }
        assert plan.counts.test == {"levir": 2048, "whu": 744}[cell.dataset]
    told = facts(plan_cell(one("table14/unimatch-v2-dinov2-small/levir-5%")))
    assert told["published"] == "IoU 82.1, OA 99.01 (student)"
    assert told["images"] == "levir: 356 labelled, 6764 unlabelled, 1024 for validation, 2048 of the test"
    assert told["batch"].startswith("8 labelled + 8 unlabelled, in 1 group of 8")
    assert told["evaluation"].endswith(
        "every 845 iterations on the test images, where the best is chosen too (protocol paper)"
    )
    assert "--labels official:5% " in told["command"]
    assert " --protocol paper " in told["command"]
    views = plan_cell(one("table14/unimatch-v1-pspnet-resnet50/whu-20%")).config.views
    assert views.weak.scale == (0.8, 1.2)  # type: ignore[attr-defined]
    assert views.strong.grayscale_probability == 0  # type: ignore[attr-defined]


def test_classification_in_words() -> None:
    told = facts(plan_cell(one("table16/unimatch-v2/250-seed1")))
    assert told["published"] == "top-1 92.91 (teacher)"
    assert told["images"] == "stl10: 250 labelled, 105000 unlabelled (these among them), 8000 of the test"
    assert told["network"] == "wrn-stl"
    assert told["batch"].startswith("64 labelled + 448 unlabelled, in 1 group of 64")
    assert told["length"] == "1048576 iterations"
    assert told["evaluation"] == (
        "each image once; every 5000 iterations on the test images, where the best is chosen too (protocol paper)"
    )
    line = "semikit train cls --dataset stl10 --labels 250 --method unimatch_v2 --seed 1 --protocol paper"
    assert told["command"] == line
    assert "crop" not in told
    svhn = facts(plan_cell(one("table17/fixmatch/40-seed0")))
    assert svhn["images"] == "svhn: 40 labelled, 604388 unlabelled (these among them), 26032 of the test"
    assert svhn["note"].startswith("without distribution alignment")
    assert facts(plan_cell(one("table17/unimatch-v2/40-seed0")))["log"] == "teacher 98.23"
    told = facts(plan_cell(one("table18/simmatch/10%")))
    assert told["images"] == ("imagenet: 128000 labelled, 1281167 unlabelled (these among them), 50000 for validation")
    assert told["crop"] == "224"
    assert told["batch"].startswith("64 labelled + 320 unlabelled, in 8 groups of 8")
    assert told["length"] == "400 epochs of 4003 iterations: 1601200 iterations"
    assert told["evaluation"] == "each image once; every 4003 iterations"


@pytest.mark.parametrize(("table", "count"), [("15", 15), ("16", 12), ("17", 24)])
def test_the_recipe_of_small_images(table: str, count: int) -> None:
    found = cells(table)
    assert len(found) == count
    for cell in found:
        config = plan_cell(cell).config
        optimizer, train, method = config.optimizer, config.train, config.method
        assert (optimizer.name, optimizer.lr, optimizer.nesterov, optimizer.momentum) == ("sgd", 0.03, True, 0.9)
        assert (optimizer.weight_decay, optimizer.decay_norms) == (5e-4, False)
        assert (optimizer.schedule, optimizer.cycles, optimizer.warmup) == ("cosine", 7 / 16, 0)
        assert (train.batch, train.ratio, train.protocol, train.select) == (64, 7, "paper", "teacher")
        values = method.model_dump()
        assert (values["teacher"], values["forward"], values["loss"]) == ("student", "joint", "paper")
        assert (values["ema_decay"], values["ema_ramp"], values["threshold"]) == (0.999, False, 0.95)
        soft, kind = values["soft_labels"], None if values["alignment"] is None else values["alignment"]["kind"]
        like_simmatch = cell.dataset == "cifar10" and cell.method in ("simmatch", "shrinkmatch")
        assert (soft, train.eval_every) == ((1, 1024) if like_simmatch else (None, 5000))
        assert config.views.strong.kind == ("fixmatch" if like_simmatch else "usb")  # type: ignore[attr-defined]
        ema = cell.method == "shrinkmatch" and cell.dataset == "stl10"
        assert kind == (None if cell.dataset == "svhn" or cell.method == "flexmatch" else "ema" if ema else "queue")


def test_the_recipe_of_imagenet() -> None:
    simmatch, unimatch = (plan_cell(one(f"table18/{row}/10%")).config for row in ("simmatch", "unimatch-v2"))
    for config in (simmatch, unimatch):
        optimizer, values = config.optimizer, config.method.model_dump()
        assert (optimizer.lr, optimizer.nesterov, optimizer.weight_decay, optimizer.decay_norms) == (
            0.03,
            True,
            1e-4,
            True,
        )
        assert (optimizer.schedule, optimizer.warmup) == ("half-cosine", 5 * 4003)
        assert (values["teacher"], values["ema_decay"], values["weight"], values["threshold"]) == (
            "ema",
            0.999,
            10,
            0.7,
        )
        assert (values["alignment"]["kind"], values["alignment"]["length"]) == ("queue", 256)
        assert (values["soft_labels"], values["loss"]) == (1, "paper")
    values = simmatch.method.model_dump()
    assert (values["instance_weight"], values["instance_temperature"], values["smoothing"]) == (5, 0.1, 0.9)
    assert values["width"] == 128


def test_the_recipe_of_comatch_on_imagenet() -> None:
    plan = plan_cell(one("table18/comatch/10%"))
    told, optimizer, train = facts(plan), plan.config.optimizer, plan.config.train
    assert told["images"] == "imagenet: 128000 labelled, 1153167 unlabelled, 50000 for validation"
    assert told["batch"].startswith("160 labelled + 640 unlabelled, in 8 groups of 20")
    assert told["evaluation"] == "each image once; every 1801 iterations"
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.nesterov) == ("sgd", 0.1, 0.9, True)
    assert (optimizer.weight_decay, optimizer.decay_norms, optimizer.encoder_lr) == (1e-4, True, None)
    assert (optimizer.schedule, optimizer.warmup, train.select) == ("half-cosine", 0, "student")
    values, views = plan.config.method.model_dump(), plan.config.views.model_dump()
    assert (values["smoothing"], values["soft_labels"], values["loss"], values["ema_ramp"]) == (0.9, 1, "paper", False)
    assert (values["alignment"]["kind"], values["alignment"]["target"]) == ("queue", "uniform")
    assert (views["crop"]["area"], views["weak"]["flip"], views["strong"]["kind"]) == ((0.2, 1.0), 0.5, "jitter")
    assert [views["strong"][key] for key in ("brightness", "contrast", "saturation", "hue")] == [0.4, 0.4, 0.4, 0.1]
    assert [views["strong"][f"{key}_probability"] for key in ("jitter", "grayscale", "blur")] == [0.8, 0.2, 0]


@pytest.mark.parametrize(
    ("identity", "settings"),
    [
        (
            "table18/comatch/10%",
            {
                "teacher=ema",
                "ema_decay=0.996",
                "weight=10.0",
                "threshold=0.5",
                "alignment.length=128",
                "bank=30000",
                "width=128",
                "instance_temperature=0.1",
                "graph_threshold=0.2",
                "contrast_weight=2.0",
            },
        ),
        ("table6/figure-4a/pascal-92", {"streams=1", "dropout.kind=independent"}),
        ("table6/figure-4b/pascal-92", {"dropout.kind=none"}),
        ("table6/figure-4c/pascal-92", {"dropout.kind=independent"}),
        ("table6/unimatch-v2/pascal-92", set()),
        ("table12/decoder-classifier/pascal-92", {"dropout.position=decoder"}),
        ("table10/student/pascal-92", {"teacher=student"}),
        ("table14/unimatch-v2-dinov2-base/whu-20%", {"teacher=student"}),
        ("table5/unimatch-v1/pascal-92", {"teacher=ema"}),
        ("figure5/threshold-0.98/pascal-183", {"threshold=0.98"}),
        ("figure6/weight-4/pascal-183", {"weight=4.0"}),
        (
            "table18/simmatch/10%",
            {"teacher=ema", "weight=10.0", "instance_weight=5.0", "threshold=0.7", "alignment.length=256"},
        ),
    ],
)
def test_what_a_row_changes_of_its_method(identity: str, settings: set[str]) -> None:
    assert set(changed_settings(plan_cell(one(identity)).config)) == settings


def test_hard_examples_count_on_cityscapes_only() -> None:
    hard = {cell.dataset: resolve(composed(cell)).method for cell in cells(method="supervised") if cell.waits is None}
    values: dict[str, Any] = {name: method.ohem for name, method in hard.items()}  # type: ignore[attr-defined]
    assert [name for name, ohem in values.items() if ohem is not None] == ["cityscapes"]


def test_a_cell_that_waits_has_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = one("table18/unimatch-v2/10%")
    monkeypatch.setattr(type(TASKS), "names", lambda self: ["seg"])
    with pytest.raises(InputError, match=r"waits for the cls adapter.*top-1 74.3, top-5 91.7"):
        plan_cell(cell)
