"""The published data sets of classification in their original layouts, by the commands a user types."""

from __future__ import annotations

import csv
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from tests.helpers import class_sets

Call = Callable[..., Any]
Written = Callable[..., Path]

NARROW = "{layers: [1, 1, 1, 1], channels: [8, 8, 8, 8], stem_width: 8}"
SMALL = (
    "--encoder", "resnet10t", "--weights", "none", f"model.encoder_args={NARROW}", "--iterations", "2", "--batch", "4",
    "train.ratio=2", "train.group=4", "--device", "cpu", "--workers", "0", "--eval-every", "2", "optimizer.warmup=0",
)  # fmt: skip
BASELINE = {
    "cifar10": ("fixmatch",),
    "cifar100": ("fixmatch",),
    "stl10": ("fixmatch",),
    "svhn": ("fixmatch", "method.alignment=queue"),
    "imagenet": ("simmatch", "views.size=32"),
}
"""The paper's; on SVHN its alignment is on request, as the logs are without it."""
CLASSES = {"cifar10": 10, "cifar100": 100, "stl10": 10, "svhn": 10, "imagenet": 3}
LEARNED = {"cifar10": 60, "cifar100": 600, "stl10": 180, "svhn": 180, "imagenet": 18}
"""Unlabelled images: the labelled ones, of svhn `extra` and of stl10 `unlabeled` too."""


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """Writes a data set below the empty folder; returns its root."""

    def write(name: str) -> Path:
        class_sets.write(name, Path("sets").absolute() / name, monkeypatch, 6, 2)
        return Path("sets").absolute() / name

    return write


def done(answer: Any) -> str:
    assert answer.code == 0, answer.err
    return " ".join(answer.out.replace("│", " ").split())


@pytest.mark.parametrize("name", list(BASELINE))
def test_the_whole_way(semikit: Call, written: Written, name: str) -> None:
    root, classes = written(name), CLASSES[name]
    baseline, *own = BASELINE[name]
    data = ("--dataset", name, "--root", root)
    for method in (baseline, "unimatch_v2"):
        train = ("train", "cls", *data, "--labels", classes, "--method", method, "--protocol", "paper", *SMALL, *own)
        told = done(semikit(*train, "--out", method))
        assert f"{classes} labelled · {LEARNED[name]} unlabelled" in told
        results = json.loads(Path(method, "results.json").read_text())
        assert (results["iterations"], results["metric"], results["protocol"]) == (2, "top-1", "paper")
        assert results["best"]["model"] == "teacher"
        assert results["best"]["split"] == ("val" if name == "imagenet" else "test")
        assert len(results["per_class"]) == classes
        split = "val" if name == "imagenet" else "test"
        done(semikit("evaluate", method, *data, "--split", split, "--json", "scores.json"))
        scores = json.loads(Path("scores.json").read_text())
        assert scores["value"] == pytest.approx(results["best"]["value"])
        assert (scores["images"], scores["protocol"]) == (2 * classes, "paper")
        assert ("top-5" in scores) == (classes > 5)
    class_sets.folders(Path("photos"), ("a", "b"), 32, 2, "new")
    done(semikit("predict", "unimatch_v2", "photos/new", "-o", "predictions.csv"))
    with Path("predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["label"] for row in rows} <= set(results["per_class"])


def test_a_number_of_labels_as_a_list(semikit: Call, written: Written) -> None:
    root = written("svhn")
    told = done(semikit("data", "split", "cls", "--dataset", "svhn", "--root", root, "--labels", "20", "-o", "few.txt"))
    assert "20 labelled images in few.txt" in told
    shown = semikit("train", "cls", "--dataset", "svhn", "--root", root, "--labels", "few.txt", *SMALL, "--dry-run")
    assert "20 labelled · 170 unlabelled" in done(shown), "10 of 180 are held out to choose the best on"


@pytest.mark.parametrize("name", ["cifar10", "stl10"])
def test_fetch(semikit: Call, written: Written, name: str) -> None:
    """Files that are there are not fetched again."""
    root = written(name)
    lines = semikit("data", "fetch", name, "--root", root).out.splitlines()
    more = ", unlabeled 120" if name == "stl10" else ""
    assert lines[-2:] == [
        f"{name} in {root}: train 60, test 20{more} images",
        f"next: semikit train cls --dataset {name} --root {root} --labels 250",
    ]


def test_fetch_asks_for_what_is_missing(semikit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(request: Any, *rest: object, **more: object) -> None:
        asked.append(request.full_url)
        raise URLError("no network here")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    answer = semikit("data", "fetch", "cifar100", "--root", "sets")
    assert answer.code == 2
    assert "could not download CIFAR100 to" in answer.err
    assert set(asked) == {"https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"}


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("fetch", "imagenet", "--root", "sets"), "Make an account at https://image-net.org/download"),
        (("fetch", "svhn", "--splits"), "Leave out --splits: semikit data fetch svhn"),
        (("fetch", "svhn", "--part", "extra"), "Leave out --part: semikit data fetch svhn"),
        (("verify", "cifar10"), "`semikit data fetch cifar10 --root "),
        (("prepare", "cifar100", "--source", "."), "--labels 1000"),
        (("prepare", "imagenet", "--source", "."), "tells how to get it"),
        (("fetch", "cifar11"), "Did you mean 'cifar10' or 'cifar100'?"),
    ],
)
def test_what_cannot_be_done(semikit: Call, command: tuple[str, ...], told: str) -> None:
    answer = semikit("data", *command)
    assert answer.code == 2
    assert told in answer.err
    assert ("nothing has to be prepared or verified" in answer.err) == (command[0] != "fetch")
    assert not list(Path().iterdir())


def test_a_data_set_without_its_files_says_how_to_fetch_it(semikit: Call) -> None:
    root = Path("sets").absolute()
    answer = semikit("train", "cls", "--dataset", "cifar10", "--root", root, "--labels", "40")
    assert answer.code == 2
    assert f"Fetch it with: semikit data fetch cifar10 --root {root} " in answer.err
