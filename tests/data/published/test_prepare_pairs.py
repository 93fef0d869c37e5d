"""Data sets of pairs that stay as they are published, and OSCD, whose bands are stacked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from semikit.data.image_pairs import open_pair_folders
from semikit.data.pair_spec import load_pairs
from semikit.data.published.catalogue import read_published
from semikit.data.published.prepare import PrepareReport, prepare
from semikit.data.published.prepared import open_prepared
from semikit.data.published.preparers.oscd import BANDS
from semikit.data.published.verify import verify
from semikit.errors import DataError
from semikit.tasks.cd import ChangeDetection, PairData
from tests.helpers import miniatures

Miniature = Callable[[str], Path]
COUNTS = {"train": 10, "val": 2, "test": 2}


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def made(name: str, source: Path, root: Path) -> PrepareReport:
    return prepare(name, source, root, quiet)


@pytest.mark.parametrize("name", ["levir-plus", "sysu", "clcd", "dsifn"])
def test_pairs_stay_as_they_are(name: str, miniature: Miniature, tmp_path: Path) -> None:
    report = made(name, miniature(name), tmp_path / "root")
    held_out = name == "levir-plus"
    assert report.record.counts == ({"train": 8, "val": 2, "test": 2} if held_out else COUNTS)
    wanted = read_published(name).counts["train"]
    assert f"a part: {report.record.counts['train']} of {wanted} training images" in report.notices
    found = open_prepared(name, tmp_path / "root")
    train, test = found.source("train"), found.source("test")
    assert (train.names[0], test.names[-1]) == ("train/000", "test/001")
    assert found.source("val").names[0] == ("train/008" if held_out else "val/000")
    drawn = miniatures.change(0, 64, 64)
    image, _ = train.image(0)
    assert image.shape == (2, 64, 64, 3)
    if name != "dsifn":  # JPEG
        np.testing.assert_array_equal(image[1], drawn["B"])
    np.testing.assert_array_equal(train.target(0)[0], drawn["label"] // 255)
    last = miniatures.change(3 * sum(report.record.counts.values()) - 3, 64, 64)
    np.testing.assert_array_equal(test.target(1)[0], last["label"] // 255)
    assert verify(name, tmp_path / "root", True, quiet).problems == []
    before = sorted((tmp_path / "root").rglob("*.*"))
    assert made(name, tmp_path / "root", tmp_path / "root").record == report.record
    assert sorted((tmp_path / "root").rglob("*.*")) == before


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    miniatures.make("clcd", tmp_path / "zips")
    shutil.unpack_archive(tmp_path / "zips/clcd.zip", tmp_path / "clcd")
    (tmp_path / "clcd/CLCD/val/time2/001.png").unlink()
    with pytest.raises(DataError, match=r"1 of 14 pairs have no file in B/ \(val/001\). Give the whole of CLCD"):
        made("clcd", tmp_path / "clcd", tmp_path / "root")


@pytest.mark.parametrize(("name", "folder"), [("sysu", "time1"), ("dsifn", "t1")])
def test_without_a_name_the_layout_is_understood(name: str, folder: str, tmp_path: Path) -> None:
    miniatures.make(name, tmp_path)
    shutil.unpack_archive(tmp_path / f"{name}.zip", tmp_path / "data")
    parts = open_pair_folders(load_pairs(tmp_path / "data" / name.upper()))
    assert (len(parts.train), parts.class_names, parts.unused) == (10, ("unchanged", "changed"), [])
    assert parts.train.files(0)[0].parent.name == folder


class TestOscd:
    def test_bands_are_stacked(self, miniature: Miniature, tmp_path: Path) -> None:
        report = made("oscd", miniature("oscd"), tmp_path)
        assert report.record.counts == {"train": 3, "val": 1, "test": 2}
        assert open_prepared("oscd", tmp_path).source("val").names == ("train/dub",)
        with rasterio.open(tmp_path / "A/train/abu.tif") as file:
            assert (file.count, file.dtypes[0], file.descriptions, file.crs.to_epsg()) == (13, "uint16", BANDS, 32633)
        assert verify("oscd", tmp_path, True, quiet).problems == []
        again = made("oscd", miniature("oscd"), tmp_path)
        assert again.record == report.record

    def test_one_range_of_values_is_sampled(self, miniature: Miniature, tmp_path: Path) -> None:
        made("oscd", miniature("oscd"), tmp_path)
        parts = ChangeDetection.open(PairData.model_validate({"published": {"name": "oscd", "root": tmp_path}}))
        assert parts.scale is not None
        image, _ = parts.train.image(0)
        assert image.shape == (2, 40, 48, 13)
        assert len(np.unique(image)) > 200

    def test_a_band_that_is_missing_is_named(self, tmp_path: Path) -> None:
        miniatures.make("oscd", tmp_path)
        for path in tmp_path.glob("*.zip"):
            shutil.unpack_archive(path, tmp_path / "all")
        next(tmp_path.rglob("rio/imgs_2_rect/*B8A.tif")).unlink()
        with pytest.raises(DataError, match=r"1 images or masks are not whole: test/rio B: B8A\. Give all three"):
            made("oscd", tmp_path / "all", tmp_path / "root")

    @pytest.mark.real_data("oscd")
    def test_cities_of_the_data_set(self, tmp_path: Path) -> None:
        """Those at hand have four of the bands, which stand here for all."""
        oscd_data, cities = Path(os.environ["SEMIKIT_TEST_DATA"], "oscd"), {}
        for name in ("aguasclaras", "bercy", "nantes", "paris", "rennes", "saclay_e"):
            dates = []
            for date in "AB":
                with rasterio.open(oscd_data / name / f"{date}.tif") as file:
                    dates.append(np.concatenate([file.read()] * 4)[:13])
            with rasterio.open(oscd_data / name / "label.tif") as file:
                cities[name] = (*dates, np.where(file.read(1) > 0, 255, 0).astype(np.uint8))
        miniatures.oscd(tmp_path / "zips", cities)
        assert made("oscd", tmp_path / "zips", tmp_path / "root").record.counts == {"train": 3, "val": 1, "test": 2}
        train = open_prepared("oscd", tmp_path / "root").source("train")
        labels, valid = train.target(1)
        assert valid.all()
        np.testing.assert_array_equal(labels, cities["bercy"][2] // 255)
        with rasterio.open(train.files(1)[0]) as file:
            np.testing.assert_array_equal(file.read(), cities["bercy"][0])
