"""The meridian that longitudes are counted to: 179.99 and -180.01 are one place, for rasters as for polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyogrio.raw import write
from rasterio.warp import transform
from shapely import to_wkb
from shapely.geometry import box

from semikit.data.conversion.map_polygons import read_map_polygons
from semikit.data.formats.images import read_grid
from semikit.data.formats.mask_values import MaskValues
from semikit.data.image_pairs import ImagePairs
from semikit.raster.area_of_interest import AreaOfInterest
from semikit.raster.reading import read
from semikit.raster.region import Region
from tests.helpers import georasters

PLACES: dict[str, tuple[str, float, float, tuple[int, int]]] = {
    "east": ("EPSG:4326", 179.95, 0.001, (100, 100)),
    "west": ("EPSG:4326", -180.05, 0.001, (100, 100)),
    "shifted": ("EPSG:4326", -180.06, 0.001, (120, 120)),
    "utm 60": ("EPSG:32660", 179.94, 100.0, (140, 140)),
    "utm 1": ("EPSG:32601", 179.94, 100.0, (140, 140)),
    "pacific": ("EPSG:3832", 179.94, 100.0, (140, 140)),
}
"""Reference system, longitude of the upper left corner, pixel, size; all around 180 degrees east, 10 north."""


def degrees(name: str) -> tuple[Any, Any]:
    """Longitude (0 to 360) and latitude of each pixel (H, W)."""
    crs, _, pixel, size = PLACES[name]
    x, y = corner(name)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    lon, lat = transform(crs, "EPSG:4326", (x + columns * pixel).ravel(), (y - rows * pixel).ravel())
    return np.reshape(lon, size) % 360, np.reshape(lat, size)


def corner(name: str) -> tuple[float, float]:
    crs, west, *_ = PLACES[name]
    (x,), (y,) = ([west], [10.06]) if crs == "EPSG:4326" else transform("EPSG:4326", crs, [west], [10.06])
    return x, y


def raster(folder: Path, name: str) -> Path:
    """Values (float32) that say which place a pixel shows, in thousandths of a degree."""
    crs, _, pixel, _ = PLACES[name]
    lon, lat = degrees(name)
    values = 1000 * (lon - 179.9) + 1000 * (lat - 10)
    return georasters.save(folder / f"{name}.tif", values.astype(np.float32), crs=crs, origin=corner(name), pixel=pixel)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("first", PLACES)
@pytest.mark.parametrize("second", PLACES)
def test_all_of_a_second_date_lies_on_the_first(tmp_path: Path, first: str, second: str, masks: bool) -> None:
    onto = raster(tmp_path, first)
    values, valid = read(raster(tmp_path, second), [1], masks, onto=read_grid(onto))
    own, _ = read(onto, [1], masks)
    valid = np.ones(own.shape[:2], np.bool_) if valid is None else valid
    assert np.abs(values - own)[valid].max() < (1.5 if masks else 0.7)  # a pixel is 0.9 to 1
    lon, lat = degrees(first)
    common = (lon > 179.955) & (lon < 180.045) & (lat > 9.965) & (lat < 10.045)
    assert common.sum() > 5000
    assert valid[common].all()


def pair(folder: Path, first: str, second: str, shift: int = 0) -> ImagePairs:
    """The earlier date of one value; changed pixels are those of a block of 10 x 10, at 40, 40 of the grid `east`."""
    after = np.full((3, 100 + 2 * shift, 100 + 2 * shift), 50, np.uint8)
    after[:, 40 + shift : 50 + shift, 40 + shift : 50 + shift] = 200
    degrees: dict[str, Any] = {"crs": "EPSG:4326", "pixel": 0.001}
    before = np.full((3, 100, 100), 50, np.uint8)
    west = {"east": 179.95, "west": -180.05}
    a = georasters.save(folder / "a.tif", before, origin=(west[first], 10.06), **degrees)
    place = {**degrees, "origin": (west[second] - shift / 1000, 10.06 + shift / 1000)}
    b, mask = georasters.save(folder / "b.tif", after, **place), georasters.save(folder / "m.tif", after[0], **place)
    values = MaskValues(2, mapping=((50, 0), (200, 1)))
    return ImagePairs(("one",), (a,), (b,), (mask,), values)


@pytest.mark.parametrize("shift", [0, 7])
@pytest.mark.parametrize(("first", "second"), [("east", "west"), ("west", "east")])
def test_a_pair_and_its_mask(tmp_path: Path, first: str, second: str, shift: int) -> None:
    pairs = pair(tmp_path, first, second, shift)
    changed = np.zeros((100, 100), np.bool_)
    changed[40:50, 40:50] = True
    image, valid = pairs.image(0)
    assert valid is None
    np.testing.assert_array_equal(image[1, ..., 0], np.where(changed, 200, 50))
    labels, known = pairs.target(0)
    assert known.all()
    np.testing.assert_array_equal(labels, changed)
    region = Region(30, 35, 20, 20)
    np.testing.assert_array_equal(pairs.image(0, region)[0][1, ..., 0], np.where(changed, 200, 50)[region.slices])


def test_a_whole_earth_counted_from_another_meridian(tmp_path: Path) -> None:
    values = (np.mgrid[0:18, 0:36][1] * 7).astype(np.float32)
    degrees: dict[str, Any] = {"crs": "EPSG:4326", "pixel": 10.0}
    first = georasters.save(tmp_path / "a.tif", values, origin=(-180.0, 90.0), **degrees)
    turned = georasters.save(tmp_path / "b.tif", np.roll(values, 18, axis=1), origin=(0.0, 90.0), **degrees)
    for onto, other in ((first, turned), (turned, first)):
        there, valid = read(other, None, True, onto=read_grid(onto))
        assert valid is None
        np.testing.assert_array_equal(there, read(onto, None, True)[0])


def polygons(path: Path, *boxes: tuple[float, float, float, float]) -> Path:
    names = np.array([f"{k}" for k in range(len(boxes))], dtype=object)
    shapes = to_wkb(np.array([box(*one) for one in boxes], dtype=object))
    write(path, shapes, [names], ["name"], geometry_type="Polygon", crs="EPSG:4326")
    return path


HALVES = [(179.98, 10.0, 180.0, 10.02), (-180.0, 10.0, -179.97, 10.02)]
"""As GeoJSON has to be cut: columns 30 to 79, rows 40 to 59 of the grids `east` and `west`."""


@pytest.mark.parametrize("shapes", [HALVES, [(179.98, 10.0, 180.03, 10.02)], [(-180.02, 10.0, -179.97, 10.02)]])
@pytest.mark.parametrize("name", ["east", "west"])
def test_polygons(tmp_path: Path, name: str, shapes: list[tuple[float, float, float, float]]) -> None:
    covered = np.zeros((100, 100), np.bool_)
    covered[40:60, 30:80] = True
    image, file = raster(tmp_path / "in", name), polygons(tmp_path / "p.gpkg", *shapes)
    area = AreaOfInterest.read(file).on(read_grid(image), image)
    np.testing.assert_array_equal(area.inside(Region(0, 0, 100, 100)), covered)
    classes = georasters.save(
        tmp_path / "classes.tif", np.zeros((100, 100), np.uint8), crs="EPSG:4326",
        origin=(PLACES[name][1], 10.06), pixel=0.001,
    )  # fmt: skip
    assert sum(pixels for one in area.areas(classes) for pixels, _ in one.classes.values()) == covered.sum()
    (labels,) = read_map_polygons(file, tmp_path / "in", "name", None).images
    numbers: Any = type("Numbers", (), {"uncovered": 0, "of": lambda self, name: 1})()
    np.testing.assert_array_equal(labels.drawing.window(Region(0, 0, 100, 100), numbers), covered)


def test_one_grid_written_twice() -> None:
    from semikit.raster.grid import Grid

    system = rasterio.crs.CRS.from_epsg(4326)
    east, west = (Grid((9, 9), system, Affine(0.01, 0, x, 0, -0.01, 5)) for x in (179.95, -180.05))
    assert east.equals(west)
    assert west.equals(east)
    assert not east.equals(Grid((9, 9), system, Affine(0.01, 0, -179.05, 0, -0.01, 5)))


@pytest.mark.parametrize("shapes", [HALVES, [(179.98, 10.0, 180.03, 10.02)], [(-180.02, 10.0, -179.97, 10.02)]])
@pytest.mark.parametrize("crs", ["EPSG:32660", "EPSG:3832", "EPSG:3857"])
def test_polygons_in_metres(tmp_path: Path, crs: str, shapes: list[tuple[float, float, float, float]]) -> None:
    """What crosses the end of a system does not reach around the Earth to its other end."""
    file = polygons(tmp_path / "p.gpkg", *shapes)
    for longitude, share in ((179.99, 1.0), (181.0 if crs == "EPSG:3832" else 178.0, 0.0)):
        (x,), (y,) = transform("EPSG:4326", crs, [longitude], [10.01])
        image = georasters.save(tmp_path / "a.tif", np.zeros((9, 9), np.uint8), crs=crs, origin=(x, y), pixel=20.0)
        layer = AreaOfInterest.read(file).layer.in_crs(read_grid(image).crs).touching(read_grid(image))
        values = np.zeros((9, 9), np.uint8)
        layer.burn(values, [1] * len(layer.polygons), read_grid(image).transform, Region(0, 0, 9, 9))
        assert values.mean() == share
