from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers import label_files as lf
from tests.helpers import photos

Call = Callable[..., Any]


def coco_labels(folder: Path) -> Path:
    """Four photos, two of them labelled for training, one for validation."""
    outline = {"image_id": 1, "category_id": 10, "segmentation": [[2, 2, 20, 2, 20, 20, 2, 20]]}
    for k, name in enumerate("abcd"):
        lf.photo(folder / f"photos/{name}.jpg", 32, 40, seed=k)
    both = [outline, {**outline, "image_id": 2}]
    lf.coco(folder / "labels/train.json", [("a.jpg", 32, 40), ("b.jpg", 32, 40)], both, ["car"])
    lf.coco(folder / "labels/val.json", [("c.jpg", 32, 40)], [outline], ["car"])
    return folder / "labels"


def test_labels_are_converted_and_what_is_written_can_be_trained_on(semikit: Call, tmp_path: Path) -> None:
    source = coco_labels(tmp_path)
    arguments = ("data", "convert", source, "--to", "masks", "--images", tmp_path / "photos", "-o", "out")
    answer = semikit(*arguments)
    assert answer.code == 0, answer.err
    assert "3 masks written; 2 classes: background, car" in answer.out
    assert "next: semikit train seg --data out/data.yaml" in answer.out
    answer = semikit("train", "seg", "--data", "out/data.yaml", *photos.FLAGS, "--iterations", "1", "--dry-run")
    assert answer.code == 0, answer.err
    assert "background 2, car 2" in answer.out
    answer = semikit(*arguments)
    assert "0 masks written, 3 were there" in answer.out


def test_what_labels_are_converted_to_is_said(semikit: Call, tmp_path: Path) -> None:
    answer = semikit("data", "convert", tmp_path, "--to", "coco", "-o", "out")
    assert answer.code == 2
    assert "converted to masks" in answer.err
