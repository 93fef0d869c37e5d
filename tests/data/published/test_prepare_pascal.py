from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from semikit.data.formats.images import read_mask
from semikit.data.published.prepare import PrepareReport
from semikit.data.published.prepared import open_prepared, read_list
from semikit.errors import ConfigError, DataError
from tests.helpers import miniatures

Run = Callable[..., PrepareReport]
Miniature = Callable[[str], Path]


def classes(k: int) -> np.ndarray:
    return miniatures.void(miniatures.scene(k)[1])


def test_voc_with_augmented_masks(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("pascal", miniature("pascal"))
    root = tmp_path / "root"
    assert report.record.counts == {"train": 8, "val": 3}
    assert report.record.masks == "11 of SegmentationClassAug"
    assert "a part: 8 of 10582 training images; official lists will be refused" in report.notices
    assert read_list(root, "val")[0] == ("JPEGImages/2007_000008.jpg", "SegmentationClass/2007_000008.png")
    for k in range(11):
        mask = read_mask(root / f"SegmentationClass/{miniatures.stem(k)}.png")
        np.testing.assert_array_equal(mask, classes(k))
    source = open_prepared("pascal", root).source("train")
    assert source.names[0] == "JPEGImages/2007_000000"
    assert source.image(0)[0].shape == (48, 64, 3)


def test_images_without_a_mask_are_not_laid_out(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    run("pascal", miniature("pascal"))
    assert len(list((tmp_path / "root/JPEGImages").iterdir())) == 11


def test_sbd_fills_what_voc_has_no_mask_of(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("pascal", miniature("pascal-sbd"))
    assert report.record.counts == {"train": 8, "val": 3}
    assert report.record.masks == "6 of SBD, converted; 5 of SegmentationClass"
    masks = tmp_path / "root/SegmentationClass"
    fine = miniatures.voc((0,))[f"VOCdevkit/VOC2012/SegmentationClass/{miniatures.stem(0)}.png"]
    assert (masks / "2007_000000.png").read_bytes() == fine
    np.testing.assert_array_equal(read_mask(masks / "2007_000005.png"), np.roll(miniatures.scene(5)[1], 1, 0))
    np.testing.assert_array_equal(read_mask(masks / "2007_000008.png"), classes(8))


def test_sbd_is_never_taken_for_validation(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    miniatures.packed(source / "VOCtrainval.tar", miniatures.voc((0, 1)))
    miniatures.packed(source / "benchmark.tgz", miniatures.boundaries())
    with pytest.raises(DataError, match=r"val: 3 of 3 images have no mask \(JPEGImages/2007_000008\.jpg, .*void"):
        run("pascal", source)
    assert not (tmp_path / "root").exists()


def test_voc_alone_is_a_part(run: Run, tmp_path: Path) -> None:
    archive = miniatures.packed(tmp_path / "VOCtrainval_11-May-2012.tar", miniatures.voc((0, 1, 8, 9, 10)))
    report = run("pascal", archive)
    assert report.record.counts == {"train": 2, "val": 3}
    assert any("only VOC's own masks" in notice for notice in report.notices)


def test_the_authors_masks(run: Run, miniature: Miniature) -> None:
    report = run("pascal", miniature("pascal-authors"))
    assert report.record.counts == {"train": 8, "val": 3}
    assert report.record.masks == "11 of SegmentationClass"
    assert not any("VOC's own masks" in notice for notice in report.notices)


def test_another_year_is_left_out(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    year = {name.replace("VOC2012", "VOC2007"): data for name, data in miniatures.voc((0, 1, 2)).items()}
    other = {name.replace("2007_", "00"): b"1\n" if name.endswith("txt") else data for name, data in year.items()}
    miniatures.packed(source / "A.tar", other)
    miniatures.packed(source / "B.tar", miniatures.voc((0, 1, 8, 9, 10)))
    assert run("pascal", source).record.counts == {"train": 2, "val": 3}


def test_without_a_list_of_the_validation_images(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    files = {name: data for name, data in miniatures.voc().items() if "ImageSets" not in name}
    miniatures.packed(source, files)
    with pytest.raises(DataError, match=r"ImageSets/Segmentation/val\.txt.*--splits"):
        run("pascal", source)
    lines = "".join(f"JPEGImages/{s}.jpg SegmentationClass/{s}.png\r\n" for s in map(miniatures.stem, (8, 9)))
    miniatures.packed(source, {"splits/pascal/val.txt": lines.encode(), "splits/pascal/92/labeled.txt": b"x y\n"})
    assert run("pascal", source).record.counts == {"train": 9, "val": 2}
    assert (tmp_path / "root/splits/92/labeled.txt").read_bytes() == b"x y\n"


def test_masks_without_image_are_named_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    files = miniatures.voc()
    for k in (1, 2, 3, 4):
        del files[f"VOCdevkit/VOC2012/JPEGImages/{miniatures.stem(k)}.jpg"]
    miniatures.packed(source, files)
    with pytest.raises(DataError, match=r"train: 4 of 8 masks have no image \(.*1.png, .*2.png, .*3.png and 1 more\)"):
        run("pascal", source)
    assert not (tmp_path / "root").exists()


def test_scipy_is_asked_for_where_it_is_needed(run: Run, miniature: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ConfigError, match=r"semikit\[sbd\]"):
        run("pascal", miniature("pascal-sbd"))


@pytest.mark.parametrize("size", [3, 500])
def test_what_is_no_matlab_file(run: Run, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    miniatures.packed(source, {**miniatures.voc((0, 8, 9, 10)), "dataset/cls/2007_000003.mat": b"x" * size})
    with pytest.raises(DataError, match=r"no mask of SBD.*2007_000003\.mat.*benchmark\.tgz again"):
        run("pascal", source)
