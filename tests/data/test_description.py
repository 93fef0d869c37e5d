"""What the plan says of images: sizes, bands, types and range of values, place on the map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semikit.data.description import describe
from semikit.data.formats.rescale import Scale
from semikit.data.masked_images import plain_images
from semikit.run.data_check import check_data
from tests.helpers import georasters


def test_rasters(tmp_path: Path) -> None:
    values = georasters.ramp(20, 30, bands=4, dtype="uint16")
    files = {f"{k}": georasters.save(tmp_path / f"{k}.tif", values, pixel=2.5 * k) for k in (1, 2)}
    files["3"] = georasters.save(tmp_path / "3.tif", values, crs=None)
    facts = describe(plain_images(files), range(3), 4, Scale(min=877, max=1825), held=(0.0, 12000.0))
    assert facts == {
        "images": "30 x 20 pixels · 4 bands · uint16",
        "values": "877 to 1825 become 0 to 255, what lies outside is cut · stored are 0 to 12000",
        "map": "EPSG:32633 · pixels of 2.5 metre, 5 metre · 1 of 3 have no place",
    }


def test_some_of_the_bands_and_nodata(tmp_path: Path) -> None:
    files = {}
    for bands, nodata in ((4, 0), (13, None), (13, -9999)):
        values = georasters.ramp(8, 9, bands=bands, dtype="int16")
        files[f"{nodata}"] = georasters.save(tmp_path / f"{nodata}.tif", values, nodata=nodata)
    facts = describe(plain_images(files, bands=(3, 2, 1)), range(3), 3, None)
    assert facts["images"] == "9 x 8 pixels · 3 of 4 to 13 bands · int16 · nodata -9999, 0"


def test_degrees(tmp_path: Path) -> None:
    path = georasters.save(tmp_path / "a.tif", georasters.ramp(4, 4), crs="EPSG:4326", origin=(10.0, 50.0), pixel=0.01)
    assert describe(plain_images({"a": path}), [0], 3, None)["map"] == (
        "EPSG:4326 · pixels of 0.01 degrees (about 717 x 1112 m)"
    )


@pytest.mark.parametrize(("sides", "said"), [((8, 8), "9 x 8"), ((8, 12), "9 x 8 to 12")])
def test_photos(tmp_path: Path, sides: tuple[int, int], said: str) -> None:
    files = {}
    for k, side in enumerate(sides):
        files[f"{k}"] = tmp_path / f"{k}.png"
        Image.fromarray(np.zeros((side, 9, 3), np.uint8)).save(files[f"{k}"])
    facts = describe(plain_images(files), range(2), 3, None)
    assert set(facts) == {"images", "values"}
    assert facts["images"].startswith(f"{said} pixels")


def test_of_many_some_headers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (5, 5)).save(path)
    files = {f"{k:03}": path for k in range(100)}
    assert "(of 32 of 100 labelled images)" in describe(plain_images(files), range(100), 3, None)["images"]


def test_the_check_says_which_values_are_stored(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        values = georasters.ramp(20, 30, dtype="uint16") * 40 + 7
        values[:, 0, 0] = 65535
        georasters.save(tmp_path / f"images/{name}.tif", values, nodata=65535)
        georasters.save(tmp_path / f"masks/{name}.tif", (values[0] > 2000).astype(np.uint8))
    text = "train: {images: images, masks: masks}\nval: 0.3\nclasses: [dark, bright]\nscale: {min: 0, max: 3000}\n"
    (tmp_path / "data.yaml").write_text(text)
    facts = check_data(tmp_path / "data.yaml", "seg").facts
    assert facts["images"] == "30 x 20 pixels · 3 bands · uint16 · nodata 65535"
    assert facts["values"].endswith("what lies outside is cut · stored are 87 to 5167")
    assert facts["map"] == "EPSG:32633 · pixels of 10 metre"
