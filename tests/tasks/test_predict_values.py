"""Images whose bands and values are other ones than those a model learned from: `--bands` and `--scale`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pydantic import ValidationError

from semikit.errors import ConfigError, DataError, InputError
from semikit.inference.journal import JOURNAL
from semikit.inference.map_files import MapPredict
from semikit.inference.predict_classes import ClassPredict, predict_classes
from tests.helpers import georasters
from tests.tasks.test_maps import INFERENCE, Case, blocks, opened
from tests.tasks.test_maps import case as case
from tests.tasks.test_predict_many import Counting

NAMES = ("B2, central wavelength 490 nm", "B3", "B4", "B8", "B11", "B12")
PER_BAND = {"min": (100.0, 0.0, 0.0), "max": (10300.0, 10200.0, 10200.0)}


def wide(paths: list[Path], *, reverse: bool = False) -> list[Path]:
    """The rasters as ones of six bands, of which 5, 3 and 1 hold their values times 40; first the 1 is 100 higher."""
    made = []
    for path in paths:
        with rasterio.open(path) as file:
            values, profile = file.read().astype(np.uint16) * 40, file.profile
        bands = np.full((6, *values.shape[1:]), 777, np.uint16)
        bands[[4, 2, 0]] = values
        names = NAMES
        if reverse:
            bands, names = bands[::-1], NAMES[::-1]
        out = path.parent.with_name(f"{path.parent.name}-wide") / path.name
        georasters.save(out, bands, origin=(profile["transform"].c, profile["transform"].f))
        with rasterio.open(out, "r+") as file:
            file.descriptions = names
        made.append(out)
    return made


def test_the_same_place_in_other_bands_and_units(case: Case, tmp_path: Path) -> None:
    classes = blocks(case, empty=0)
    rasters = wide(case.raster(classes))
    options: dict[str, Any] = {"bands": (5, 3, 1), "scale": (0, 10200)}
    done = case.predict(rasters, tmp_path / "map.tif", **options)
    np.testing.assert_array_equal(opened(tmp_path / "map.tif"), classes)
    assert not [text for text in done.notices if "range" in text]
    case.predict([path.parent for path in rasters], tmp_path / "maps", **options)
    np.testing.assert_array_equal(opened(tmp_path / "maps/a.tif"), classes)


def test_bands_by_their_names_wherever_they_lie(case: Case, tmp_path: Path) -> None:
    classes = blocks(case, empty=0)
    rasters = case.raster(classes)
    for reverse in (False, True):
        found = wide(rasters, reverse=reverse)
        case.predict(found, tmp_path / "map.tif", bands="B11, B4,B2", scale="0,10200")
        np.testing.assert_array_equal(opened(tmp_path / "map.tif"), classes)
    asked = (
        r"band missing: .*a\.tif \(asked for bands \['B11', 'B5', 1\], it has 6, called 'B12', 'B11', 'B8', 'B4', 'B3'"
    )
    with pytest.raises(DataError, match=rf"{asked}, 'B2'\)\. Choose `bands` from 1 to 6 or by their names"):
        case.predict(found, tmp_path / "map.tif", bands="B11,B5,1", scale="0,10200")


def test_what_does_not_fit_is_said(case: Case, tmp_path: Path) -> None:
    rasters = wide(case.raster(blocks(case, empty=0)))
    out = tmp_path / "map.tif"
    with pytest.raises(DataError, match=r"the images have 6 channels, but the model was made for 3\).*--bands 4,3,2"):
        case.predict(rasters, out)
    with pytest.raises(DataError, match="the images have 2 channels, but the model was made for 3"):
        case.predict(rasters, out, bands=(1, 2))
    with pytest.raises(DataError, match=r"asked for bands \[1, 2, 7\], it has 6, called"):
        case.predict(rasters, out, bands=(1, 2, 7))
    with pytest.raises(DataError, match="image with other bands than the range of values"):
        case.predict(rasters, out, bands=(1, 2, 3), scale={"min": (0.0, 0.0), "max": (1.0, 1.0)})
    done = case.predict(rasters, out, bands=(5, 3, 1), scale=(0, 100))
    assert [text for text in done.notices if "lie outside of the range that --scale says, 0 to 100; these" in text]


def test_one_prediction_has_one_reading_of_values(case: Case, tmp_path: Path) -> None:
    for name in ("a", "b"):
        rasters = wide(case.raster(blocks(case, empty=0), name))
    folders, out = [path.parent for path in rasters], tmp_path / "maps"
    options: dict[str, Any] = {"bands": "5,3,B2", "scale": "0,10200", "resume": True}
    case.predict(folders, out, **options)
    job = json.loads((out / JOURNAL).read_text().splitlines()[0])
    assert job["bands"] == [5, 3, "B2"]
    assert job["scale"] == {"min": 0, "max": 10200}
    assert case.predict(folders, out, **options).count == 0
    text = (
        r"otherwise: --bands \[5, 3, B2\], now --bands \[5, 3, 1\]; "
        r"--scale \{min: 0\.0, max: 10200\.0\}, now no --scale\. Give"
    )
    with pytest.raises(InputError, match=text):
        case.predict(folders, out, bands=(5, 3, 1), resume=True)


@pytest.mark.parametrize("settings", [MapPredict, ClassPredict])
def test_how_they_are_given(settings: Any) -> None:
    assert settings(bands="4, 3,2").bands == (4, 3, 2)
    assert settings(bands=[4, "B3"]).bands == (4, "B3")
    assert settings(scale="-1.5,2e3").scale.bounds == ((-1.5,), (2000.0,))
    assert settings(scale="{min: [0, 1], max: [5, 6.5]}").scale.bounds == ((0, 1), (5, 6.5))
    for wrong in ("5", "1,2,3", "a,b", "5,1", "0,.inf"):
        with pytest.raises((ValidationError, ConfigError)):
            settings(scale=wrong)
    for wrong in ("0,1,2", "", "1,,2"):
        with pytest.raises(ValidationError):
            settings(bands=wrong)


def test_classes_of_deep_rasters(tmp_path: Path) -> None:
    """Classification reads three bands of 8 bits: what others are, is said."""
    for name, value in (("low", 0), ("high", 10000)):
        values = np.full((5, 28, 28), 4000, np.uint16)
        values[[4, 0, 2]] = value
        georasters.save(tmp_path / f"in/{name}.tif", values)
    meta = {"class_names": ["sky", "road", "car"], "size": None, "side": (28, 28), "evaluate": {"batch": 2}}

    def predicted(**options: Any) -> list[str]:
        predict_classes([Counting()], meta, [str(tmp_path / "in")], tmp_path / "classes.csv", ClassPredict(**options),
                        INFERENCE, lambda *at: None)  # fmt: skip
        with (tmp_path / "classes.csv").open() as file:
            return [row["label"] for row in csv.DictReader(file)]

    plain = np.stack([np.full((28, 28, 3), value, np.uint8) for value in (255, 0)])
    expected = [meta["class_names"][k] for k in INFERENCE_OF(plain)]
    assert expected[0] != expected[1]
    assert predicted(bands="5,1,3", scale="0,10000") == expected
    with pytest.raises(DataError, match="raster that has not three bands"):
        predicted(scale="0,10000")
    assert len(predicted(bands="5,1,3")) == 1  # the other one has more than 8 bits


def INFERENCE_OF(images: Any) -> list[int]:
    """Classes of images (B, H, W, 3) by the same network."""
    from semikit.inference.windows import normalized

    return Counting()(normalized(Counting(), images, INFERENCE.device)).argmax(1).tolist()
