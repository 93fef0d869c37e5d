from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semikit.data.check import Part, check_samples
from semikit.data.label_spec import folder_spec
from semikit.data.labeled_images import open_labeled
from semikit.data.samples import DataParts
from semikit.errors import DataError
from tests.helpers import class_sets


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part, each in (("train", 12), ("val", 2)):
        class_sets.folders(tmp_path, ("cat", "dog"), 16, each, part)
    return tmp_path


def looked(root: Path) -> list[Part]:
    parts = open_labeled(folder_spec(root))
    return [
        Part("labelled", parts.train, range(0, len(parts.train), 2)),
        Part("val", parts.val, range(len(parts.val))),
    ]


def test_sound_images(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    (root / "train/cat/0001.png").write_text("broken, and not asked for")
    check_samples(looked(root), 2, lambda done, total: calls.append((done, total)))
    assert calls == [(k, 16) for k in range(1, 17)]


def test_everything_at_once(root: Path) -> None:
    (root / "train/cat/0000.png").write_text("no image")
    (root / "train/cat/0002.png").write_bytes((root / "train/cat/0003.png").read_bytes()[:60])
    Image.fromarray(np.full((16, 16), 3000, np.uint16)).save(root / "val/dog/0001.png")
    Image.new("RGB", (16, 20)).save(root / "train/dog/0004.png")
    with pytest.raises(DataError) as raised:
        check_samples(looked(root), 2, one_size=True)
    told = str(raised.value).splitlines()
    assert told[0] == "3 problems with the data:"
    assert told[1].startswith("- labelled: unreadable or truncated image: ")
    assert "0000.png" in told[1]
    assert "0002.png" in told[1]
    assert told[2].startswith("- val: image of more than 8 bits: ")
    assert told[3] == (
        "- labelled: image of another size than most (16x16, width x height): dog/0004 (16x20). "
        "Bring all to one size, take these out, or crop them all: views.size=224."
    )


def test_one_problem_is_one_sentence(root: Path) -> None:
    (root / "val/dog/0001.png").write_text("no image")
    with pytest.raises(DataError, match=r"^val: unreadable or truncated image: .*0001\.png"):
        check_samples(looked(root), 2, one_size=True)


def test_photographs_of_many_sizes_are_fine(root: Path) -> None:
    for k in range(0, 12, 2):
        Image.new("RGB", (16 + k, 20)).save(root / f"train/dog/{k:04d}.png")
    check_samples(looked(root), 2, one_size=True)


def test_large_photographs_of_two_sizes_are_fine(root: Path) -> None:
    for path in root.rglob("*.png"):
        Image.new("RGB", (100, 80)).save(path)
    Image.new("RGB", (80, 100)).save(root / "train/dog/0004.png")
    check_samples(looked(root), 2, one_size=True)


def test_images_in_memory_are_not_looked_at() -> None:
    from semikit.data.synthetic.class_shapes import ClassShapesSettings, open_shapes

    parts: DataParts = open_shapes(ClassShapesSettings(train=8, val=8, test=8))
    calls: list[tuple[int, int]] = []
    check_samples([Part("labelled", parts.train, range(8))], 2, lambda *told: calls.append(told))
    assert calls == []


def test_images_that_are_cropped_may_have_any_size(root: Path) -> None:
    Image.new("RGB", (16, 20)).save(root / "train/dog/0004.png")
    check_samples(looked(root), 2)
