"""Rasters that ground control points or the like place on the map: training reads their pixels and says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semikit.data.formats.images import read_info
from semikit.run.data_check import check_data
from tests.helpers import georasters


@pytest.mark.parametrize("kind", georasters.LOOSE)
def test_the_header_says_what_places_it(tmp_path: Path, kind: str) -> None:
    path = georasters.save(tmp_path / "a.tif", georasters.ramp(92, 112), crs=None)
    georasters.place_loosely(path, kind)
    raster = read_info(path).raster
    assert raster is not None
    assert raster.loose_place == georasters.LOOSE[kind]


@pytest.mark.parametrize("task", ["seg", "cd"])
def test_the_check_says_that_places_are_not_used(tmp_path: Path, task: str) -> None:
    dates = {"images": "a"} if task == "seg" else {"images_a": "a", "images_b": "b"}
    folders = {**dates, "masks": "masks"}
    for name in ("1", "2"):
        values = georasters.ramp(92, 112) + int(name)
        for folder in ("a", "b"):
            path = georasters.save(tmp_path / f"{folder}/{name}.tif", values + (folder == "b"), crs=None)
            georasters.place_loosely(path, "ground control points")
        georasters.save(tmp_path / f"masks/{name}.tif", (values[0] > 100).astype(np.uint8), crs=None)
    parts = [f"{key}: {folder}" for key, folder in folders.items()]
    (tmp_path / "data.yaml").write_text(f"train: {{{', '.join(parts)}}}\nval: 0.5\nclasses: [dark, bright]\n")
    notices = check_data(tmp_path / "data.yaml", task).notices
    (notice,) = [text for text in notices if "placed on the map" in text]
    assert notice.startswith(f"{2 if task == 'seg' else 4} rasters are placed on the map by points or functions")
    assert "a/1.tif (ground control points)" in notice
    assert "gdalwarp" in notice
