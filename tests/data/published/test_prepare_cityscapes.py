from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from semikit.data.formats.images import read_mask
from semikit.data.published.masks import train_ids
from semikit.data.published.prepare import PrepareReport
from semikit.data.published.prepared import open_prepared, read_list
from semikit.errors import DataError
from tests.helpers import miniatures

Run = Callable[..., PrepareReport]
Miniature = Callable[[str], Path]

MASK = "gtFine/train/jena/jena_000000_000019_gtFine_labelTrainIds.png"
TRAIN_IDS = {
    **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13},
    **{27: 14, 28: 15, 31: 16, 32: 17, 33: 18},
}
"""As the label table of the data set has them."""


def test_every_label_id() -> None:
    values = np.arange(34, dtype=np.uint8).reshape(2, 17)
    made = train_ids(miniatures.encoded(values, "PNG"), "x").ravel()
    assert made.tolist() == [TRAIN_IDS.get(k, 255) for k in range(34)]


def test_label_ids_are_converted(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("cityscapes", miniature("cityscapes"))
    root = tmp_path / "root"
    assert report.record.counts == {"train": 8, "val": 3, "train_extra": 4}
    assert report.record.masks == "11 converted from labelIds"
    np.testing.assert_array_equal(read_mask(root / MASK), miniatures.void(miniatures.scene(0)[1]))
    assert not list(root.rglob("*_labelIds.png"))
    image, mask = read_list(root, "train_extra")[0]
    assert image == "leftImg8bit/train_extra/augsburg/augsburg_000030_000000_leftImg8bit.png"
    assert mask is None
    assert not open_prepared("cityscapes", root).source("train_extra").has_target(0)


def test_masks_by_train_ids_are_taken_as_they_are(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("cityscapes", miniature("cityscapes-authors"))
    assert report.record.masks == "11 gtFine labelTrainIds as given"
    assert (tmp_path / "root" / MASK).read_bytes() == miniatures.fine("labelTrainIds")[MASK]
    assert "not given: train_extra" in report.lines


def test_in_place_masks_are_made_beside_the_label_ids(
    run: Run, miniature: Miniature, extracted: Callable[[Path, Path], Path], tmp_path: Path
) -> None:
    root = extracted(miniature("cityscapes"), tmp_path / "root")
    image = root / "leftImg8bit/train/jena/jena_000000_000019_leftImg8bit.png"
    before = image.stat()
    report = run("cityscapes", root)
    assert report.record.counts == {"train": 8, "val": 3, "train_extra": 4}
    assert (image.stat().st_ino, image.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(list(root.rglob("*_labelTrainIds.png"))) == len(list(root.rglob("*_labelIds.png"))) == 11


def test_a_part_without_images_waits_for_them(run: Run, tmp_path: Path) -> None:
    masks = miniatures.fine("labelTrainIds")
    images = {name: data for name, data in miniatures.left().items() if "/val/" in name}
    report = run("cityscapes", miniatures.packed(tmp_path / "source", {**masks, **images}))
    assert report.record.counts == {"val": 3}
    assert any("0 of 2975 training images" in notice for notice in report.notices)
    images = {name: data for name, data in miniatures.left().items() if "/train/" in name}
    report = run("cityscapes", miniatures.packed(tmp_path / "later", {**masks, **images}))
    assert report.record.counts == {"train": 8, "val": 3}


def test_images_alone(run: Run, tmp_path: Path) -> None:
    archive = miniatures.packed(tmp_path / "leftImg8bit_trainvaltest.zip", miniatures.left())
    with pytest.raises(DataError, match=r"train: 8 of 8 images have no mask.*gtFine_trainvaltest\.zip"):
        run("cityscapes", archive)


def test_train_ids_under_the_name_of_label_ids(run: Run, tmp_path: Path) -> None:
    swapped = {name.replace("labelTrainIds", "labelIds"): d for name, d in miniatures.fine("labelTrainIds").items()}
    source = miniatures.packed(tmp_path / "source", {**miniatures.left(), **swapped})
    with pytest.raises(DataError, match=r"mask value above 33: .*_labelIds\.png.*largest value 255.*labelTrainIds"):
        run("cityscapes", source)
    with pytest.raises(DataError, match="was begun and not finished"):
        open_prepared("cityscapes", tmp_path / "root")
