"""Segmentation of Sentinel-2 cities: learned from one, the map, polygons and areas of another."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rio_cogeo.cogeo import cog_validate

from tests.helpers import photos

Call = Callable[..., Any]
pytestmark = pytest.mark.real_data("oscd")
CLASSES = {"water": (0, 0, 255), "built & bare": (200, 90, 80), "green": (0, 128, 0)}


def labels_of(path: Path) -> Any:
    """Masks (3, H, W) uint8 in the colours of made classes, by the vegetation index (bands 3, red, and 4, infrared)."""
    with rasterio.open(path) as file:
        red, infrared = file.read([3, 4]).astype(float)
    index = (infrared - red) / np.maximum(infrared + red, 1)
    colours = np.array(list(CLASSES.values()), np.uint8)
    return np.moveaxis(colours[np.digitize(index, [0.0, 0.3])], -1, 0)


def test_a_city_by_another(semikit: Call, tmp_path: Path) -> None:
    cities = Path(os.environ["SEMIKIT_TEST_DATA"], "oscd")
    (tmp_path / "masks").mkdir()
    for city in ("bercy", "paris"):
        with rasterio.open(cities / city / "A.tif") as file:
            profile = {**file.profile, "count": 3, "dtype": "uint8", "nodata": None}
        with rasterio.open(tmp_path / f"masks/{city}.tif", "w", **profile) as file:
            file.write(labels_of(cities / city / "A.tif"))
    parts = [
        f'{part}: {{images: "{cities}/{{stem}}/A.tif", masks: "masks/{{stem}}.tif", names: [{city}]}}'
        for part, city in (("train", "bercy"), ("val", "paris"))
    ]
    colours = [f"{name}: {list(colour)}" for name, colour in CLASSES.items()]
    bands = ["bands: [B04, B03, B02, B08]", "scale: {min: 0, max: 3000}"]
    (tmp_path / "data.yaml").write_text("\n".join([*parts, *bands, f"colors: {{{', '.join(colours)}}}"]))
    flags = ("--method", "supervised", "--iterations", "2", "--out", "run")
    answer = semikit("train", "seg", "--data", tmp_path / "data.yaml", *photos.FLAGS, *flags)
    assert answer.code == 0, answer.err
    source = cities / "rio/A.tif"
    outputs = ("--polygons", "rio.gpkg", "--areas", "--confidence", "--overlay", "--legend")
    answer = semikit("predict", "run", source, "-o", "rio.tif", *outputs)
    assert answer.code == 0, answer.err
    with rasterio.open("rio.tif") as file, rasterio.open(source) as city:
        assert (file.crs, file.transform, file.shape) == (city.crs, city.transform, city.shape)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.colormap(1)[2][:3] == (0, 128, 0)
        classes, box = file.read(1), shapely.box(*file.bounds)
    for name in ("rio", "rio-confidence", "rio-overlay"):
        assert cog_validate(f"{name}.tif", strict=True, quiet=True) == (True, [], [])
    with rasterio.open("rio-overlay.tif") as file, rasterio.open(source) as city:
        assert (file.crs, file.transform, file.shape) == (city.crs, city.transform, city.shape)
        colour = np.array(list(CLASSES.values()))[classes]
        natural = np.moveaxis(np.clip(city.read([3, 2, 1]) / 3000 * 255, 0, 255), 0, -1)
        assert np.abs(np.moveaxis(file.read(), 0, -1) - (natural + colour) / 2).max() <= 1.5
    assert Path("rio-legend.png").is_file()
    with Path("rio-areas.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], int(row["pixels"])) for row in rows] == [
        (name, int((classes == k).sum())) for k, name in enumerate(CLASSES)
    ]
    info, _, found, columns = pyogrio.raw.read("rio.gpkg")
    fields = dict(zip(info["fields"], columns, strict=True))
    assert info["crs"] == "EPSG:4326"
    assert shapely.area(shapely.union_all(shapely.from_wkb(found))) == pytest.approx(box.area, rel=1e-6)
    assert fields["area_m2"].sum() == pytest.approx(sum(float(row["area_m2"]) for row in rows), abs=1)
    assert ((fields["probability"] > 1 / 3 - 0.01) & (fields["probability"] <= 1)).all()
