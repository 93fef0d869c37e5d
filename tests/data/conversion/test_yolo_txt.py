from pathlib import Path

import numpy as np
import pytest

from semikit.data.conversion.convert import convert
from semikit.data.conversion.label_formats import Reading
from semikit.errors import DataError
from tests.helpers import label_files as lf


def line(number: int, corners: list[tuple[float, float]]) -> str:
    return " ".join([str(number), *(f"{x / 16} {y / 12}" for x, y in corners)])


def square(number: int, x: float, y: float, side: float) -> str:
    return line(number, [(x, y), (x + side, y), (x + side, y + side), (x, y + side)])


def test_outlines_become_the_mask_drawn_by_hand_and_bad_lines_are_named(tmp_path: Path) -> None:
    for part, name in (("train", "a"), ("train", "b"), ("val", "c")):
        lf.photo(tmp_path / f"images/{part}/{name}.jpg")
        (tmp_path / f"labels/{part}").mkdir(parents=True, exist_ok=True)
    lines = [
        square(1, 2, 2, 4),
        square(0, 1, 1, 8),
        "0 0.1 0.2 x 0.4 0.5 0.6",  # no number
        "",
        "7 0.1 0.1 0.2 0.1 0.2 0.2",  # no such class
        "0 0.1 0.1 0.2 0.1 0.2",  # half a corner
        "0 10 10 20 10 20 20",  # pixels
        "1 0.9375 0.5 0.125 1.0",  # a box
    ]
    (tmp_path / "labels/train/a.txt").write_text("\n".join(lines))
    (tmp_path / "labels/val/c.txt").write_text("")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: {0: field, 1: house}\n")

    done = convert(Reading(tmp_path / "data.yaml"), tmp_path / "out")

    wanted = np.zeros((12, 16), np.uint8)
    wanted[:, 14:] = 255
    wanted[1:9, 1:9] = 1
    wanted[2:6, 2:6] = 2
    np.testing.assert_array_equal(lf.mask_of(tmp_path / "out/masks/train/a.png"), wanted)
    assert not lf.mask_of(tmp_path / "out/masks/val/c.png").any()
    assert not (tmp_path / "out/masks/train/b.png").exists()  # no label file: unlabelled
    assert done.classes == ("background", "field", "house")
    bad, boxes, empty = done.notices
    assert bad.startswith("4 lines cannot be read and are left out: ")
    assert "a.txt, line 3 (not all are numbers)" in bad
    assert "a.txt, line 5 (class 7, of 2)" in bad
    assert "line 6 (5 numbers after the class" in bad
    assert "1 more" in bad
    assert "1 lines are boxes without an outline" in boxes
    assert "1 images have no shapes" in empty


def test_a_folder_without_yaml_takes_names_from_classes_txt(tmp_path: Path) -> None:
    lf.photo(tmp_path / "set/images/a.png")
    (tmp_path / "set/labels").mkdir()
    (tmp_path / "set/labels/a.txt").write_text(square(1, 0, 0, 2))
    (tmp_path / "set/classes.txt").write_text("field\nhouse\n")
    done = convert(Reading(tmp_path / "set"), tmp_path / "out")
    assert done.classes == ("background", "field", "house")
    assert (lf.mask_of(tmp_path / "out/masks/a.png") == 2).sum() == 4


def test_boxes_alone_are_refused(tmp_path: Path) -> None:
    lf.photo(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError, match="all lines are boxes"):
        convert(Reading(tmp_path), tmp_path / "out")


def test_a_missing_folder_of_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [a, b]\n")
    with pytest.raises(DataError, match="no folder of images"):
        convert(Reading(tmp_path / "data.yaml"), tmp_path / "out")
