from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from semikit.data.formats.images import read_mask
from semikit.data.published.prepare import PrepareReport, prepare
from semikit.data.published.prepared import RECORD, open_prepared
from semikit.data.published.preparers.ade20k import told_kind
from semikit.errors import DataError
from tests.helpers import miniatures

Run = Callable[..., PrepareReport]
Miniature = Callable[[str], Path]
Extracted = Callable[[Path, Path], Path]

ONE = "annotations/training/ADE_train_00000001.png"


class Killed(BaseException):
    pass


def killing(after: int) -> Callable[[str, int, int], None]:
    """Progress that ends the run when so many files are laid out."""

    def progress(what: str, done: int, total: int) -> None:
        if what == "laying out files" and done == after:
            raise Killed

    return progress


def assert_converted_once(root: Path) -> None:
    """Every mask equals the authors' form."""
    for name, data in miniatures.ade_masks("converted").items():
        wanted = miniatures.packed(root.parent / "wanted", {Path(name).name: data}) / Path(name).name
        np.testing.assert_array_equal(read_mask(root / name), read_mask(wanted), err_msg=name)


def test_originals_are_converted(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("ade20k", miniature("ade20k"))
    root = tmp_path / "root"
    assert report.record.counts == {"train": 8, "val": 3}
    assert report.record.masks == "11 converted from 0-150"
    assert_converted_once(root)
    assert set(np.unique(read_mask(root / ONE))) == {0, 1, 2, 3, 149, 255}


def test_converted_masks_are_copied(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("ade20k", miniature("ade20k-authors"))
    assert report.record.masks == "11 with 0-149 and 255 as given"
    assert (tmp_path / "root" / ONE).read_bytes() == miniatures.ade_masks("converted")[ONE]


def test_converted_masks_come_before_originals(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    top = "ADEChallengeData2016/"
    miniatures.packed(source / "A.zip", {**miniatures.ade_images(top), **miniatures.ade_masks("original", top)})
    miniatures.packed(source / "B.zip", miniatures.ade_masks("converted"))
    assert run("ade20k", source).record.masks.startswith("11 with 0-149")
    assert_converted_once(tmp_path / "root")


@pytest.mark.parametrize("kind", ["original", "converted"])
def test_preparing_twice_in_place_converts_once(run: Run, tmp_path: Path, kind: str) -> None:
    root = miniatures.packed(tmp_path / "root", {**miniatures.ade_images(), **miniatures.ade_masks(kind)})
    first = run("ade20k", root)
    assert_converted_once(root)
    assert run("ade20k", root).record == first.record
    assert_converted_once(root)
    moved = root / "originals" / ONE
    if kind == "original":
        assert moved.read_bytes() == miniatures.ade_masks("original")[ONE]
        assert any("originals" in notice for notice in first.notices)
    else:
        assert not moved.exists()


@pytest.mark.parametrize("done", [1, 5, 10])
def test_interrupted_in_place_and_gone_on_with(run: Run, tmp_path: Path, done: int) -> None:
    root = miniatures.packed(tmp_path / "root", {**miniatures.ade_images(), **miniatures.ade_masks("original")})
    with pytest.raises(Killed):
        prepare("ade20k", root, root, killing(done))
    with pytest.raises(DataError, match="begun and not finished"):
        open_prepared("ade20k", root)
    run("ade20k", root)
    assert_converted_once(root)


def test_interrupted_and_gone_on_with_from_the_archive(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(Killed):
        prepare("ade20k", miniature("ade20k"), root, killing(15))
    assert 0 < len(list(root.glob("annotations/*/*.png"))) < 11
    report = run("ade20k", miniature("ade20k"))
    assert report.record.counts == {"train": 8, "val": 3}
    assert_converted_once(root)


def test_originals_put_among_converted_ones(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    run("ade20k", miniature("ade20k"))
    (tmp_path / "root" / ONE).write_bytes(miniatures.ade_masks("original")[ONE])
    with pytest.raises(DataError, match=r"original masks.*are mixed"):
        run("ade20k", miniature("ade20k"))
    assert (tmp_path / "root" / RECORD).exists()


def test_originals_that_were_set_aside_are_not_overwritten(run: Run, tmp_path: Path) -> None:
    root = miniatures.packed(tmp_path / "root", {**miniatures.ade_images(), **miniatures.ade_masks("original")})
    (root / "originals/annotations").mkdir(parents=True)
    with pytest.raises(DataError, match="Remove one of them"):
        run("ade20k", root)


def test_what_masks_hold() -> None:
    def seen(*values: int) -> np.ndarray:
        return np.isin(np.arange(256), values)

    assert told_kind(seen(0, 1, 150), 8, "x") == "original"
    assert told_kind(seen(0, 1, 149, 255), 8, "x") == "converted"
    assert told_kind(seen(0, 1, 149), 500, "x") == "original"
    assert told_kind(seen(0, 1), 3, "x", marked=True) == "converted"
    with pytest.raises(DataError, match=r"cannot be told.* in 8 of them"):
        told_kind(seen(0, 1, 149), 8, "x")
    with pytest.raises(DataError, match="mixed"):
        told_kind(seen(0, 150, 255), 8, "x")
    with pytest.raises(DataError, match="converted twice"):
        told_kind(seen(0, 148, 254, 255), 8, "x")
    with pytest.raises(DataError, match="masks hold 200"):
        told_kind(seen(0, 200), 8, "x")


def test_a_folder_inside_the_root_is_a_source(
    run: Run, miniature: Miniature, extracted: Extracted, tmp_path: Path
) -> None:
    extracted(miniature("ade20k"), tmp_path / "root/unpacked")
    run("ade20k", tmp_path / "root")
    assert_converted_once(tmp_path / "root")
