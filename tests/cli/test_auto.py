"""`--preset auto` from the command line and from Python: what is shown, what is written, and that it stays so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import semikit
from semikit.run import auto, lifecycle
from semikit.run.config import Chosen
from semikit.run.recipes import read_yaml
from tests.helpers import photos

Call = Callable[..., Any]

SMALL = ("--encoder", "test_vit", "--weights", "none", "--device", "cpu", *photos.FLAGS[-3:])
CHOICES = (
    "auto: preset: small-from-scratch, test_vit: random weights were asked for",
    "auto: rates: optimizer.lr=0.0005: random weights without batch norm bear lower rates",
    "auto: batch: train.batch=2, train.ratio=4: labelled images: 3; a step of 8 would hold the same ones again",
    "auto: crop: views.weak.crop=32: the shorter side of the images is 40 pixels",
)


def shown(text: str) -> str:
    """Without frames and line breaks."""
    return " ".join(text.replace("│", " ").split())


def test_choices_are_shown_logged_and_written(
    semikit: Call, photo_data: Path, tmp_path: Path, stop_at: Callable[[int | None], None]
) -> None:
    command = ("train", "seg", "--data", photo_data, "--preset", "auto", *SMALL, "--labels", "3", "--iterations", "3")
    plan = semikit(*command, "--dry-run")
    assert plan.code == 0, plan.err
    for line in CHOICES:
        assert line.replace(": ", " ", 2).replace("auto ", "auto: ") in shown(plan.out)
    stop_at(2)
    assert semikit(*command, "--out", tmp_path / "run").code == 130
    log = (tmp_path / "run/log.txt").read_text()
    assert all(line in log for line in CHOICES)
    written = read_yaml(tmp_path / "run/config.yaml")
    assert "chosen" not in written
    assert (written["train"]["batch"], written["views"]["weak"]["crop"]) == (2, 32)
    assert (written["optimizer"]["lr"], written["optimizer"]["encoder_lr"]) == (5e-4, None)
    stop_at(None)
    auto.RULES, rules = {}, auto.RULES  # type: ignore[misc]
    try:
        resumed = semikit("train", "seg", "--resume", tmp_path / "run")
        repeated = semikit("train", "seg", "--config", tmp_path / "run/config.yaml", "--dry-run", "--show-config")
    finally:
        auto.RULES = rules  # type: ignore[misc]
    assert resumed.code == 0, resumed.err
    assert "going on at iteration 2" in resumed.out
    assert "auto:" not in resumed.out
    assert read_yaml(tmp_path / "run/config.yaml") == written
    assert "lr: 0.0005" in repeated.out


def test_from_python(photo_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "at_hand", lambda entry: entry.package != "")
    plan = semikit.plan("seg", data=photo_data, preset="auto", labels=4, device="cpu", settings={"train.workers": 0})
    assert plan.config.model.encoder == "efficientnet-lite0"
    words = "small-pretrained, efficientnet-lite0: training is on a CPU, and the weights are on this machine"
    assert plan.facts["auto: preset"] == words
    assert plan.config.chosen["crop"] == plan.facts["auto: crop"]
    assert "auto" in semikit.list_presets("cls")


def test_it_is_listed_and_known(semikit: Call, photo_data: Path) -> None:
    assert any(line.split()[:2] == ["auto", "one"] for line in semikit("list", "presets").out.splitlines())
    assert "auto" in shown(semikit("train", "--help").out.partition("--preset")[2].partition("--iterations")[0])
    answer = semikit("train", "seg", "--data", photo_data, "--preset", "autoo")
    assert "'auto'? Known: auto, foundation, small-from-scratch, small-pretrained, ade20k-" in answer.err
    answer = semikit("train", "cls", "--dataset", "cifar10", "--preset", "auto")
    assert (answer.code, "--dataset cifar10 has a recipe of its own" in answer.err) == (2, True)


def test_a_benchmark_takes_the_preset_of_the_run(semikit: Call, photo_data: Path) -> None:
    small = ("--encoder", "test_vit", *photos.FLAGS[-3:], "--device", "cpu", "--workers", "0")
    answer = semikit("benchmark", "seg", "--data", photo_data, "--labels", "4", "--preset", "auto", *small, "--loader")
    assert answer.code == 0, answer.err
    assert "loader" in answer.out


def test_all_processes_take_the_choices_of_the_first(
    photo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One machine may have weights that another has not."""
    first = {**photos.raw(photo_data), "chosen": Chosen(preset="of the first")}
    own = {**first, "train": {**first["train"], "batch": 4}}
    monkeypatch.setattr(lifecycle, "on_first", lambda action: first if action() is own else action())
    trained = []
    monkeypatch.setattr(lifecycle, "start_run", lambda raw, *rest: trained.append(raw) or {})
    lifecycle.begin(own, tmp_path / "run", None, replace)  # type: ignore[arg-type]
    assert trained == [first]
