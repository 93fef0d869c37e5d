from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from PIL import Image

from semikit.cli.predict import predict
from semikit.registry import TASKS
from semikit.training.checkpoint import read_best, save_best
from tests.helpers import georasters

Call = Callable[..., Any]


@pytest.fixture
def images(photo_data: Path) -> Path:
    return photo_data.parent / "val/images"


def ids(path: Path) -> Any:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image)


def test_a_folder_by_a_run(semikit: Call, trained: Path, images: Path) -> None:
    answer = semikit("predict", trained, images, "-o", "out")
    assert answer.code == 0, answer.err
    assert answer.out == "3 images predicted into out\n"
    assert sorted(path.name for path in Path("out").iterdir()) == ["val0.png", "val1.png", "val2.png"]
    found = ids(Path("out/val0.png"))
    assert found.shape == (40, 48)
    assert set(np.unique(found)) <= {0, 1, 2}


@pytest.mark.parametrize("which", ["weights/best.safetensors", "weights/last.ckpt", "weights/previous.ckpt"])
def test_by_files_of_a_run(semikit: Call, trained: Path, images: Path, tmp_path: Path, which: str) -> None:
    alone = tmp_path / Path(which).name
    shutil.copy(trained / which, alone)
    answer = semikit("predict", alone, images / "val1.png", "-o", "out", "--overlay", "--confidence")
    assert answer.code == 0, answer.err
    assert answer.out == "1 image predicted into out\n"
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "val1-confidence.png",
        "val1-overlay.png",
        "val1.png",
    ]


def test_the_best_is_the_best_wherever_it_lies(semikit: Call, trained: Path, images: Path) -> None:
    semikit("predict", trained, images, "-o", "a")
    semikit("predict", trained / "weights/best.safetensors", images, "-o", "b")
    assert all(np.array_equal(ids(path), ids(Path("b") / path.name)) for path in Path("a").iterdir())


def test_a_pattern_and_silence(semikit: Call, trained: Path, images: Path) -> None:
    answer = semikit("predict", trained, f"{images}/val[01].png", "-o", "out", "--quiet")
    assert (answer.code, answer.out) == (0, "")
    assert len(list(Path("out").iterdir())) == 2


def test_one_bad_file_of_several(semikit: Call, trained: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "in")
    (tmp_path / "in/val1.png").write_bytes(b"no image")
    answer = semikit("predict", trained, tmp_path / "in", "-o", "out")
    assert answer.code == 0, answer.err
    first, last = answer.out.splitlines()
    assert first.startswith(f"note: 1 of 3 not predicted, unreadable or truncated image: {tmp_path}/in/val1.png (")
    assert first.endswith("All are listed in out/errors.csv.")
    assert last == "2 images predicted into out"
    quiet = semikit("predict", trained, tmp_path / "in", "-o", "out", "--quiet")
    assert (quiet.code, quiet.out) == (0, "")
    assert "1 of 3 not predicted" in quiet.err
    assert semikit("predict", trained, tmp_path / "in", "-o", "fast", "--fail-fast").code == 2
    assert not Path("fast/val2.png").exists()


def test_wrong_input(semikit: Call, trained: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((trained / "weights/best.safetensors").read_bytes()[:-50])
    for arguments, told in (
        ((trained, "no*.png", "-o", "out"), "nothing to predict: 'no*.png'"),
        ((trained, images, "-o", tmp_path / "file"), "is a file; -o takes a folder"),
        ((trained, images, "-o", tmp_path / "file/out"), "cannot write to"),
        ((trained, images, "-o", images), "is one of the images to predict; it would be overwritten"),
        ((broken, images, "-o", "out"), "is damaged or not a safetensors file"),
        ((tmp_path / "file", images, "-o", "out"), "weights end in .safetensors"),
        ((trained, images, "-o", "out", "--device", "gpu"), "unknown device 'gpu'"),
        ((trained, images, "-o", "out", "--precision", "fp8"), "unknown precision 'fp8'"),
    ):
        answer = semikit("predict", *arguments)
        assert answer.code == 2, answer
        assert told in answer.err
    assert (tmp_path / "file").read_text() == "mine"
    assert not Path("out").exists()


def test_released_checkpoints(semikit: Call, images: Path, photo_data: Path, tmp_path: Path) -> None:
    """As the authors wrote them: `module.` before the names, an average, numpy numbers beside the weights."""
    keys = json.loads((Path(__file__).parents[1] / "parity/data/a1_state_dict_keys.json").read_text())["seg_small"]
    weights = {f"module.{key}": torch.zeros(shape) for key, shape in keys.items()}
    bias = weights["module.head.scratch.output_conv.2.bias"]
    bias[4] = 1.0
    path = tmp_path / "released.pth"
    torch.save({"model_ema": weights, "model": weights, "epoch": 3, "previous_best": np.float64(79.0)}, path)
    answer = semikit("predict", path, images / "val0.png", "-o", "out", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert set(np.unique(ids(Path("out/val0.png")))) == {4}
    names = ", ".join(f"c{k}" for k in range(len(bias)))
    data = tmp_path / "released.yaml"
    text = photo_data.read_text().replace("sky, road, car", names).replace(": train/", f": {photo_data.parent}/train/")
    for part in ("val", "test"):
        text = text.replace(f": {part}/", f": {photo_data.parent}/{part}/")
    data.write_text(text.replace("ignore: [9]", "ignore: [9]\nmapping: {99: 9}"))  # or class 9 would have no value
    answer = semikit("evaluate", path, "--data", data, "--device", "cpu", "--json", "scores.json")
    assert answer.code == 0, answer.err
    assert json.loads(Path("scores.json").read_text())["value"] == 0


def test_a_raster_with_a_place(semikit: Call, trained: Path, tmp_path: Path) -> None:
    source = georasters.save(tmp_path / "scene.tif", georasters.ramp(70, 90))
    flags = ("--polygons", "cover.gpkg", "--areas", "--probability", "--tile", "32", "--overlap", "8")
    flags += ("--threshold", "car=0.2", "--threshold", "road=0.9", "--min-area", "500")
    answer = semikit("predict", trained, source, "-o", "out/cover.tif", *flags)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1] == "1 image predicted into out/cover.tif"
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "cover-areas.csv", "cover-probability.tif", "cover.tif", "cover.tif.aux.xml",
    ]  # fmt: skip
    with rasterio.open("out/cover.tif") as file, rasterio.open(source) as first:
        assert (file.crs, file.transform, file.shape) == (first.crs, first.transform, first.shape)
    assert set(pyogrio.raw.read("cover.gpkg")[3][1]) <= {"sky", "road", "car"}
    flags = ("--threshold", "car=0.2", "--threshold", "road=0.9", "--min-area", "500", "--areas", "--map", "again.tif")
    answer = semikit("polygons", "out/cover-probability.tif", "-o", "again.gpkg", *flags)
    assert answer.code == 0, answer.err
    assert "in again.gpkg" in answer.out
    with rasterio.open("out/cover.tif") as file, rasterio.open("again.tif") as again:
        assert (file.read(1) == again.read(1)).mean() > 0.95, "probabilities are whole percents"
    assert Path("again-areas.csv").is_file()
    answer = semikit("predict", trained, source, "-o", "out", "--format", "jpg")
    assert answer.code == 2
    assert "'tif', 'png'" in " ".join(answer.err.replace(" or ", ", ").split()), answer.err


def test_views_and_several_runs_are_averaged(semikit: Call, trained: Path, images: Path, tmp_path: Path) -> None:
    """The mean of two equal runs is the map of one; of runs that do not fit each other there is none."""
    shutil.copytree(trained, tmp_path / "again")
    flags = ("--tta", "flip+scale", "--confidence")
    semikit("predict", trained, images, "-o", "one", *flags)
    answer = semikit("predict", trained, images, "-o", "two", "--ensemble", tmp_path / "again", *flags)
    assert answer.code == 0, answer.err
    for path in Path("one").iterdir():
        with Image.open(path) as first, Image.open(Path("two", path.name)) as second:
            assert np.array_equal(np.array(first), np.array(second))
    answer = semikit("predict", trained, images, "-o", "out", "--tta", "all")
    assert answer.code == 2
    assert "'tta': expected one of 'none', 'flip', 'flip+scale', got 'all'" in " ".join(answer.err.split())
    state, metadata = read_best(trained / "weights/best.safetensors")
    for change, told in (
        ({"class_names": ["sky", "road", "bus"]}, "its classes: [sky, road, bus]; of"),
        ({"bands": [3, 2, 1]}, "its bands: [3, 2, 1]; of"),
    ):
        save_best(tmp_path / "other", state, {**metadata, **change})
        answer = semikit("predict", trained, images, "-o", "out", "--ensemble", tmp_path / "other/best.safetensors")
        assert answer.code == 2, answer
        assert told in answer.err
        assert not Path("out").exists()
    answer = semikit("predict", trained, images, "-o", "out", "--ensemble", "nothing")
    assert (answer.code, "nothing does not exist" in answer.err) == (2, True)


def test_every_wish_of_a_task_has_a_flag() -> None:
    flags = set(inspect.signature(predict).parameters) - {
        "context", "run", "sources", "out", "gpus", "device", "precision", "quiet", "ensemble",
    }  # fmt: skip
    assert flags == {field for name in TASKS.names() for field in TASKS.get(name).Predict.model_fields}


def test_no_empty_folder_is_left_behind(semikit: Call, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "there").mkdir()
    assert semikit("predict", trained, tmp_path / "bad.png", "-o", "out").code == 2
    assert not Path("out").exists()
    assert semikit("predict", trained, tmp_path / "bad.png", "-o", tmp_path / "there").code == 2
    assert (tmp_path / "there").is_dir()
