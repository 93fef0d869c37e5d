"""`train.precision: auto`: what it becomes, where it stays so, and what the plan says of the choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from semikit.run import build, facts, recipes, timing
from semikit.run.config import resolve
from semikit.run.recipes import compose, read_yaml
from semikit.training.checkpoint import read_checkpoint
from semikit.training.reporter import Reporter
from semikit.training.settings import TrainSettings
from tests.helpers import photos
from tests.helpers.equality import differences

Call = Callable[..., Any]
Stop = Callable[[int | None], None]


@pytest.fixture
def with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with instructions for products of bf16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Call:
    """`auto` becomes what it becomes on a GPU, until called with False."""
    plain = build.settled_precision

    def settled(precision: str, device: torch.device) -> str:
        return "bf16" if precision == "auto" else plain(precision, device)

    def chosen(there: bool) -> None:
        monkeypatch.setattr(build, "settled_precision", settled if there else plain)

    chosen(True)
    return chosen


def shown(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def checkpoint(folder: Path) -> dict[str, Any]:
    return read_checkpoint(folder / "weights/last.ckpt")


def test_recipes_for_ones_own_data_choose_and_published_ones_do_not() -> None:
    for task in ("seg", "cd", "cls"):
        assert compose(task)["train"]["precision"] == "auto"
        for preset in recipes.recipe_names("presets", task):
            name = preset.partition("-")[0]
            published = name == "usb" or (name in recipes.recipe_names("datasets", task) and name != "shapes")
            expected = "fp32" if published else "auto"
            assert compose(task, preset=preset)["train"]["precision"] == expected, preset
    sets = {
        "seg": "ade20k cityscapes coco pascal",
        "cd": "levir whu",
        "cls": "cifar10 cifar100 imagenet stl10 svhn",
    }
    for task, names in sets.items():
        for name in recipes.recipe_names("datasets", task):
            expected = "fp32" if name in names.split() else "auto"
            assert compose(task, name)["train"]["precision"] == expected, name


def test_a_run_goes_on_alike_on_another_machine(
    train: Call, semikit: Call, tmp_path: Path, stop_at: Stop, on_gpu: Call
) -> None:
    stop_at(1)
    begun = train("--out", tmp_path / "run")
    assert begun.code == 130, begun.err
    assert "auto: precision bf16" in shown(begun.out)
    assert read_yaml(tmp_path / "run/config.yaml")["train"]["precision"] == "bf16"
    stop_at(None)
    on_gpu(False)
    resumed = semikit("train", "seg", "--resume", tmp_path / "run")
    assert resumed.code == 0, resumed.err
    assert "bf16" in resumed.out
    assert read_yaml(tmp_path / "run/config.yaml")["train"]["precision"] == "bf16"
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert (results["precision"], results["compile"], results["attention"]) == ("bf16", "off", [])
    assert train("--out", tmp_path / "whole", "--precision", "bf16").code == 0
    found, expected = checkpoint(tmp_path / "run"), checkpoint(tmp_path / "whole")
    assert not differences(found["method"], expected["method"])
    assert found["config"]["train"]["precision"] == "bf16"


def test_a_published_recipe_names_the_faster_choice(photo_data: Path, with_bf16: None) -> None:
    run = build.build_run(resolve(photos.raw(photo_data)), facts.PLANNED, Reporter())
    assert "precision" not in facts.facts_of(run, 1)
    data = run.config.data.model_copy(update={"published": "pascal"})
    found = facts.facts_of(replace(run, config=replace(run.config, data=data)), 1)
    assert found["precision"] == "fp32, as published; --precision bf16 may be faster on this device"
    chosen = {"precision": "fp32; this processor has"}  # of a data set nobody published a recipe of
    found = facts.facts_of(replace(run, config=replace(run.config, data=data, chosen=chosen)), 1)
    assert "precision" not in found
    assert found["auto: precision"] == chosen["precision"]


def test_a_gpu_is_told_with_all_that_is_chosen_for_it() -> None:
    train = TrainSettings(iterations=1, precision="bf16", compile="reduce-overhead")
    words = facts._computed(train, torch.device("cuda"))
    assert words == "bf16 · compiled (reduce-overhead) · attention flash, memory-efficient, math"
    words = facts._computed(TrainSettings(iterations=1, precision="tf32"), torch.device("cuda"))
    assert words == "tf32 · attention memory-efficient, math"


def test_all_processes_compute_alike(photo_data: Path, monkeypatch: pytest.MonkeyPatch, on_gpu: Call) -> None:
    raw = photos.raw(photo_data, train={"precision": "auto"})
    assert build.settled(resolve(raw), torch.device("cpu")).train.precision == "bf16"
    monkeypatch.setattr(build, "agreed", lambda value: max(value, 1))  # another process has no such device
    assert build.settled(resolve(raw), torch.device("cpu")).train.precision == "fp32"


@pytest.mark.parametrize("known", [True, False])
def test_earlier_runs_stay_in_full_precision(
    train: Call, semikit: Call, tmp_path: Path, stop_at: Stop, on_gpu: Call, known: bool
) -> None:
    stop_at(1)
    assert train("--out", tmp_path / "run", "--precision", "fp32").code == 130
    if not known:
        path = tmp_path / "run/config.yaml"
        path.write_text(path.read_text().replace("  precision: fp32\n", ""))
    stop_at(None)
    resumed = semikit("train", "seg", "--resume", tmp_path / "run")
    assert resumed.code == 0, resumed.err
    assert "fp32" in resumed.out
    assert "bf16" not in resumed.out
    assert "changed" not in json.loads((tmp_path / "run/results.json").read_text())


def test_asking_again_is_a_change(train: Call, semikit: Call, tmp_path: Path, stop_at: Stop, on_gpu: Call) -> None:
    stop_at(1)
    assert train("--out", tmp_path / "run", "--precision", "fp32").code == 130
    stop_at(None)
    answer = semikit("train", "seg", "--resume", tmp_path / "run", "--precision", "auto")
    assert "from iteration 1 on with another train.precision: 'fp32' -> 'bf16'" in shown(answer.out)


def test_what_bf16_gains_is_shown_and_leaves_no_trace(
    train: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_bf16: None
) -> None:
    stateful = ("--method", "freematch", "model.encoder_args.drop_path_rate=0.3")
    plain = train("--out", tmp_path / "plain", *stateful)
    assert plain.code == 0, plain.err
    assert "auto: precision fp32; this processor has instructions for --precision bf16" in shown(plain.out)
    monkeypatch.setattr(timing, "_WORTH", 1)
    monkeypatch.setattr(timing, "_GAIN", 0.0)
    compared = train("--out", tmp_path / "compared", *stateful)
    assert compared.code == 0, compared.err
    assert "auto: precision fp32; --precision bf16 makes a step" in shown(compared.out)
    found, expected = checkpoint(tmp_path / "compared"), checkpoint(tmp_path / "plain")
    for part in ("method", "optimizer", "best", "config", "manifest"):
        assert not differences(found[part], expected[part]), part


def test_long_steps_are_not_compared(
    train: Call, tmp_path: Path, stop_at: Stop, monkeypatch: pytest.MonkeyPatch, with_bf16: None
) -> None:
    monkeypatch.setattr(timing, "_WORTH", 1)
    monkeypatch.setattr(timing, "_LONG", 0.0)
    stop_at(1)
    answer = train("--out", tmp_path / "run")
    assert "too long to try --precision bf16 here (--dry-run --time)" in shown(answer.out)
    monkeypatch.setattr(timing, "_GAIN", 1e9)
    assert "--precision bf16 does not make a step faster here" in shown(train("--dry-run", "--time").out)


def test_nothing_is_compared_without_the_instructions(train: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    answer = train("--dry-run", "--time")
    assert answer.code == 0, answer.err
    assert "auto: precision" not in answer.out


def test_tf32_is_full_precision_on_a_processor(train: Call, tmp_path: Path) -> None:
    answer = train("--precision", "tf32", "--out", tmp_path / "tf32")
    assert answer.code == 0, answer.err
    assert "tf32 (fp32 on this device)" in shown(answer.out)
    assert train("--precision", "fp32", "--out", tmp_path / "fp32").code == 0
    assert not differences(checkpoint(tmp_path / "tf32")["method"], checkpoint(tmp_path / "fp32")["method"])
