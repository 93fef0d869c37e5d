"""Outlines that are made block by block, against those of GDAL for the whole map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from shapely.geometry import shape

from semikit.raster import tracing
from semikit.raster.tracing import Areas, Tracing
from tests.helpers import georasters

ALL = frozenset[int]()


def noise(seed: int, size: tuple[int, int] = (45, 70)) -> Any:
    random = np.random.default_rng(seed)
    coarse = random.choice(np.array([0, 1, 2, 255], np.uint8), (9, 10), p=[0.4, 0.3, 0.2, 0.1])
    values = np.kron(coarse, np.ones((5, 7), np.uint8))
    return np.where(random.random(size) < 0.15, random.integers(0, 3, size), values).astype(np.uint8)


def smooth(size: tuple[int, int] = (90, 120)) -> Any:
    """Round areas of four classes."""
    row, column = np.mgrid[: size[0], : size[1]]
    waves = np.sin(row / 9.0) * 2 + np.cos(column / 11.0 + row / 23.0) * 2
    return np.digitize(waves, [-1.2, 0.3, 1.6]).astype(np.uint8)


def traced(
    folder: Path, values: Any, skipped: frozenset[int] = ALL, simplify: float = 0.0, shares: Any = None
) -> Areas:
    path = georasters.save(folder / "map.tif", values, crs=None)
    other = georasters.save(folder / "shares.tif", values if shares is None else shares, crs=None)
    with rasterio.open(path) as raster, rasterio.open(other) as weights:
        found = Tracing(raster, path, 4, None, skipped, simplify, None if shares is None else weights)
        return Areas.together(list(found))


@pytest.fixture(params=[7, 16, 50, 2048])
def side(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(tracing, "_SIDE", request.param)
    return int(request.param)


@pytest.mark.usefixtures("side")
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
class TestBlocks:
    @pytest.mark.parametrize("seed", range(2))
    def test_the_same_polygons_and_sums(self, tmp_path: Path, seed: int) -> None:
        values = noise(seed)
        shares = np.random.default_rng(5).integers(0, 101, values.shape).astype(np.uint8)
        found = traced(tmp_path, values, shares=shares)
        expected = {}
        for outline, value in rasterio.features.shapes(values, connectivity=4):
            polygon = shapely.normalize(shape(outline))
            inside = rasterio.features.rasterize([polygon], values.shape).astype(bool)
            expected[polygon.wkt] = (int(value), int(inside.sum()), int(shares[inside].sum()))
        polygons = shapely.normalize(shapely.simplify(found.polygons, 0))
        rows = zip(found.values.tolist(), found.pixels.tolist(), found.sums.tolist(), strict=True)
        got = {polygon.wkt: row for polygon, row in zip(polygons, rows, strict=True)}
        assert len(got) == len(expected) > 200
        assert sorted(got.values()) == sorted(expected.values())
        assert all(
            shapely.equals(shapely.from_wkt(a), shapely.from_wkt(b))
            for a, b in zip(sorted(got, key=key_of), sorted(expected, key=key_of), strict=True)
        )
        np.testing.assert_array_equal(found.areas, found.pixels)

    def test_some_values_are_left_out(self, tmp_path: Path) -> None:
        values = noise(0)
        found = traced(tmp_path, values, frozenset({0, 255}))
        assert set(found.values) == {1, 2}
        assert found.pixels.sum() == np.isin(values, (1, 2)).sum()

    def test_straight_edges_have_no_vertices_of_blocks(self, tmp_path: Path) -> None:
        values = np.zeros((60, 80), np.uint8)
        values[5:50, 3:70] = 1
        found = traced(tmp_path, values, frozenset({0}))
        assert shapely.normalize(found.polygons[0]) == shapely.normalize(shapely.box(3, 5, 70, 50))
        assert len(found.polygons[0].exterior.coords) <= 6

    @pytest.mark.parametrize("kind", ["smooth", "noise"])
    @pytest.mark.parametrize("tolerance", [0.5, pytest.param(1.0, marks=pytest.mark.long), 3.0])
    def test_neighbours_share_simpler_borders(self, tmp_path: Path, kind: str, tolerance: float, side: int) -> None:
        values = smooth() if kind == "smooth" else noise(1)
        plain, found = traced(tmp_path, values), traced(tmp_path, values, simplify=tolerance)
        assert shapely.is_valid(found.polygons).all()
        assert shapely.coverage_is_valid(found.polygons)
        assert shapely.area(found.polygons).sum() == pytest.approx(values.size)
        assert shapely.union_all(found.polygons).equals(shapely.box(0, 0, *values.shape[::-1]))
        assert sorted(found.pixels) == sorted(plain.pixels), "areas are those of the pixels"
        counts = [shapely.get_num_coordinates(one.polygons).sum() for one in (plain, found)]
        assert counts[1] < counts[0] * 0.9 or side < 20 or tolerance < 1

    def test_the_same_with_and_without_the_background(self, tmp_path: Path) -> None:
        values = noise(2)
        every, some = traced(tmp_path, values, simplify=2.0), traced(tmp_path, values, frozenset({0, 255}), 2.0)
        there = [one.wkb for one in every.polygons[np.isin(every.values, (1, 2))]]
        assert [one.wkb for one in some.polygons] == there


def key_of(text: str) -> Any:
    polygon = shapely.from_wkt(text)
    return polygon.bounds, polygon.area, polygon.length


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_border_of_a_block_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every vertex is one of the pixels' corners, and corners of blocks are not cut off."""
    monkeypatch.setattr(tracing, "_SIDE", 20)
    values = np.zeros((40, 40), np.uint8)
    values[:20, :20] = 1
    found = traced(tmp_path, values, simplify=8.0)
    square = found.polygons[found.values.tolist().index(1)]
    assert square.equals(shapely.box(0, 0, 20, 20))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_outline_stays_near_the_pixels(tmp_path: Path) -> None:
    row, column = np.mgrid[:180, :180] - 89.5
    values = (row**2 + column**2 < 80**2).astype(np.uint8)
    for tolerance, vertices in ((1.5, 160), (2.0, 100), (4.0, 40)):
        plain = traced(tmp_path, values, frozenset({0})).polygons[0]
        found = traced(tmp_path, values, frozenset({0}), tolerance).polygons[0]
        assert found.hausdorff_distance(plain) <= tolerance
        assert len(found.exterior.coords) < vertices < len(plain.exterior.coords)
