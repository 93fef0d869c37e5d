"""Supplied files that are not used are named by every command that reads data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import icons, pairs, photos

Call = Callable[..., Any]
NOTE = "train.masks: 1 not used, masks whose image's name differs in upper and lower case: "
FINE, NOT_ALL = "The data are fine.", "What is used of the data is fine; see the notes for the files that are not used."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Photographs, one mask of which is written in capitals."""
    yaml = photos.write(tmp_path / "data")
    masks = tmp_path / "data/train/masks"
    (masks / "train5.png").rename(masks / "Train5.png")
    return yaml


def test_by_train_and_evaluate(semikit: Call, train: Call, data: Path) -> None:
    answer = train("--out", "run", data=data)
    assert answer.code == 0, answer.err
    assert NOTE in answer.out
    assert NOTE in Path("run/log.txt").read_text()
    (unused,) = json.loads(Path("run/results.json").read_text())["unused_files"]
    assert unused.startswith(NOTE)
    answer = semikit("evaluate", "run", "--json", "scores.json")
    assert f"note: {NOTE}" in answer.out
    assert json.loads(Path("scores.json").read_text())["unused_files"] == [unused]


@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
def test_by_a_dry_run(semikit: Call, tmp_path: Path, task: str, data: Path) -> None:
    helper: Any = {"seg": photos, "cd": pairs, "cls": icons}[task]
    given = data if task == "seg" else helper.write(tmp_path / task)
    small = ["views.size=null"] if task == "cls" else []
    flags = ["--data", given, *helper.FLAGS, *small, "--labels", "6" if task == "cls" else "4", "--iterations", "2"]
    place = {"seg": "train/masks", "cd": "train/label", "cls": "train/red"}[task]
    if task != "seg":
        answer = semikit("train", task, *flags, "--dry-run")
        assert answer.code == 0, answer.err
        assert FINE in answer.out
        (given.parent / place / "x.psd").write_bytes(b"")
    answer = semikit("train", task, *flags, "--dry-run")
    assert answer.code == 0, answer.err
    assert f"note: {NOTE if task == 'seg' else 'train'}" in answer.out
    assert ("x.psd" in answer.out) == (task != "seg")
    assert NOT_ALL in " ".join(answer.out.replace("│", " ").split())
    assert FINE not in answer.out


def test_by_a_check_of_the_data(semikit: Call, data: Path) -> None:
    answer = semikit("data", "check", data)
    assert answer.code == 0, answer.err
    assert f"note: {NOTE}" in answer.out
    assert f"{NOT_ALL} next: " in answer.out


def test_of_a_folder(semikit: Call, tmp_path: Path) -> None:
    folder = icons.write(tmp_path / "cls").parent
    (folder / "val").rename(folder / "holdout")
    flags = ["--data", folder, *icons.FLAGS, "views.size=null", "--labels", "6", "--iterations", "2"]
    answer = semikit("train", "cls", *flags, "--dry-run")
    assert answer.code == 0, answer.err
    assert f"1 not used, folders of images that are no part: {folder}/holdout. Parts are called" in answer.out


def test_of_more_images(semikit: Call, tmp_path: Path, data: Path) -> None:
    more = tmp_path / "more"
    photos.save(more / "a.png", np.zeros((40, 48, 3)))
    shutil.copy(more / "a.png", more / "b.PSD")
    flags = ["--data", data, *photos.FLAGS, "--labels", "4", "--iterations", "2", "--unlabeled", more]
    answer = semikit("train", "seg", *flags, "--dry-run")
    assert "note: unlabeled[0].images: 1 not used, of a type that is not read (.psd): " in answer.out
