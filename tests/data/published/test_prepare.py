"""What is the same for all data sets."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from semikit.data.published import prepare as module
from semikit.data.published.catalogue import published_names, read_published
from semikit.data.published.prepare import PREPARERS, PrepareReport, prepare
from semikit.data.published.prepared import BEGUN, RECORD, begin, open_prepared, read_list
from semikit.errors import DataError, RunError, UnknownNameError
from tests.helpers import miniatures
from tests.helpers.tars import unpack

Run = Callable[..., PrepareReport]
Miniature = Callable[[str], Path]
Extracted = Callable[[Path, Path], Path]

FORMS = [
    *("pascal", "pascal-sbd", "pascal-authors", "cityscapes", "cityscapes-authors"),
    *("ade20k", "ade20k-authors", "coco", "coco-authors", "levir-tiles", "whu"),
]


class Killed(BaseException):
    pass


def files(root: Path) -> dict[str, bytes]:
    """What the lists, images and masks of a root hold."""
    prepared = open_prepared(data_set(root), root)
    listed = [
        name for part in prepared.record.counts for pair in read_list(root, part) for name in prepared.files(pair)
    ]
    lists = [path.relative_to(root).as_posix() for path in (root / "lists").iterdir()]
    return {name: (root / name).read_bytes() for name in [*listed, *lists]}


def data_set(path: Path) -> str:
    return path.name.partition("-")[0]


def test_every_published_data_set_can_be_prepared() -> None:
    assert PREPARERS.names() == ["ade20k", "cityscapes", "coco", "levir", "oscd", "pascal", "whu"]
    laid_out = {name for name in published_names() if read_published(name).layout}
    assert {*PREPARERS.names()} | laid_out == {*published_names()}
    for name in PREPARERS.names():
        assert set(read_published(name).counts) >= {"train", "val"}


@pytest.mark.parametrize("form", FORMS)
def test_from_folders_as_from_archives(
    form: str, run: Run, miniature: Miniature, extracted: Extracted, tmp_path: Path
) -> None:
    unpacked = extracted(miniature(form), tmp_path / "deep/down/unpacked")
    one, two = tmp_path / "one" / form, tmp_path / "two" / form
    first = run(data_set(one), miniature(form), one)
    second = run(data_set(one), tmp_path / "deep", two)
    assert first.record == second.record
    assert first.record.counts["train"] == 8
    assert files(one) == files(two)
    linked = next((two / read_list(two, "train")[0][0]).parent.iterdir())
    assert linked.stat().st_nlink == 2
    assert unpacked.is_dir()


@pytest.mark.parametrize("form", FORMS)
def test_in_place_nothing_is_copied(
    form: str, run: Run, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / form
    report = run(data_set(root), miniature(form), root)
    before = files(root)
    (root / RECORD).unlink()
    # An image that is opened for writing would be seen by its time.
    times = {name: (root / name).stat().st_mtime_ns for name in before if not name.startswith("lists/")}
    again = run(data_set(root), root, root)
    assert again.record.counts == report.record.counts
    assert files(root) == before
    assert {name: (root / name).stat().st_mtime_ns for name in times} == times
    assert any(line.startswith("0 files laid out") for line in again.lines)


def test_the_record_still_says_where_masks_came_from(run: Run, miniature: Miniature) -> None:
    first = run("pascal", miniature("pascal-sbd"))
    assert run("pascal", miniature("pascal-sbd")).record == first.record


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("after", [1, 10])
def test_killed_and_gone_on_with(form: str, after: int, run: Run, miniature: Miniature, tmp_path: Path) -> None:
    root, whole, name = tmp_path / form, tmp_path / "whole" / form, form.partition("-")[0]

    def progress(what: str, done: int, total: int) -> None:
        if what in ("laying out files", "drawing masks") and done == after:
            raise Killed

    with pytest.raises(Killed):
        prepare(name, miniature(form), root, progress)
    assert (root / BEGUN).exists()
    with pytest.raises(DataError, match="was begun and not finished"):
        open_prepared(name, root)
    run(name, miniature(form), root)
    run(name, miniature(form), whole)
    assert not (root / BEGUN).exists()
    assert files(root) == files(whole)


def test_a_truncated_image_is_replaced(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "pascal"
    run("pascal", miniature("pascal"), root)
    before = files(root)
    image = root / "JPEGImages/2007_000001.jpg"
    image.write_bytes(image.read_bytes()[:200])
    run("pascal", miniature("pascal"), root)
    assert files(root) == before


def test_archives_that_were_fetched_are_found(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "root"
    miniatures.make("coco", root / "downloads")
    assert run("coco", root).record.counts == {"train": 8, "val": 3, "unlabeled": 4}
    assert len(list((root / "train2017").iterdir())) == 8


def test_the_root_may_lie_in_the_source(run: Run, miniature: Miniature, extracted: Extracted, tmp_path: Path) -> None:
    source = extracted(miniature("pascal"), tmp_path / "data")
    run("pascal", source, source / "prepared")
    assert run("pascal", source, source / "prepared").lines[-2].startswith("0 files laid out")


def test_folders_of_the_root_may_be_links(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    run("pascal", miniature("pascal"), tmp_path / "disk")
    root = tmp_path / "root"
    root.mkdir()
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets"):
        (root / folder).symlink_to(tmp_path / "disk" / folder)
    assert run("pascal", root).record.counts == {"train": 8, "val": 3}


def test_nothing_that_is_known(run: Run, tmp_path: Path) -> None:
    source = miniatures.packed(tmp_path / "holiday", {"photos/a.jpg": b"x", "photos/b.jpg": b"x"})
    with pytest.raises(DataError, match=r"nothing of ADE20K.*Looked for: images/.*Found: holiday/photos \(2 files\)"):
        run("ade20k", source)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(("given", "told"), [("nowhere", "no such file or folder"), ("a.rar", "no archive")])
def test_no_source(run: Run, tmp_path: Path, given: str, told: str) -> None:
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(DataError, match=f"{given}: {told}"):
        run("pascal", tmp_path / given)


def test_a_root_that_is_a_file(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    (tmp_path / "root").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        run("pascal", miniature("pascal"))


def test_a_root_of_another_data_set(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    run("pascal", miniature("pascal"))
    with pytest.raises(DataError, match="prepared for pascal, not for coco"):
        run("coco", miniature("coco"))


def test_a_damaged_record_is_written_anew(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    run("pascal", miniature("pascal"))
    (tmp_path / "root" / RECORD).write_text("{")
    run("pascal", miniature("pascal"))
    assert open_prepared("pascal", tmp_path / "root").record.counts["train"] == 8


def test_an_unknown_name(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'cityscapes'"):
        run("cityscape", tmp_path)


def test_an_archive_that_leads_out_of_the_folder_is_refused(run: Run, tmp_path: Path) -> None:
    bad = {**miniatures.voc(), "../../JPEGImages/evil.jpg": b"x"}
    archive = miniatures.packed(tmp_path / "bad.zip", bad)
    with pytest.raises(DataError, match=r"bad\.zip.*evil\.jpg"):
        run("pascal", archive)
    assert not (tmp_path / "root").exists()


def test_a_damaged_archive_that_is_no_part_of_it(run: Run, tmp_path: Path) -> None:
    miniatures.make("pascal", tmp_path / "source")
    (tmp_path / "source/other.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match=r"other\.zip.*is no part of the data set, move it out"):
        run("pascal", tmp_path / "source")


def test_too_little_space_is_told_before_anything_is_written(
    run: Run, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def short(folder: Path, size: int) -> None:
        asked.append(size)
        raise RunError("no room")

    monkeypatch.setattr(module, "need_space", short)
    with pytest.raises(RunError, match="no room"):
        run("coco", miniature("coco"))
    images = sum(archive.stat().st_size for archive in miniature("coco").glob("*2017.zip"))
    assert asked[0] > images / 2
    assert not (tmp_path / "root").exists()


def test_a_full_disk_leaves_no_whole_root(
    run: Run, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []
    source, save = miniature("cityscapes"), Image.Image.save

    def full(image: Image.Image, path: Path, **options: Any) -> None:
        written.append(path)
        if len(written) == 4:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(image, path, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(RunError, match=r"No space left on device.*goes on from there"):
        run("cityscapes", source)
    assert not list((tmp_path / "root").rglob("*.tmp"))
    with pytest.raises(DataError, match="was begun and not finished"):
        open_prepared("cityscapes", tmp_path / "root")
    monkeypatch.undo()
    assert run("cityscapes", miniature("cityscapes")).record.counts["train"] == 8


def test_lists_that_cannot_be_written(
    run: Run, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def full(path: Path, *rest: Any, **options: Any) -> int:
        if path.parent.name != "lists":
            return write(path, *rest, **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError, match=r"train\.txt.*cannot be written: No space left.*same command"):
        run("pascal", miniature("pascal"))
    assert not (tmp_path / "root" / RECORD).exists()


def test_an_interrupted_run_keeps_what_its_masks_are(
    run: Run, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("cityscapes", miniature("cityscapes"), tmp_path / "whole").record
    root = tmp_path / "root"
    run("cityscapes", miniature("cityscapes"), root)
    (root / RECORD).unlink()
    begin(root, whole.masks)
    next(root.rglob("*_labelTrainIds.png")).unlink()
    assert run("cityscapes", miniature("cityscapes"), root).record == whole


def test_names_with_spaces_are_none_of_the_data_set(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(miniature("pascal"), source)
    unpack(next(source.glob("VOC*.tar")), source)
    first = next(source.rglob("JPEGImages/*.jpg"))
    first.with_name(f"{first.stem} (1).jpg").write_bytes(first.read_bytes())
    assert run("pascal", source).record.counts == {"train": 8, "val": 3}
    assert not any(" " in path.name for path in (tmp_path / "root").rglob("*"))
