from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semikit.core.task import Inference
from semikit.data.palette import palette
from semikit.errors import DataError
from semikit.inference.many_files import find_sources
from semikit.inference.map_files import MapPredict
from semikit.inference.pictures import class_map, overlay
from semikit.inference.predict_maps import predict_maps
from semikit.inference.scenes import SingleDates
from semikit.inference.windows import EvaluateSettings, normalized, original
from tests.helpers import photos

Make = Callable[..., Any]
INFERENCE = Inference(torch.device("cpu"), nullcontext)
METADATA: dict[str, Any] = {
    "class_names": ["sky", "road", "car"],
    "evaluate": EvaluateSettings().model_dump(mode="json"),
    "crop": 14,
    "bands": None,
    "scale": None,
}
SIZES = {"a": (30, 40), "city/b": (28, 28), "city/c": (33, 17)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        photos.save(tmp_path / "source" / f"{name}.jpg", rng.integers(0, 256, (*size, 3)))
    return tmp_path / "source"


def QUIET(what: str, done: int, total: int) -> None:
    return


def predict(network: Any, source: Path | str, out: Path, options: MapPredict | None = None, **metadata: Any) -> int:
    made = {**METADATA, **metadata}
    reader = SingleDates.of(made)
    return predict_maps([network], made, reader, [str(source)], out, options or MapPredict(), INFERENCE, QUIET).count


def test_class_numbers_with_a_palette_at_size_and_name(pointwise: Make, source: Path, tmp_path: Path) -> None:
    network = pointwise()
    assert predict(network, source, tmp_path / "out") == 3
    found = {path.relative_to(tmp_path / "out").with_suffix("").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert found == set(SIZES)
    for name, size in SIZES.items():
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert image.mode == "P"
            assert (image.height, image.width) == size
            ids = np.array(image)
            assert image.getpalette()[:9] == palette(3)[:3].flatten().tolist()
        with Image.open(source / f"{name}.jpg") as photo:
            pixels = np.array(photo)[None]
        scores = original(network, normalized(network, pixels, torch.device("cpu")))
        assert np.array_equal(ids, scores.argmax(1)[0].numpy())


@pytest.mark.parametrize("window", ["original", "sliding"])
def test_both_ways_through_an_image(pointwise: Make, source: Path, tmp_path: Path, window: str) -> None:
    """To a network that looks at each pixel alone windows make no difference."""
    how = EvaluateSettings(window=window).model_dump(mode="json")
    predict(pointwise(multiple=1), source / "a.jpg", tmp_path / window, evaluate=how)
    predict(pointwise(multiple=1), source / "a.jpg", tmp_path / "plain")
    assert (tmp_path / window / "a.png").read_bytes() == (tmp_path / "plain/a.png").read_bytes()


def test_sources(source: Path) -> None:
    assert list(find_sources(str(source / "a.jpg")).files) == ["a"]
    assert list(find_sources(str(source)).files) == ["a", "city/b", "city/c"]
    assert list(find_sources(str(source / "city/*.jpg")).files) == ["b", "c"]
    assert list(find_sources(str(source / "**/[ab].jpg")).files) == ["a", "b"]


def test_nothing_to_predict(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing to predict: '.*\*\.bmp' is no file, no folder"):
        find_sources(str(source / "*.bmp"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/a.psd").write_bytes(b"")
    with pytest.raises(DataError, match=r"no image in .* It holds a\.psd\."):
        find_sources(str(tmp_path / "empty"))


def test_a_pattern_that_fits_two_files_of_one_name(source: Path) -> None:
    photos.save(source / "city/a.png", np.zeros((14, 14, 3)))
    found = find_sources(str(source / "**/*.*"))
    assert len(found.files) == 3
    (fault,) = found.refused
    assert fault.where == f"{source}/city/a.png (the other is {source}/a.jpg)"
    every = [str(path) for path in sorted(source.rglob("*.*"))]
    assert sorted(find_sources(str(source / "**/*.*"), distinct=False).files) == every


def test_colours_of_classes_are_distinct_and_fixed() -> None:
    colours = palette(150)[:150]
    assert len({tuple(colour) for colour in colours}) == 150
    assert np.array_equal(palette(3)[:3], colours[:3])


def test_class_maps_keep_their_numbers(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    class_map(ids, palette(3)).save(tmp_path / "ids.png")
    with Image.open(tmp_path / "ids.png") as image:
        assert np.array_equal(np.array(image), ids)


def test_overlays_are_halfway_between_image_and_colour() -> None:
    image, ids = np.full((2, 2, 3), 100, dtype=np.uint8), np.zeros((2, 2), dtype=np.uint8)
    expected = np.round((100 + palette(1)[0].astype(float)) / 2)
    assert np.array_equal(np.array(overlay(image, ids, palette(1)))[0, 0], expected)
