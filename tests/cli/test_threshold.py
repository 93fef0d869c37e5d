"""A threshold of change that is chosen on val: what is scored, kept, shown and predicted with it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import semikit as package
from semikit.cli.app import run
from tests.helpers import pairs

Call = Callable[..., Any]


def results(folder: Path, name: str = "results.json") -> Any:
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def chosen(pair_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a network that hardly learned, with evaluate.threshold=auto."""
    folder = tmp_path_factory.mktemp("runs") / "chosen"
    flags = ["--data", str(pair_data), *pairs.FLAGS, "--labels", "4", "--iterations", "8", "--eval-every", "4"]
    flags += ["--method", "supervised", "optimizer.lr=0.01", "optimizer.encoder_lr=0.001", "evaluate.threshold=auto"]
    assert run(["train", "cd", *flags, "--out", str(folder)]) == 0
    return folder


def test_each_network_has_its_own_and_the_best_is_kept(chosen: Path) -> None:
    found = results(chosen)
    best, threshold = found["best"], found["best"]["threshold"]
    with (chosen / "results.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["iteration"] == str(best["iteration"])]
    assert float(row[f"{best['model']}/threshold"]) == threshold
    assert found["student"]["threshold"] != found["teacher"]["threshold"]
    assert threshold != 0.5, "or nothing is seen of it"
    log = (chosen / "log.txt").read_text()
    assert f"{best['model']} IoU {best['value']:.2f} at threshold {threshold} " in log
    config = (chosen / "config.yaml").read_text()
    assert "threshold: auto" in config


def test_evaluate_scores_with_it(semikit: Call, chosen: Path) -> None:
    found, threshold = results(chosen), results(chosen)["best"]["threshold"]
    for split, expected in (("val", found["best"]["value"]), ("test", found["test"]["IoU"])):
        answer = semikit("evaluate", chosen, "--split", split, "--json", "scores.json")
        assert answer.code == 0, answer.err
        scores = results(Path(), "scores.json")
        assert scores["value"] == pytest.approx(expected)
        assert scores["evaluation"]["threshold"] == threshold
        assert f", threshold {threshold}" in answer.out
    assert scores["object_recall"] == found["test"]["object_recall"]
    half = package.evaluate(chosen, threshold=0.5)
    assert half.value != found["best"]["value"]
    assert half == package.evaluate(chosen, threshold=["0.5"])


def test_the_last_checkpoint_has_one(semikit: Call, chosen: Path) -> None:
    assert semikit("evaluate", chosen / "weights/last.ckpt").code == 0


def test_auto_is_for_any_run_on_val(semikit: Call, chosen: Path) -> None:
    found = results(chosen)
    scores = package.evaluate(chosen, threshold="auto")
    assert (scores.threshold, scores.value) == (found["best"]["threshold"], pytest.approx(found["best"]["value"]))
    assert f"at threshold {scores.threshold} on val" in semikit("evaluate", chosen, "--threshold", "auto").out
    answer = semikit("evaluate", chosen, "--threshold", "auto", "--split", "test")
    assert answer.code == 2
    assert "so not on test. Choose it on val, then give it: --split test --threshold P." in answer.err


def test_predict_takes_it_and_says_so(semikit: Call, chosen: Path, pair_data: Path) -> None:
    threshold = results(chosen)["best"]["threshold"]
    dates = [pair_data.parent / "val" / date / "val0.png" for date in "AB"]
    said = semikit("predict", chosen, *dates, "-o", "own.png").out
    assert f"note: threshold {threshold}, that of the run (evaluate.threshold); --threshold P sets another" in said
    for name, given in (("same", threshold), ("half", 0.5)):
        answer = semikit("predict", chosen, *dates, "-o", f"{name}.png", "--threshold", given)
        assert "that of the run" not in answer.out
    maps = {name: np.asarray(Image.open(f"{name}.png")) for name in ("own", "same", "half")}
    assert np.array_equal(maps["own"], maps["same"])
    assert not np.array_equal(maps["own"], maps["half"])
    assert np.array_equal(package.load(chosen, device="cpu").predict(*dates).classes, maps["own"])


def test_polygons_of_its_probabilities_take_it_too(semikit: Call, chosen: Path, pair_data: Path) -> None:
    threshold = results(chosen)["best"]["threshold"]
    dates = [pair_data.parent / "val" / date / "val0.png" for date in "AB"]
    assert semikit("predict", chosen, *dates, "-o", "own.tif", "--probability").code == 0
    found = {}
    for name, given in (("own", []), ("same", ["--threshold", threshold]), ("half", ["--threshold", "0.5"])):
        answer = semikit("polygons", "own-probability.tif", "-o", "a.geojson", "--map", f"of-{name}.tif", *given)
        assert answer.code == 0, answer.err
        assert (f"note: threshold {threshold}, that of own-probability.tif" in answer.out) == (name == "own")
        found[name] = np.asarray(Image.open(f"of-{name}.tif"))
    assert np.array_equal(found["own"], found["same"])
    assert not np.array_equal(found["own"], found["half"])
    assert semikit("polygons", "own.tif", "-o", "b.geojson").code == 0, "a map of classes has been chosen by it"


def test_objects_are_not_scored_while_it_is_chosen(semikit: Call, chosen: Path) -> None:
    answer = semikit("evaluate", chosen, "--threshold", "auto", "--objects", "changed")
    assert answer.code == 2
    assert "--objects: objects are scored at one threshold" in answer.err


def test_pictures_show_it(chosen: Path, tmp_path: Path) -> None:
    from semikit.run import build
    from semikit.run.load import load_network
    from semikit.run.resume import read_run_config
    from semikit.training.device import choose_device, inference_on

    config = read_run_config(chosen, {})
    network, metadata = load_network(chosen)
    task: Any = build.build_task(config)
    inference = inference_on(choose_device("cpu"), config.train.precision)
    best = metadata["best"]
    at = f"{best['value']:.2f} at threshold {best['threshold']} on val"
    caption = f"{best['model']} of iteration {best['iteration']}, the best so far: IoU {at}"
    same, half = (
        task.pictures(network, tmp_path / str(threshold), inference, caption, threshold)[0].read_bytes()
        for threshold in (best["threshold"], 0.5)
    )
    assert (chosen / "images/validation.png").read_bytes() == same
    assert same != half


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--threshold", "1.5"], "evaluate.threshold 1.5: a probability is from 0 to 1"),
        (["--threshold", "cat=0.5"], "there is no class 'cat'; it has sky, road, car"),
        (
            ["--threshold", "0.4"],
            "evaluate.threshold 0.4: P and auto are thresholds of change. Segmentation takes CLASS=P",
        ),
        (["--threshold", "auto"], "evaluate.threshold auto: P and auto are thresholds of change."),
    ],
)
def test_what_segmentation_does_not_take(semikit: Call, trained: Path, given: list[str], said: str) -> None:
    answer = semikit("evaluate", trained, *given)
    assert answer.code == 2
    assert said in answer.err


def test_a_class_of_segmentation_with_a_threshold(semikit: Call, trained: Path) -> None:
    """At 0 every pixel is of that class, at 1 none."""
    for threshold, recall in (("0", 100.0), ("1", 0.0)):
        answer = semikit("evaluate", trained, "--threshold", f"car={threshold}", "--json", "scores.json")
        assert answer.code == 0, answer.err
        found = results(Path(), "scores.json")
        assert found["class_scores"]["recall"]["car"] == recall
        assert found["evaluation"]["threshold"] == f"car={threshold}"
