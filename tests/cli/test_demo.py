from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rasterio
from PIL import Image

from semikit.training.step import Stepper

Call = Callable[..., Any]

SMALL = (
    *("seg", "data.shapes={size: 32, train: 6, val: 2, test: 2}", "views.weak.crop=32", "train.batch=2"),
    *("train.group=2", "model.encoder_args={channels: [8, 8, 8, 8], stem_width: 8}", "model.decoder_channels=8"),
    *("--iterations", "2", "--device", "cpu"),
)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_step(*args: object) -> None:
        raise AssertionError("nothing may be trained before the refusal")

    monkeypatch.setattr(Stepper, "__call__", no_step)


def test_both_sides_are_trained_and_compared(semikit: Call) -> None:
    answer = semikit("demo", *SMALL, "--labels", "2", "--quiet", "--out", "out[/b]")
    assert answer.code == 0, answer.err
    folder = Path("out[/b]")
    values = []
    for side, method in (("labelled-only", "supervised"), ("semi-supervised", "unimatch_v2")):
        results = json.loads((folder / "seed-0" / side / "results.json").read_text())
        assert (results["method"], results["iterations"]) == (method, 2)
        values.append(results["test"]["mIoU"])
        assert any(line.split()[:2] == [side, f"{values[-1]:.1f}"] for line in answer.out.splitlines())
    labeled = [path.read_text() for path in folder.rglob("labeled.txt")]
    assert len(labeled) == 2
    assert len(set(labeled)) == 1
    assert f"difference: {values[1] - values[0]:+.1f} points" in answer.out
    assert "picture:     out[/b]/comparison.png" in answer.out
    assert "next:        semikit train seg --data YOUR.yaml" in answer.out
    with Image.open(folder / "comparison.png") as image:
        image.load()


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--labels", "6"], "learns from unlabelled images, but there are none: all 6 images are labelled"),
        (["--labels", "7"], "labels '7' asks for 7 images, but only 6"),
        (["train.batc=2"], "unknown key 'batc'. Did you mean 'batch'"),
        (["method.name=fixmatch"], "the demo chooses methods and seeds itself; leave out method.name=fixmatch."),
        (["train.seed=4"], "leave out train.seed=4."),
        (["--seeds", "1,1"], "--seeds takes different whole numbers"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(semikit: Call, arguments: list[str], told: str) -> None:
    answer = semikit("demo", *SMALL, *arguments)
    assert answer.code == 2
    assert told in answer.err
    assert not list(Path().iterdir())


@pytest.mark.usefixtures("no_training")
def test_no_empty_folders_are_left(semikit: Call) -> None:
    answer = semikit("demo", *SMALL, "--labels", "2", "model.encoder_args={no_such: 1}", "--out", "out")
    assert answer.code == 2
    assert not list(Path().iterdir())


def test_change_detection(semikit: Call) -> None:
    small = ("data.scenes={size: 32, train: 6, val: 2, test: 2}", *SMALL[2:])
    answer = semikit("demo", "cd", *small, "--labels", "2", "--quiet", "--out", "out")
    assert answer.code == 0, answer.err
    assert "IoU on the test images" in answer.out
    with Image.open("out/comparison.png") as image:
        assert image.width > image.height
    line = next(line for line in answer.out.splitlines() if line.startswith("try:"))
    assert line.split()[1:3] == ["semikit", "predict"]
    tried = semikit(*line.split()[2:])
    assert tried.code == 0, tried.err
    with rasterio.open("out/change.tif") as made, rasterio.open("out/sample/before.tif") as before:
        assert (made.crs.to_epsg(), made.transform, made.shape) == (32633, before.transform, before.shape)
    assert semikit("demo", "cd", "data.scenes.seed=3").code == 2
