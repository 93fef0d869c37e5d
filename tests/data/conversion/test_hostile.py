"""Damaged label files: an error that names what is wrong, or masks; never another exception."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyogrio.raw import write
from shapely import to_wkb
from shapely.geometry import box

from semikit.data.conversion.convert import convert
from semikit.data.conversion.label_formats import Reading
from semikit.errors import SemikitError
from tests.helpers import georasters, mutations
from tests.helpers import label_files as lf

TRIALS = 60


def coco(folder: Path) -> Path:
    runs = {"size": [12, 16], "counts": [10, 20, 162]}
    packed = {"size": [12, 16], "counts": "PPYo0"}
    square = [[1, 1, 4, 1, 4, 4, 1, 4]]
    items = [{"image_id": 1, "category_id": 10, "segmentation": shape} for shape in (square, runs, packed)]
    return lf.coco(
        folder / "a.json", [("a.png", 12, 16)], [*items, {**items[0], "bbox": [1, 1, 2, 2]}], ["car", "tree"]
    )


def labelme(folder: Path) -> Path:
    kinds = {"polygon": [[1, 1], [4, 1], [4, 4]], "rectangle": [[1, 1], [3, 3]], "circle": [[5, 5], [7, 7]]}
    shapes = [{"label": kind, "points": corners, "shape_type": kind} for kind, corners in kinds.items()]
    (folder / "a.json").write_text(
        json.dumps({"shapes": shapes, "imagePath": "a.png", "imageHeight": 12, "imageWidth": 16})
    )
    return folder / "a.json"


def tried(reading: Reading, out: Path) -> bool:
    """Whether masks came of it."""
    try:
        convert(reading, out)
    except SemikitError:
        return False
    return True


@pytest.mark.parametrize("write", [coco, labelme])
def test_json_with_other_values(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    lf.photo(tmp_path / "images/a.png")
    source = write(tmp_path)
    whole = json.loads(source.read_text())
    name = "coco" if write is coco else "labelme"
    reading = Reading(source, format=name, images=tmp_path / "images")
    rng, done = np.random.default_rng(0), 0
    for k in range(TRIALS):
        source.write_text(json.dumps(mutations.altered(rng, whole), default=str), encoding="utf-8", errors="replace")
        done += tried(reading, tmp_path / f"out{k}")
    assert 0 < done < TRIALS


@pytest.mark.parametrize("kind", ["yolo", "cvat", "coco"])
def test_text_with_other_bytes(tmp_path: Path, kind: str) -> None:
    lf.photo(tmp_path / "images/a.png")
    if kind == "yolo":
        source, file = tmp_path, tmp_path / "labels/a.txt"
        file.parent.mkdir()
        text = b"0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.2 0.2 0.6 0.2 0.6 0.6 0.2 0.6\n"
    elif kind == "cvat":
        source = file = tmp_path / "a.xml"
        text = (
            b'<annotations><image id="0" name="a.png" width="16" height="12">'
            b'<polygon label="car" points="1,1;5,1;5,5" z_order="0"/><box label="car" xtl="1" ytl="1" xbr="5" ybr="5"/>'
            b'<mask label="tree" rle="1, 2, 1" left="3" top="4" width="2" height="2"/></image></annotations>'
        )
    else:
        source = file = coco(tmp_path)
        text = file.read_bytes()
    rng = np.random.default_rng(1)
    for k in range(TRIALS):
        file.write_bytes(mutations.damaged(rng, text))
        tried(Reading(source, format=kind, images=tmp_path / "images"), tmp_path / f"out{k}")


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp"])
def test_vector_files_with_other_bytes(tmp_path: Path, suffix: str) -> None:
    images = georasters.save(tmp_path / "images/a.tif", georasters.ramp(20, 30)).parent
    shapes = to_wkb(
        np.array([box(400010, 5799900, 400090, 5799990), box(400050, 5799850, 400120, 5799950)], dtype=object)
    )
    names = [np.array(["lake", "field"], dtype=object)]
    file = tmp_path / f"labels{suffix}"
    drivers = {".geojson": "GeoJSON", ".gpkg": "GPKG", ".shp": "ESRI Shapefile"}
    write(file, shapes, names, ["kind"], driver=drivers[suffix], geometry_type="Polygon", crs=georasters.UTM)
    whole = file.read_bytes()
    rng = np.random.default_rng(2)
    for k in range(TRIALS):
        file.write_bytes(mutations.damaged(rng, whole))
        tried(Reading(file, format="vector", images=images, attribute="kind"), tmp_path / f"out{k}")
