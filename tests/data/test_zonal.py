"""Sums over polygons against those of the pixels themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio.features
import shapely
from shapely.geometry import shape

from semikit.raster import zonal
from semikit.raster.zonal import sums_within
from tests.helpers import georasters


@pytest.mark.parametrize("strip", [1, 7 * 50, 4_000_000])
def test_holes_corners_and_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strip: int) -> None:
    monkeypatch.setattr(zonal, "_PIXELS", strip)
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, (60, 50)).astype(np.uint8)
    classes[20:40, 10:40] = np.where(rng.random((20, 30)) < 0.1, 1, 2)
    values = rng.integers(0, 256, (60, 50)).astype(np.uint8)
    polygons = [shape(one) for one, _ in rasterio.features.shapes(classes, connectivity=4)]
    assert any(one.interiors for one in polygons)
    expected = []
    for one in polygons:
        expected.append(values[rasterio.features.rasterize([one], values.shape).astype(bool)].sum())
    path = georasters.save(tmp_path / "values.tif", values)
    found = sums_within(path, np.array(polygons, dtype=object))
    np.testing.assert_array_equal(found, expected)
    turned = shapely.reverse(np.array(polygons, dtype=object))
    np.testing.assert_array_equal(sums_within(path, turned), expected)


def test_no_polygons(tmp_path: Path) -> None:
    path = georasters.save(tmp_path / "values.tif", np.ones((4, 4), np.uint8))
    assert sums_within(path, np.array([], dtype=object)).shape == (0,)
