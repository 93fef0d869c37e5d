from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semikit.data.formats.images import read_image
from semikit.data.published import official
from semikit.data.published.catalogue import Downloads
from semikit.data.published.official import labeled_images
from semikit.data.published.prepare import PrepareReport, prepare
from semikit.data.published.prepared import open_prepared, read_list
from semikit.data.published.preparers import whu as _mosaics
from semikit.errors import DataError
from tests.helpers import miniatures

Run = Callable[..., PrepareReport]
Miniature = Callable[[str], Path]


class Killed(BaseException):
    pass


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


# ------------------------------------------------------------------------------------------------------ released tiles


def test_lists_say_which_tile_is_of_which_part(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("whu", miniature("whu"))
    root = tmp_path / "root"
    assert report.record.counts == {"train": 8, "val": 3, "test": 2}
    assert report.record.masks == "13 tiles as given"
    for part, numbers in miniatures.WHU.items():
        assert read_list(root, part) == [(f"A/whucd_{k:05d}.png", f"label/whucd_{k:05d}.png") for k in numbers]
        assert (root / f"splits/{part}.txt").read_text().splitlines() == [f"whucd_{k:05d}.png" for k in numbers]
    source = open_prepared("whu", root).source("train")
    assert source.names[1] == "whucd_00001"
    np.testing.assert_array_equal(source.image(1)[0][1], miniatures.change(0, 256, 256)["B"])
    assert any(
        notice.startswith("13 of 7434 tiles. ") and "such as 6096 / 762 / 762" in notice for notice in report.notices
    )


def test_lists_that_are_not_the_official_ones_are_told(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("whu", miniature("whu"))
    assert report.record.own == "parts by lists that are not the official ones (train.txt, val.txt, test.txt)"
    assert report.notices[-1] == f"not as published: {report.record.own}; official lists will be refused"
    with pytest.raises(DataError, match=r"official:20%: .*is not as published \(parts by lists that are not"):
        labeled_images(open_prepared("whu", tmp_path / "root"), "official:20%")


def test_official_lists(run: Run, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = {name: [hashlib.sha256(text).hexdigest(), 1] for name, text in miniatures.whu_lists().items()}
    made = Downloads.model_validate({"files": {}, "splits": {"urls": [], "lists": lists}})
    monkeypatch.setattr(official, "read_downloads", lambda: made)
    report = run("whu", miniature("whu"))
    assert report.record.own == ""
    assert "a part: 8 of 5947 training images; official lists will be refused" in report.notices


def test_lists_that_were_fetched_are_in_the_root(run: Run, tmp_path: Path) -> None:
    for part in miniatures.WHU:
        path = tmp_path / f"root/splits/{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(miniatures.whu_lists()[f"remote-sensing/splits/whu/{part}.txt"].replace(b"\n", b"\r\n"))
    names = [f"whucd_{k:05d}" for k in range(1, 14)]
    archive = miniatures.packed(tmp_path / "source/WHU-CD.zip", miniatures.tiles(names))
    assert run("whu", archive).record.counts == {"train": 8, "val": 3, "test": 2}


def test_without_lists(run: Run, tmp_path: Path) -> None:
    source = miniatures.packed(tmp_path / "source", miniatures.tiles(["whucd_00001"]))
    with pytest.raises(DataError) as error:
        run("whu", source)
    assert "the official lists, and train.txt, val.txt, test.txt are missing" in str(error.value)
    assert f"Fetch them first: semikit data fetch whu --splits --root {tmp_path / 'root'}" in str(error.value)
    assert not (tmp_path / "root").exists()


def test_a_tile_in_no_list(run: Run, tmp_path: Path) -> None:
    files = {**miniatures.tiles(["whucd_00001", "whucd_07435"]), **miniatures.whu_lists()}
    with pytest.raises(DataError, match=r"1 of 2 tiles are in none of the lists \(whucd_07435\)\. .* 6096 / 762 / 762"):
        run("whu", miniatures.packed(tmp_path / "source", files))


def test_another_tiling(run: Run, tmp_path: Path) -> None:
    files = {f"train/{name}": content for name, content in miniatures.tiles(["1", "2", "whu_3"]).items()}
    with pytest.raises(DataError, match=r"3 pairs are named otherwise than WHU-CD's \(1, 2, whu_3\)\. .* 6096 / 762"):
        run("whu", miniatures.packed(tmp_path / "source", {**files, **miniatures.whu_lists()}))


def test_a_tile_that_misses_a_date(run: Run, tmp_path: Path) -> None:
    files = {**miniatures.tiles(["whucd_00001", "whucd_00002"]), **miniatures.whu_lists()}
    del files["B/whucd_00002.png"]
    with pytest.raises(DataError, match=r"1 of 2 pairs have no file in B/ \(whucd_00002\)\. Give WHU-CD\.zip"):
        run("whu", miniatures.packed(tmp_path / "source", files))


def test_tiles_of_another_size(run: Run, tmp_path: Path) -> None:
    files = {**miniatures.trio("whucd_00001", miniatures.change(1, 512, 512)), **miniatures.whu_lists()}
    with pytest.raises(DataError, match=r"A/whucd_00001\.png \(512x512 .*Give files of 256x256 \(tiles\)"):
        run("whu", miniatures.packed(tmp_path / "source", files))


# ------------------------------------------------------------------------------------------------- the large GeoTIFFs


def test_geotiffs_are_cut(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("whu", miniature("whu-originals"))
    root = tmp_path / "root"
    assert report.record.counts == {"train": 8, "val": 2, "test": 2}
    told = "12 tiles cut from GeoTIFFs, validation: the last 1 of 5 rows of the training area"
    assert report.record.masks == told
    train, test = (miniatures.change(seed, *size) for seed, size in enumerate(miniatures.AREAS.values()))
    for kind in ("A", "B", "label"):
        np.testing.assert_array_equal(read(root / f"{kind}/train_r002_c001.png"), train[kind][512:768, 256:512])
        np.testing.assert_array_equal(read(root / f"{kind}/val_r004_c000.png"), train[kind][1024:1280, :256])
        np.testing.assert_array_equal(read(root / f"{kind}/test_r001_c000.png"), test[kind][256:512, :256])
        assert len(list((root / kind).iterdir())) == 12
    assert [name for name, _ in read_list(root, "val")] == ["A/val_r004_c000.png", "A/val_r004_c001.png"]


def test_no_official_list_applies_to_tiles_of_ones_own(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("whu", miniature("whu-originals"))
    own = "tiles cut here from the GeoTIFFs, validation from the training area"
    assert report.notices == [f"not as published: {own}; official lists will be refused"]
    with pytest.raises(DataError, match=r"is not as published \(tiles cut here from the GeoTIFFs"):
        labeled_images(open_prepared("whu", tmp_path / "root"), "official:20%")
    again = run("whu", tmp_path / "root")
    assert again.record == report.record
    assert again.lines[-2] == "0 files laid out"


def test_geotiffs_are_read_strip_by_strip(run: Run, miniature: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def strip(path: Path, **where: Any) -> Any:
        seen.append(where["region"].height)
        return read_image(path, **where)

    monkeypatch.setattr(_mosaics, "read_image", strip)
    run("whu", miniature("whu-originals"))
    assert seen == [256] * (2 * (5 + 2))


def test_killed_while_cutting(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    def progress(what: str, done: int, total: int) -> None:
        if what == "cutting rows" and done == 3:
            raise Killed

    with pytest.raises(Killed):
        prepare("whu", miniature("whu-originals"), tmp_path / "root", progress)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "root").glob("*/*.png")}
    assert len(done) == 3 * 3 * 2
    run("whu", miniature("whu-originals"))
    assert {path: path.stat().st_mtime_ns for path in done} == done
    run("whu", miniature("whu-originals"), tmp_path / "whole/whu")
    for path in (tmp_path / "whole/whu").rglob("*.*"):
        assert (tmp_path / "root" / path.relative_to(tmp_path / "whole/whu")).read_bytes() == path.read_bytes()


def plain(folder: Path, **changed: Any) -> Path:
    """Rasters of one area under short names; `changed` takes the place of some."""
    made = {**miniatures.change(0, 512, 512), **changed}
    names = {"A": "2012_train.tif", "B": "2016_train.TIF", "label": "change_label_train.tif"}
    for kind, name in names.items():
        if made[kind] is not None:
            miniatures.raster(folder / name, made[kind])
    return folder


def test_labels_of_0_and_255(run: Run, tmp_path: Path) -> None:
    report = run("whu", plain(tmp_path / "source"))
    assert report.record.counts == {"train": 2, "val": 2}
    assert "not given: test" in report.lines
    tile = read(tmp_path / "root/label/train_r000_c000.png")
    np.testing.assert_array_equal(tile, miniatures.change(0, 512, 512)["label"][:256, :256])


def test_labels_of_other_values(run: Run, tmp_path: Path) -> None:
    label = miniatures.change(0, 512, 512)["label"] // 255
    label[-1, -1] = 255
    with pytest.raises(DataError, match=r"other values than two: .*change_label_train\.tif \(values 0, 1, 255\)"):
        run("whu", plain(tmp_path / "source", label=label))
    assert not list((tmp_path / "root").glob("*/*.png"))


def test_geotiffs_of_other_sizes(run: Run, tmp_path: Path) -> None:
    source = plain(tmp_path / "source", B=miniatures.change(0, 512, 600)["B"])
    told = r"train: files of other sizes: 2012_train\.tif 512x512, 2016_train\.TIF 600x512, change_label_train"
    with pytest.raises(DataError, match=told):
        run("whu", source)
    assert not (tmp_path / "root").exists()


def test_a_geotiff_that_is_missing(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train: no GeoTIFF of 2016 was found beside .*2012_train\.tif"):
        run("whu", plain(tmp_path / "source", B=None))


def test_two_geotiffs_for_one(run: Run, tmp_path: Path) -> None:
    source = plain(tmp_path / "source")
    (source / "copy of 2012_train.tif").write_bytes((source / "2012_train.tif").read_bytes())
    with pytest.raises(DataError, match=r"two files for A of train: .*2012_train\.tif and .*copy of 2012_train\.tif"):
        run("whu", source)


def test_geotiffs_in_an_archive(run: Run, tmp_path: Path) -> None:
    source = plain(tmp_path / "source")
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    archive = miniatures.packed(tmp_path / "whu.zip", files)
    with pytest.raises(DataError, match=r"whu\.zip has to be unpacked first"):
        run("whu", archive)
    miniatures.packed(source / "whu.zip", files)
    assert run("whu", source).record.counts == {"train": 2, "val": 2}, "what is unpacked beside it is taken"


def test_a_geotiff_that_is_too_small(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"change_label_train\.tif: too small; train needs two rows of tiles"):
        run("whu", plain(tmp_path / "source", **miniatures.change(0, 300, 512)))


def test_released_tiles_go_before_geotiffs(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    source = plain(tmp_path / "source")
    miniatures.make("whu", source)
    assert run("whu", source).record.counts == {"train": 8, "val": 3, "test": 2}
