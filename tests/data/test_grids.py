"""Whether two rasters show the same places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from semikit.data.formats.images import read_grid
from semikit.errors import FileFault
from semikit.raster.grid import Grid
from tests.helpers import georasters, pairs

ORIGIN = (400000.0, 5800000.0)


@pytest.fixture
def grid(tmp_path: Path) -> Any:
    def make(**place: Any) -> Grid:
        shape = place.pop("shape", (20, 30))
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tif"
        return read_grid(georasters.save(path, np.zeros(shape, np.uint8), **place))

    return make


def test_a_photo_has_a_size_and_no_place(tmp_path: Path) -> None:
    found = read_grid(pairs.save(tmp_path / "a.png", np.zeros((4, 7, 3))))
    assert (found.size, found.placed, found.name) == ((4, 7), False, "no reference system")


def test_equal_to_a_hundredth_of_a_pixel(grid: Any) -> None:
    first = grid()
    assert first.equals(grid(origin=(ORIGIN[0] + 0.05, ORIGIN[1])))
    assert not first.equals(grid(origin=(ORIGIN[0] + 0.5, ORIGIN[1])))
    assert not first.equals(grid(pixel=10.1))
    assert not first.equals(grid(crs="EPSG:32634"))
    assert not first.equals(grid(crs=None))
    assert not first.equals(grid(shape=(20, 31)))


def test_bounds_and_name(grid: Any) -> None:
    found = grid()
    assert found.bounds == (400000.0, 5799800.0, 400300.0, 5800000.0)
    assert found.text() == "EPSG:32633, x 400000 to 400300, y 5799800 to 5800000"


def test_overlap_in_one_system(grid: Any) -> None:
    assert grid().overlaps(grid(origin=(ORIGIN[0] + 290, ORIGIN[1])))
    assert not grid().overlaps(grid(origin=(ORIGIN[0] + 300, ORIGIN[1])))
    assert not grid().overlaps(grid(origin=(ORIGIN[0], ORIGIN[1] + 200)))


def test_overlap_in_two_systems(grid: Any) -> None:
    """400000, 5800000 in UTM 33 lies near 13.53 E, 52.34 N."""
    assert grid().overlaps(grid(crs="EPSG:4326", origin=(13.5, 52.4), pixel=0.01))
    assert not grid().overlaps(grid(crs="EPSG:4326", origin=(23.5, 52.4), pixel=0.01))


def test_overlap_across_the_antimeridian(grid: Any) -> None:
    """UTM 60 reaches to 180 degrees east; 190 and -170 degrees are one place."""
    east = grid(crs="EPSG:4326", origin=(179.5, 10.0), pixel=0.01)
    across = grid(crs="EPSG:32660", origin=(800000.0, 1100000.0), pixel=5000.0, shape=(20, 60))
    assert east.overlaps(across)
    assert grid(crs="EPSG:4326", origin=(190.0, 1.0), pixel=0.1).overlaps(
        grid(crs="EPSG:4326", origin=(-170.0, 1.0), pixel=0.1)
    )


def test_a_transform_without_a_system_is_kept(tmp_path: Path) -> None:
    place = Affine(2, 0, 7, 0, -2, 9)
    found = read_grid(georasters.save(tmp_path / "a.tif", np.zeros((4, 5), np.uint8), crs=None, transform=place))
    assert not found.placed
    assert found.transform == place


def test_pixels_without_extent_are_refused(grid: Any) -> None:
    with pytest.raises(FileFault, match=r"its pixels have no extent on the map, by its transform \(0\.0,"):
        grid(pixel=0.0)
