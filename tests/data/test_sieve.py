"""Areas of maps that are too small, against a plain form that looks at one area after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.features import shapes

from semikit.raster import sieve as module
from semikit.raster.connected import connected
from semikit.raster.geodesic import Geodesic
from semikit.raster.region import Region
from semikit.raster.sieve import sieve


class InMemory:
    """Classes (H, W), and which regions were written."""

    def __init__(self, values: Any) -> None:
        self.values, self.written = np.array(values, np.uint8), list[Region]()

    def read(self, region: Region) -> Any:
        return self.values[region.slices].copy()

    def write(self, region: Region, values: Any) -> None:
        self.values[region.slices] = values
        self.written.append(region)


def sieved(values: Any, min_area: float, background: int | None = None, geodesic: Any = None) -> tuple[Any, int]:
    raster = InMemory(values)
    count = sieve(
        raster, raster.values.shape, min_area, geodesic=geodesic, background=background, nodata=255
    )  # fmt: skip
    return raster.values, count


def noise(seed: int, size: tuple[int, int] = (40, 50)) -> Any:
    """Areas of many sizes."""
    random = np.random.default_rng(seed)
    coarse = random.choice(np.array([0, 1, 2, 255], np.uint8), (size[0] // 5, size[1] // 5), p=[0.4, 0.3, 0.2, 0.1])
    values = np.kron(coarse, np.ones((5, 5), np.uint8))
    return np.where(random.random(size) < 0.25, random.integers(0, 3, size), values).astype(np.uint8)


def areas(values: Any) -> list[tuple[int, float]]:
    """Class and pixels of each, by GDAL."""
    from shapely.geometry import shape

    return [(int(value), shape(outline).area) for outline, value in shapes(values, connectivity=4)]


@pytest.fixture(params=[1, 3, 1000])
def strips(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a strip."""
    monkeypatch.setattr(module, "_PIXELS", request.param * 50)


@pytest.mark.parametrize("seed", range(3))
def test_connected_areas_are_those_of_gdal(seed: int) -> None:
    values = noise(seed)
    ids, heads = connected(values)
    found = sorted(
        (int(values.ravel()[head]), float(n)) for head, n in zip(heads, np.bincount(ids.ravel()), strict=True)
    )
    assert found == sorted(areas(values))
    assert (values == values.ravel()[heads][ids]).all()


@pytest.mark.usefixtures("strips")
class TestChange:
    @pytest.mark.parametrize("seed", range(3))
    def test_small_areas_become_the_background_and_the_others_stay(self, seed: int) -> None:
        values = noise(seed)
        new, count = sieved(values, 6, background=0)
        assert count == sum(area < 6 for value, area in areas(values) if value not in (0, 255)) > 20
        assert ((new == values) | ((new == 0) & (values != 255))).all()
        kept = [(k, area) for k, area in areas(values) if k in (1, 2) and area >= 6]
        assert sorted(kept) == sorted((k, area) for k, area in areas(new) if k in (1, 2))

    def test_the_background_and_nodata_stay(self) -> None:
        values = np.ones((20, 50), np.uint8)
        values[3, 3], values[5, 5] = 0, 255
        new, count = sieved(values, 10, background=0)
        assert (count, new.tolist()) == (0, values.tolist())


@pytest.mark.usefixtures("strips")
class TestClasses:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("least", [2, 6, 40])
    def test_no_small_area_is_left_that_has_a_neighbour(self, seed: int, least: int) -> None:
        values = noise(seed)
        new, count = sieved(values, least)
        assert count > 0
        assert ((new == 255) == (values == 255)).all()
        ids, heads = connected(new)
        sizes = np.bincount(ids.ravel())
        for number in np.flatnonzero(sizes < least):
            if new.ravel()[heads[number]] == 255:
                continue
            inside = np.pad(ids == number, 1)
            around = np.zeros_like(inside)
            for axis in (0, 1):
                for step in (-1, 1):
                    around |= np.roll(inside, step, axis)
            beside = new[(around & ~inside)[1:-1, 1:-1]]
            assert (beside == 255).all()

    @pytest.mark.parametrize("seed", range(3))
    def test_large_areas_keep_their_pixels(self, seed: int) -> None:
        values = noise(seed)
        new, _ = sieved(values, 6)
        ids, _ = connected(values)
        large = np.bincount(ids.ravel())[ids] >= 6
        assert (new[large] == values[large]).all()

    def test_the_longest_border_decides(self) -> None:
        values = np.zeros((20, 50), np.uint8)
        values[:, 25:] = 1
        values[5:8, 24], values[12, 24:27] = 2, 2
        new, count = sieved(values, 4)
        assert count == 2
        assert new[5:8, 24].tolist() == [0, 0, 0], "three sides and two ends beside 0, three sides beside 1"
        assert new[12, 24:27].tolist() == [1, 1, 1]

    def test_what_is_small_together_may_be_large_enough(self) -> None:
        values = np.zeros((20, 50), np.uint8)
        values[5:8, 5:8], values[6, 6] = 1, 2
        new, count = sieved(values, 9)
        assert (count, int((new == 1).sum())) == (1, 9)
        assert sieved(values, 10)[0].max() == 0

    def test_an_island_in_nodata_stays(self) -> None:
        values = np.full((20, 50), 255, np.uint8)
        values[5, 5:8] = 1
        assert sieved(values, 10)[1] == 0

    def test_nothing_is_written_where_nothing_changes(self) -> None:
        raster = InMemory(np.zeros((20, 50)))
        raster.values[10:] = 1
        raster.values[15, 7] = 2
        assert sieve(raster, (20, 50), 5, geodesic=None, background=None, nodata=255) == 1
        assert sum(region.height for region in raster.written) in (1, 3, 20)


def test_square_metres_are_geodesic() -> None:
    """Web Mercator at 60 degrees draws everything four times as large."""
    crs = rasterio.crs.CRS.from_epsg(3857)
    geodesic = Geodesic(Affine(10, 0, 1e6, 0, -10, 8399737.89), crs.to_wkt(), Path("a.tif"))
    values = np.zeros((60, 60), np.uint8)
    values[10:14, 10:15] = 1  # 20 pixels, 2000 m2 of the map, 500 m2 of the Earth
    assert sieved(values, 490, 0, geodesic)[1] == 0
    assert sieved(values, 510, 0, geodesic)[1] == 1


@pytest.mark.parametrize(
    ("epsg", "transform"),
    [
        (32633, Affine(10, 0, 5e5, 0, -10, 5.8e6)),
        (4326, Affine(0.001, 0, 179.99, 0, -0.001, 60)),
        (3857, Affine(10, 3, 1e6, 3, -10, 8.4e6)),
        (3995, Affine(1000, 0, -5e4, 0, -1000, 5e4)),
    ],
)
def test_a_pixel_is_as_large_as_its_polygon(epsg: int, transform: Affine) -> None:
    from shapely import box

    geodesic = Geodesic(transform, rasterio.crs.CRS.from_epsg(epsg).to_wkt(), Path("a.tif"))
    places = np.array([[0.5, 0.5], [20.5, 7.5], [40.5, 40.5]])
    expected = geodesic.areas(np.array([box(x - 0.5, y - 0.5, x + 0.5, y + 0.5) for x, y in places]))
    np.testing.assert_allclose(geodesic.pixel_areas(places), expected, rtol=2e-4)


def test_a_pixel_beside_the_earth_is_never_too_small() -> None:
    geodesic = Geodesic(Affine(1, 0, 0, 0, -1, 95), rasterio.crs.CRS.from_epsg(4326).to_wkt(), Path("a.tif"))
    assert geodesic.pixel_areas(np.array([[3.5, 2.5]])).tolist() == [np.inf]


def test_memory_does_not_grow_with_the_pixels() -> None:
    import tracemalloc

    class Blank:
        def read(self, region: Region) -> Any:
            values = np.zeros((region.height, region.width), np.uint8)
            values[0, ::1000] = 1
            return values

        def write(self, region: Region, values: Any) -> None:
            assert not values.any()

    tracemalloc.start()
    try:
        assert sieve(Blank(), (8000, 8000), 5, geodesic=None, background=None, nodata=255) > 50
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8000 * 8000 * 2
