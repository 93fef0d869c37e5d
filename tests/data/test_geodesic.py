"""Places, areas and distances against formulas that know nothing of the code."""

from __future__ import annotations

from math import cos, log, radians, sin, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from pyproj import Transformer
from rasterio import Affine
from rasterio.crs import CRS

from semikit.errors import FileFault
from semikit.raster.geodesic import Geodesic

A, F = 6378137.0, 1 / 298.257223563
E2 = F * (2 - F)


def earth(crs: Any, transform: Affine) -> Geodesic:
    return Geodesic(transform, CRS.from_user_input(crs).to_wkt(version="WKT2_2019"), Path("map.tif"))


def boxes(*bounds: tuple[float, float, float, float]) -> Any:
    return np.array([shapely.box(*each) for each in bounds], dtype=object)


def zone(south: float, north: float, width: float) -> float:
    """Square metres of WGS 84 between two parallels and two meridians, all in degrees."""
    e = sqrt(E2)

    def up_to(latitude: float) -> float:
        s = sin(radians(latitude))
        return s / (1 - E2 * s * s) + log((1 + e * s) / (1 - e * s)) / (2 * e)

    return (A * (1 - F)) ** 2 / 2 * radians(width) * (up_to(north) - up_to(south))


def widths(geometry: Any) -> list[float]:
    return [part.bounds[2] - part.bounds[0] for part in shapely.get_parts(geometry)]


def test_the_area_of_degrees_is_that_of_the_ellipsoid() -> None:
    place = earth("EPSG:4326", Affine(0.001, 0, 10, 0, -0.001, 60.5))
    areas = place.areas(boxes((0, 0, 4, 3), (100, 200, 500, 300)))
    assert areas[0] == pytest.approx(zone(60.497, 60.5, 0.004), rel=1e-7)
    assert areas[1] == pytest.approx(zone(60.2, 60.3, 0.4), rel=1e-6)


def test_web_mercator_does_not_blow_areas_up() -> None:
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(10, 60)
    place = earth("EPSG:3857", Affine(10, 0, x, 0, -10, y))
    (area,) = place.areas(boxes((0, 0, 4, 3)))
    lon, lat = Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True).transform(x + 40, y - 30)
    assert area == pytest.approx(zone(lat, 60, lon - 10), rel=1e-7)
    assert area == pytest.approx(1200 * cos(radians(60)) ** 2, rel=0.01)


def test_feet_become_square_metres() -> None:
    place = earth("EPSG:2263", Affine(10, 0, 985000, 0, -10, 195000))
    (area,) = place.areas(boxes((0, 0, 4, 3)))
    assert area == pytest.approx(1200 * (1200 / 3937) ** 2, rel=1e-3)


def test_pixels_are_measured_in_metres_each_way() -> None:
    place = earth("EPSG:4326", Affine(0.001, 0, 10, 0, -0.002, 60))
    ((across, down),) = place.pixel_sizes(boxes((-2, -2, 2, 2)))
    s = sin(radians(60))
    assert across == pytest.approx(radians(0.001) * A * cos(radians(60)) / sqrt(1 - E2 * s * s), rel=1e-4)
    assert down == pytest.approx(radians(0.002) * A * (1 - E2) / (1 - E2 * s * s) ** 1.5, rel=1e-4)


def test_a_rotated_raster_lies_where_its_transform_says() -> None:
    root = sqrt(3) / 2
    transform = Affine(10 * root, 5, 500000, 5, -10 * root, 6650000)  # 10 m, turned by 30 degrees
    corners = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    place = earth("EPSG:32633", transform)
    expected = [[500000, 6650000], [500000 + 30 * root, 6650015], [500000 + 25, 6650000 - 50 * root]]
    np.testing.assert_allclose(place.in_crs(corners), expected, atol=1e-6)
    back = Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True).transform(*place.degrees(corners).T)
    np.testing.assert_allclose(np.column_stack(back), expected, atol=1e-3)


def test_long_edges_follow_the_map() -> None:
    """20 km along a row of UTM: the straight line in degrees runs 11 m beside it, the polygon must not."""
    (polygon,) = earth("EPSG:32633", Affine(1, 0, 700000, 0, -1, 6650000)).geojson(boxes((0, 0, 20000, 100)))
    lon, lat = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform(
        [700000, 710000, 720000], [6650000] * 3
    )
    assert abs(np.interp(lon[1], [lon[0], lon[2]], [lat[0], lat[2]]) - lat[1]) * 111000 > 10
    assert polygon.exterior.distance(shapely.Point(lon[1], lat[1])) * 111000 < 0.01


def test_a_polygon_across_the_antimeridian_is_cut_there() -> None:
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True).transform(180, 65)
    place = earth("EPSG:32660", Affine(10, 0, x - 1000, 0, -10, y))
    whole = boxes((0, 0, 200, 50), (0, 0, 20, 20), (150, 0, 160, 9))
    whole[0] = whole[0].difference(shapely.box(90, 20, 110, 30))
    crossing, west, east = place.geojson(whole)
    assert (west.geom_type, east.geom_type) == ("Polygon", "Polygon")
    assert west.bounds[0] > 179.9
    assert east.bounds[2] < -179.9
    assert crossing.geom_type == "MultiPolygon"
    assert crossing.is_valid
    assert max(widths(crossing)) < 0.03
    assert crossing.bounds[0] == -180
    assert crossing.bounds[2] == 180
    assert place.areas(whole)[0] == pytest.approx((200 * 50 - 20 * 10) * 100, rel=2e-3)
    _, south, _, north = crossing.bounds
    assert crossing.area / (north - south) * zone(south, north, 1) == pytest.approx(place.areas(whole)[0], rel=1e-3)


def test_degrees_beyond_180_are_turned_back() -> None:
    place = earth("EPSG:4326", Affine(0.01, 0, 179.9, 0, -0.01, 10))
    crossing, beyond = place.geojson(boxes((0, 0, 30, 10), (20, 0, 30, 10)))
    assert sorted(widths(crossing)) == pytest.approx([0.1, 0.2])
    assert crossing.bounds == pytest.approx((-180, 9.9, 180, 10))
    assert beyond.bounds == pytest.approx((-179.9, 9.9, -179.8, 10))


def test_a_polygon_around_a_pole_has_an_area_but_no_geojson() -> None:
    place = earth("EPSG:3413", Affine(1000, 0, -50000, 0, -1000, 50000))
    around = boxes((0, 0, 100, 100))
    # True to scale at 70 degrees north; at the pole its areas are 6 % too small.
    assert place.areas(around)[0] == pytest.approx(1e10 * 1.064, rel=5e-3)
    with pytest.raises(FileFault, match=r"polygon around a pole.*map\.tif.*\.gpkg"):
        place.geojson(around)


def test_what_is_no_place_on_the_earth_is_told() -> None:
    with pytest.raises(FileFault, match=r"do not fit: map\.tif \(column 2, row 0 is x 2, y 500 .*rio edit-info --crs"):
        earth("EPSG:4326", Affine(1, 0, 0, 0, -1, 500)).areas(boxes((0, 0, 2, 2)))
    with pytest.raises(FileFault, match="do not fit"):
        earth("EPSG:3035", Affine(1e9, 0, 1e12, 0, -1e9, 1e12)).areas(boxes((0, 0, 2, 2)))


def test_a_crs_that_is_not_tied_to_the_earth_is_told() -> None:
    with pytest.raises(FileFault, match=r"CRS that no longitude and latitude belong to: map\.tif.*--unset-crs"):
        earth('LOCAL_CS["site",UNIT["metre",1]]', Affine.identity())
