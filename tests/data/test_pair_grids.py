"""Pairs of two dates: on one grid, on two, with pixels that a date does not have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.warp import reproject

from semikit.data.formats.mask_values import MaskValues
from semikit.data.image_pairs import ImagePairs
from semikit.data.pair_grids import aligned
from semikit.errors import DataError, FileFault
from semikit.raster import reading as rasters
from semikit.raster.region import Region
from tests.helpers import georasters, pairs

BINARY = MaskValues(2, mapping=((255, 1),), exact=True)


def source(before: Path, after: Path, mask: Path | None = None, **more: Any) -> ImagePairs:
    return ImagePairs(("one",), (before,), (after,), (mask,), BINARY, **more)


class TestOneGrid:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> ImagePairs:
        values = georasters.ramp(24, 36)
        label = np.where(values[0] > 100, 255, 0).astype(np.uint8)
        paths = [georasters.save(tmp_path / f"{k}.tif", v) for k, v in enumerate((values, 250 - values, label))]
        return source(*paths)

    def test_both_dates_as_stored(self, pair: ImagePairs) -> None:
        image, valid = pair.image(0)
        assert (image.shape, image.dtype, valid) == ((2, 24, 36, 3), np.uint8, None)
        assert (image[0].astype(int) + image[1] == 250).all()
        assert pair.extent(0) == (24, 36)

    def test_a_region_is_that_part(self, pair: ImagePairs) -> None:
        region = Region(3, 10, 7, 20)
        rows, columns = region.slices
        assert np.array_equal(pair.image(0, region)[0], pair.image(0)[0][:, rows, columns])
        assert np.array_equal(pair.target(0, region)[0], pair.target(0)[0][region.slices])

    def test_labels_are_classes(self, pair: ImagePairs) -> None:
        labels, valid = pair.target(0)
        assert valid.all()
        assert set(np.unique(labels)) == {0, 1}

    def test_only_the_region_is_read(self, pair: ImagePairs, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[tuple[float, float]] = []
        whole = rasterio.DatasetReader.read

        def told(self: Any, *args: Any, window: Any = None, **more: Any) -> Any:
            read.append((window.height, window.width))
            return whole(self, *args, window=window, **more)

        monkeypatch.setattr("semikit.raster.reading.rasterio_for", lambda path: _Spy(told))
        pair.image(0, Region(0, 0, 5, 6))
        assert read == [(5, 6), (5, 6)]


class _Spy:
    """rasterio, whose files tell what is read of them."""

    def __init__(self, told: Any) -> None:
        self.told = told

    def open(self, path: Path) -> Any:
        told = self.told

        class Reader(rasterio.io.DatasetReader):
            def read(self, *args: Any, **more: Any) -> Any:
                return told(self, *args, **more)

        from rasterio._path import _parse_path

        return Reader(_parse_path(str(path)))


def test_a_photo_pair_has_no_extent(tmp_path: Path) -> None:
    before, after, labels = pairs.scene(np.random.default_rng(0))
    pair = source(*(pairs.save(tmp_path / f"{k}.png", v) for k, v in enumerate((before, after, labels))))
    assert pair.extent(0) is None
    assert np.array_equal(pair.image(0)[0], np.stack([before, after]))
    assert np.array_equal(pair.target(0)[0], labels // 255)


class TestTwoGrids:
    """Date B has pixels of 7 m in geographic coordinates or UTM; it is brought onto A's 10 m."""

    @pytest.fixture
    def pair(self, tmp_path: Path) -> ImagePairs:
        smooth = np.mgrid[0:60, 0:90][1].astype(np.uint8) * 2
        before = georasters.save(tmp_path / "a.tif", np.stack([smooth] * 3)[:, :40, :60])
        after = georasters.save(tmp_path / "b.tif", np.stack([smooth] * 3), pixel=7.0)
        return source(before, after)

    def test_the_second_lies_on_the_grid_of_the_first(self, pair: ImagePairs) -> None:
        image, valid = pair.image(0)
        assert image.shape == (2, 40, 60, 3)
        expected = np.zeros((40, 60), np.uint8)
        with rasterio.open(pair.before[0]) as first, rasterio.open(pair.after[0]) as second:
            reproject(
                second.read(1), expected, src_transform=second.transform, src_crs=second.crs,
                dst_transform=first.transform, dst_crs=first.crs, resampling=Resampling.bilinear,
            )  # fmt: skip
        assert valid is None
        assert np.abs(image[1, ..., 0].astype(int) - expected).max() <= 1
        # 10 m a pixel of A are 10/7 pixels of B, whose values grow by 2 a pixel.
        assert image[1, 20, 30, 0] == pytest.approx(2 * (30.5 * 10 / 7 - 0.5), abs=1)

    def test_what_the_second_does_not_show_is_invalid(self, pair: ImagePairs) -> None:
        """B is 630 m wide and 420 m high, A 600 m and 400 m."""
        turned = replace(pair, before=pair.after, after=pair.before)
        valid = turned.image(0)[1]
        assert valid is not None
        inside = np.zeros(valid.shape, bool)
        inside[: int(400 / 7), : int(600 / 7)] = True
        assert valid[inside].mean() > 0.97
        assert not valid[58:].any()
        assert not valid[:, 87:].any()

    def test_a_region_is_that_part(self, pair: ImagePairs) -> None:
        region = Region(11, 5, 16, 30)
        rows, columns = region.slices
        image, valid = pair.image(0)
        part, part_valid = pair.image(0, region)
        assert np.abs(part.astype(int) - image[:, rows, columns]).max() <= 1
        whole = np.ones(image.shape[1:3], bool) if valid is None else valid
        assert np.array_equal(
            np.ones(part.shape[1:3], bool) if part_valid is None else part_valid, whole[rows, columns]
        )

    def test_it_is_said(self, pair: ImagePairs) -> None:
        alignment = aligned(*pair.files(0))
        assert alignment.moved
        assert alignment.notice.endswith("b.tif (90x60 pixels) is brought onto the grid of a.tif")

    def test_another_system(self, pair: ImagePairs, tmp_path: Path) -> None:
        bright = np.full((3, 40, 40), 90, np.uint8)
        away = georasters.save(tmp_path / "c.tif", bright, crs="EPSG:4326", origin=(13.52, 52.345), pixel=0.0005)
        moved = replace(pair, after=(away,))
        image, valid = moved.image(0)
        assert "EPSG:4326" in aligned(*moved.files(0)).notice
        assert (image[1][np.ones((40, 60), bool) if valid is None else valid] == 90).all()

    def test_nowhere_in_common(self, pair: ImagePairs, tmp_path: Path) -> None:
        away = georasters.save(tmp_path / "c.tif", np.zeros((3, 9, 9), np.uint8), origin=(500000.0, 5800000.0))
        with pytest.raises(FileFault, match="without a place in common") as raised:
            replace(pair, after=(away,)).image(0)
        assert "a.tif: EPSG:32633, x 400000 to 400600, y 5799600 to 5800000" in str(raised.value)
        assert "c.tif: EPSG:32633, x 500000 to 500090" in str(raised.value)

    def test_a_mask_on_another_grid_is_brought_onto_the_first(self, pair: ImagePairs, tmp_path: Path) -> None:
        label = np.zeros((60, 90), np.uint8)
        label[:, 45:] = 255
        mask = georasters.save(tmp_path / "m.tif", label, pixel=7.0)
        labels, _ = replace(pair, masks=(mask,)).target(0)
        assert labels.shape == (40, 60)
        assert not labels[:, :31].any()
        assert labels[:, 32:].all()

    def test_what_a_mask_on_another_grid_does_not_cover_is_invalid(self, pair: ImagePairs, tmp_path: Path) -> None:
        half = georasters.save(tmp_path / "m.tif", np.full((40, 40), 255, np.uint8), pixel=7.0, nodata=0)
        labels, valid = replace(pair, masks=(half,)).target(0)
        assert valid[:27, :27].all()
        assert not valid[29:].any()
        assert not labels[~valid].any()
        away = georasters.save(tmp_path / "n.tif", np.zeros((40, 60), np.uint8), origin=(800000.0, 5800000.0))
        with pytest.raises(FileFault, match="a mask without a place in common with its image"):
            replace(pair, masks=(away,)).target(0)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
    def test_outside_is_invalid_whatever_the_type(self, pair: ImagePairs, tmp_path: Path, dtype: str) -> None:
        small = georasters.save(tmp_path / "s.tif", np.full((3, 20, 30), 90, dtype), pixel=9.0)
        valid = replace(pair, after=(small,), scale=((0.0,), (255.0,))).image(0)[1]
        assert valid is not None
        assert valid[:17, :26].all()
        assert not valid[19:].any()
        assert not valid[:, 28:].any()

    def test_a_mask_inside_the_second_date_is_kept(self, pair: ImagePairs, tmp_path: Path) -> None:
        other = georasters.save(tmp_path / "o.tif", np.full((3, 80, 120), 90, np.uint8), pixel=5.0)
        shown = np.full((80, 120), 255, np.uint8)
        shown[:, :60] = 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(other, "r+") as file:
            file.write_mask(shown)
        valid = replace(pair, after=(other,)).image(0)[1]
        assert valid is not None
        assert not valid[:, :29].any()
        assert valid[:, 31:].all()


class TestInvalid:
    def test_nodata_of_either_date(self, tmp_path: Path) -> None:
        values = georasters.ramp(20, 20, dtype="uint16") + 1
        first, second = values.copy(), values.copy()
        first[:, :5], second[:, :, 15:] = 0, 0
        paths = [georasters.save(tmp_path / f"{k}.tif", v, nodata=0) for k, v in enumerate((first, second))]
        valid = source(*paths, scale=((0.0,), (255.0,))).image(0)[1]
        assert valid is not None
        expected = np.ones((20, 20), bool)
        expected[:5] = expected[:, 15:] = False
        assert np.array_equal(valid, expected)

    def test_numbers_that_are_none(self, tmp_path: Path) -> None:
        values = georasters.ramp(20, 20, dtype="float32")
        broken = values.copy()
        broken[1, 3, 4] = np.nan
        broken[0, 9, 9] = np.inf
        paths = [georasters.save(tmp_path / f"{k}.tif", v) for k, v in enumerate((values, broken))]
        image, valid = source(*paths, scale=((0.0,), (255.0,))).image(0)
        assert valid is not None
        assert sorted(zip(*np.nonzero(~valid), strict=True)) == [(3, 4), (9, 9)]
        assert (image[1][~valid] == 0).all()

    @pytest.mark.parametrize(("bands", "dtype"), [(3, "uint8"), (4, "uint8"), (4, "uint16"), (2, "float32")])
    def test_an_alpha_band(self, tmp_path: Path, bands: int, dtype: str) -> None:
        """Beside any number of bands, in a file as it is and in one that is brought onto another grid."""
        shown = np.full((1, 20, 20), 255, dtype)
        shown[:, :, :4] = 0
        values = np.concatenate([georasters.ramp(20, 20, bands, dtype) + 1, shown])
        paths = [georasters.save(tmp_path / f"{k}.tif", v) for k, v in (("a", values[:bands]), ("b", values))]
        for path, more in zip(paths, ([], [ColorInterp.alpha]), strict=True):
            with rasterio.open(path, "r+") as file:
                file.colorinterp = [*[ColorInterp.undefined] * bands, *more]
        chosen = tuple(range(1, bands + 1))
        for given in (None, chosen):
            pair = source(*paths, scale=((0.0,), (255.0,)), bands=given)
            image, valid = pair.image(0)
            assert image.shape == (2, 20, 20, bands)
            assert valid is not None
            assert np.array_equal(valid, shown[0] > 0)
        _, sampled = rasters.sample(paths[1], chosen)
        assert sampled is not None
        assert np.array_equal(sampled, shown[0] > 0)

    def test_a_mask_inside_the_file(self, tmp_path: Path) -> None:
        paths = [georasters.save(tmp_path / f"{k}.tif", georasters.ramp(20, 20)) for k in "ab"]
        shown = np.full((20, 20), 255, np.uint8)
        shown[:, :4] = 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(paths[1], "r+") as file:
            file.write_mask(shown)
        valid = source(*paths).image(0)[1]
        assert valid is not None
        assert np.array_equal(valid, shown > 0)


class TestRefused:
    def test_other_sizes_without_place(self, tmp_path: Path) -> None:
        paths = [pairs.save(tmp_path / f"{k}.png", np.zeros((8, 9 + k, 3))) for k in (0, 1)]
        with pytest.raises(FileFault, match=r"dates of other sizes.*0.png 9x8, .*1.png 10x8"):
            source(*paths).image(0)

    def test_other_numbers_of_bands(self, tmp_path: Path) -> None:
        paths = [georasters.save(tmp_path / f"{k}.tif", georasters.ramp(9, 9, k)) for k in (3, 5)]
        with pytest.raises(FileFault, match=r"other numbers of channels.*3.tif 3, .*5.tif 5.*`bands"):
            source(*paths).image(0)

    def test_a_palette(self, tmp_path: Path) -> None:
        paths = [georasters.save(tmp_path / f"{k}.tif", np.zeros((1, 20, 20), np.uint8)) for k in "ab"]
        with rasterio.open(paths[1], "r+") as file:
            file.write_colormap(1, {k: (k, 0, 255 - k, 255) for k in range(256)})
        pair = source(paths[0], paths[1], paths[1])
        with pytest.raises(FileFault, match=r"a palette as an image: .*b\.tif\. Its values .*-expand rgb"):
            pair.image(0)
        assert pair.target(0)[0].shape == (20, 20)

    def test_a_band_that_is_missing(self, tmp_path: Path) -> None:
        paths = [georasters.save(tmp_path / f"{k}.tif", georasters.ramp(9, 9, k)) for k in (3, 1)]
        with pytest.raises(FileFault, match=r"band missing.*1.tif.*asked for bands \[3, 2, 1\], it has 1"):
            source(*paths, bands=(3, 2, 1)).image(0)

    def test_a_mask_larger_than_its_raster(self, tmp_path: Path) -> None:
        paths = [georasters.save(tmp_path / f"{k}.tif", georasters.ramp(20, 20)) for k in "ab"]
        mask = georasters.save(tmp_path / "m.tif", np.zeros((40, 40), np.uint8), crs=None)
        with pytest.raises(FileFault, match=r"mask of another size than its image.*image 20x20, mask 40x40"):
            source(*paths, mask).target(0, Region(0, 0, 10, 10))

    def test_a_transform_that_cannot_be_used(self, tmp_path: Path) -> None:
        flat = georasters.save(tmp_path / "a.tif", georasters.ramp(20, 20), pixel=0.0)
        other = georasters.save(tmp_path / "b.tif", georasters.ramp(20, 20))
        with pytest.raises(FileFault, match="its pixels have no extent on the map"):
            aligned(flat, other)

    def test_no_mask(self, tmp_path: Path) -> None:
        paths = [georasters.save(tmp_path / f"{k}.tif", georasters.ramp(9, 9)) for k in "ab"]
        with pytest.raises(DataError, match="has no mask; only pairs with a mask"):
            source(*paths).target(0)

    def test_a_damaged_block_is_told_with_its_place(self, tmp_path: Path) -> None:
        tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
        rng = np.random.default_rng(0)
        paths = [
            georasters.save(tmp_path / f"{k}.tif", rng.integers(0, 256, (3, 64, 64), dtype=np.uint8), **tiled)
            for k in "ab"
        ]
        data = bytearray(paths[1].read_bytes())
        data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
        paths[1].write_bytes(data)
        pair, faults = source(*paths), []
        for top in range(0, 64, 16):
            try:
                pair.image(0, Region(top, 0, 16, 64))
            except FileFault as fault:
                faults.append(str(fault))
        assert 1 <= len(faults) <= 2
        assert all("b.tif" in fault and "rows " in fault and "columns 0 to 63" in fault for fault in faults)

    def test_a_system_on_one_side_only(self, tmp_path: Path) -> None:
        first = georasters.save(tmp_path / "a.tif", georasters.ramp(9, 9))
        bare = georasters.save(tmp_path / "b.tif", georasters.ramp(9, 9), crs=None)
        assert aligned(first, bare).notice.endswith("b.tif has no coordinate reference system: taken pixel by pixel")
        assert source(first, bare).image(0)[0].shape == (2, 9, 9, 3)
        wide = georasters.save(tmp_path / "c.tif", georasters.ramp(9, 12), crs=None)
        with pytest.raises(FileFault, match="other sizes"):
            aligned(first, wide)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("tif", {"driver": "COG", "blocksize": 128}),
        ("tif", {"interleave": "pixel", "compress": "lzw", "predictor": 2}),
        ("jp2", {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}),
    ],
    ids=["COG", "GeoTIFF", "JPEG 2000"],
)
def test_kinds_of_rasters(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    if (
        options.get("driver") == "JP2OpenJPEG"
        and "JP2OpenJPEG" not in rasterio.drivers.raster_driver_extensions().values()
    ):
        pytest.skip("this GDAL was built without JPEG 2000")
    values = georasters.ramp(64, 96, dtype="uint16") * 9
    paths = [georasters.save(tmp_path / f"{k}.{suffix}", values + 5 * k, **options) for k in (0, 1)]
    pair = source(*paths, scale=((0.0,), (2600.0,)))
    assert pair.extent(0) == (64, 96)
    part, valid = pair.image(0, Region(8, 16, 32, 40))
    assert (part.shape, valid) == ((2, 32, 40, 3), None)
    expected = np.moveaxis(values[:, 8:40, 16:56], 0, -1) / 2600 * 255
    assert np.abs(part[0] - expected).max() <= 1


def test_a_virtual_raster(tmp_path: Path) -> None:
    from rasterio.shutil import copy

    before, after = (georasters.save(tmp_path / f"{k}.tif", georasters.ramp(30, 40)) for k in "ab")
    copy(before, tmp_path / "a.vrt", driver="VRT")
    assert np.array_equal(source(tmp_path / "a.vrt", after).image(0)[0], source(before, after).image(0)[0])
