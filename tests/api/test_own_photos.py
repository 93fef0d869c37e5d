"""Runs on photos of many bits that lie on their side: what is learned stands in config.yaml and weights, and runs that
were begun before keep what they did.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import semikit
from semikit.errors import ConfigError, DataError, FileFault, InputError
from semikit.registry import TASKS
from semikit.run.begun import read_begun
from semikit.run.config import resolve, resumable
from semikit.run.folder import unfinished
from semikit.run.resume import read_run_config
from semikit.training.checkpoint import read_checkpoint, save_last
from tests.helpers import photos, stored

SIDEWAYS = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small photographs with values 900 to 1800 of 16 bits; one of them on its side, with its mask."""
    folder = tmp_path_factory.mktemp("data")
    path = photos.write(folder)
    for image in sorted(folder.glob("*/images/*.png")):
        values = 900 + np.asarray(Image.open(image)).astype(np.int64) * 900 // 255
        stored.png(image, values, 16, stored.RGB, SIDEWAYS if image.stem == "train1" else 1)
    return path


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = photos.raw(data)
    settings = {f"{part}.{key}": raw[part][key] for part in ("model", "views", "optimizer") for key in raw[part]}
    out = tmp_path_factory.mktemp("run") / "run"
    semikit.train(
        "seg", data=data, iterations=2, batch=2, workers=0, device="cpu", out=out,
        settings={**settings, "train.group": 2},
    )  # fmt: skip
    return out


def config(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return found


def older(run: Path, folder: Path, *, range_known: bool = True) -> Path:
    """The same run as an earlier version left it."""
    raw = config(run)
    raw["data"]["folders"].pop("orientation")
    raw["data"]["folders"]["scale"] = None
    (folder / "weights").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(raw))
    best = run / "weights/best.safetensors"
    with safe_open(best, framework="pt") as file:
        metadata = json.loads(file.metadata()["semikit"])
    for key in ("orientation", "sha256"):
        metadata.pop(key)
    if range_known:
        text = {"semikit": json.dumps({**metadata, "scale": {"min": 1.0, "max": 2.0}})}
        save_file(load_file(best), folder / "weights/best.safetensors", text)
    return folder


def test_the_sampled_range_and_the_orientation_stand_in_the_run(run: Path) -> None:
    folders = config(run)["data"]["folders"]
    low, high = folders["scale"]["min"], folders["scale"]["max"]
    assert all(880 < value < 1400 for value in low)
    assert all(1300 < value < 1850 for value in high)
    assert folders["orientation"] == "auto"
    model = semikit.load(run, "cpu")
    assert model.metadata["scale"] == {"min": low, "max": high}
    assert model.metadata["orientation"] == "viewer"
    assert "become 0 to 255" in (run / "log.txt").read_text()
    assert "1 masks fit their photo as it is stored" in (run / "log.txt").read_text()


def test_a_resumed_run_reads_the_same_range(run: Path, data: Path) -> None:
    begun = read_run_config(run, {})
    assert resumable(run, begun.to_raw(), begun) == []
    task = TASKS.get("seg").open(begun.data)
    assert task.scale.model_dump(mode="json") == config(run)["data"]["folders"]["scale"]
    folders = {**begun.to_raw()["data"]["folders"], "scale": {"min": 0, "max": 9}}
    with pytest.raises(ConfigError, match=r"data\.folders\.scale"):
        resumable(run, begun.to_raw(), read_run_config(run, {"data": {"folders": folders}}))


def test_a_restarted_run_is_found_by_the_configuration_it_was_asked_for(run: Path, tmp_path: Path) -> None:
    raw = config(run)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(raw))
    raw.pop("format")
    raw["data"]["folders"]["scale"] = None
    assert unfinished(resolve(raw), folder) == str(folder)


def test_a_run_from_before_keeps_what_it_did(run: Path, tmp_path: Path) -> None:
    folder = older(run, tmp_path / "old")
    folders = read_begun(folder)["data"]["folders"]
    assert folders["orientation"] == "stored"
    assert folders["scale"] == {"min": 1.0, "max": 2.0}
    begun, before = read_run_config(folder, {}), yaml.safe_load((folder / "config.yaml").read_text())
    before.pop("format")
    assert resumable(folder, before, begun) == []
    assert TASKS.get("seg").open(begun.data).train.image(1)[0].shape[:2] == photos.SIZE
    path = Path(folders["train"]["images"]) / "train1.png"
    assert semikit.load(folder, "cpu").predict(path).classes.shape == photos.SIZE  # type: ignore[union-attr]


def test_one_that_recorded_no_range_samples_it_as_before(run: Path, tmp_path: Path) -> None:
    folder = older(run, tmp_path / "old", range_known=False)
    begun, before = read_run_config(folder, {}), yaml.safe_load((folder / "config.yaml").read_text())
    before.pop("format")
    assert begun.data.folders.scale is None  # type: ignore[attr-defined]
    sampled = resolve({**config(run), "data": {**config(run)["data"]}})
    settled = sampled.data.folders.model_copy(update={"orientation": "stored"})  # type: ignore[attr-defined]
    now = resolve({**sampled.to_raw(), "data": sampled.data.model_copy(update={"folders": settled}).model_dump()})
    assert resumable(folder, before, now) == []


def test_evaluation_says_which_masks_it_turned(run: Path, data: Path, tmp_path: Path) -> None:
    from semikit.run.evaluate import score

    folders = {**yaml.safe_load(data.read_text()), "val": {"images": "train/images", "masks": "train/masks"}}
    folders["train"] = folders.pop("test")
    folders["scale"] = {"min": 0, "max": 3000}
    for part in ("train7", "train6"):
        assert not (data.parent / f"train/masks/{part}.png").exists()
    Image.fromarray(np.zeros(photos.SIZE, np.uint8)).save(data.parent / "train/masks/train6.png")
    Image.fromarray(np.zeros(photos.SIZE, np.uint8)).save(data.parent / "train/masks/train7.png")
    try:
        _, facts = score(run, data=folders, root=data.parent, device="cpu")
    finally:
        for part in ("train7", "train6"):
            (data.parent / f"train/masks/{part}.png").unlink()
    assert facts["notices"][0].startswith("values from 0 to 3000 become 0 to 255, while the model learned from ")
    assert facts["notices"][1].startswith("1 masks fit their photo as it is stored")


class TestPrediction:
    @pytest.fixture
    def photo(self, tmp_path: Path) -> Path:
        values = np.random.default_rng(0).integers(900, 1800, (*photos.SIZE, 3))
        return stored.png(tmp_path / "in/a.png", values, 16, stored.RGB, SIDEWAYS)

    def test_maps_lie_as_a_viewer_shows_the_photo(self, run: Path, photo: Path, tmp_path: Path) -> None:
        semikit.predict(run, photo, out=tmp_path / "out", device="cpu", overlay=True)
        for name in ("a.png", "a-overlay.png"):
            with Image.open(tmp_path / "out" / name) as image:
                assert image.size == photos.SIZE, "width and height changed places"
        ids = np.array(Image.open(tmp_path / "out/a.png"))
        np.testing.assert_array_equal(semikit.load(run, "cpu").predict(photo).classes, ids)  # type: ignore[union-attr]

    def test_images_of_pillow_are_turned_as_their_files_are(self, run: Path, tmp_path: Path) -> None:
        values = np.random.default_rng(0).integers(0, 256, (*photos.SIZE, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "a.jpg", exif=stored.exif(SIDEWAYS), quality=100)
        model = semikit.load(run, "cpu")
        with Image.open(tmp_path / "a.jpg") as image:
            by_image, turned = model.predict(image), model.predict(ImageOps.exif_transpose(image))
        by_path = model.predict(tmp_path / "a.jpg")
        np.testing.assert_array_equal(by_image.classes, by_path.classes)  # type: ignore[union-attr]
        np.testing.assert_array_equal(by_image.classes, turned.classes)  # type: ignore[union-attr]
        model.metadata["orientation"] = "stored"
        assert model.predict(tmp_path / "a.jpg").classes.shape == photos.SIZE  # type: ignore[union-attr]
        with Image.open(tmp_path / "a.jpg") as image:
            assert model.predict(image).classes.shape == photos.SIZE  # type: ignore[union-attr]

    def test_deep_images_of_pillow_are_read_as_their_files_are(self, run: Path, tmp_path: Path) -> None:
        values = np.random.default_rng(0).integers(1050, 1400, photos.SIZE).astype(np.uint16)
        path = stored.png(tmp_path / "a.png", values[..., None], 16)
        model: Any = semikit.load(run, "cpu")
        wanted = model.predict(path)
        with Image.open(path) as image:
            assert image.mode == "I;16"
            for one in (image, Image.fromarray(values.astype(np.int32)), Image.fromarray(values.astype(np.float32))):
                found = model.predict(one)
                np.testing.assert_array_equal(found.classes, wanted.classes)
                np.testing.assert_array_equal(found.confidence, wanted.confidence)
                assert found.notices == ()

    def test_arrays_of_8_bits_for_a_model_of_deep_values_are_said(self, run: Path) -> None:
        model: Any = semikit.load(run, "cpu")
        (notice,) = model.predict(np.zeros((*photos.SIZE, 3), np.uint8)).notices
        assert notice.startswith("photos of 8 bits are read as they are, while the model learned values from")
        with pytest.raises(InputError, match=r"type uint16; .* Bring values from .* to 0\.\.255 first, or give a path"):
            model.predict(np.zeros((*photos.SIZE, 3), np.uint16))

    def test_nothing_to_predict_is_refused(self, run: Path) -> None:
        model: Any = semikit.load(run, "cpu")
        with pytest.raises(InputError, match=r"an image has shape \(0, 0, 3\)"):
            model.predict(np.zeros((0, 0, 3), np.uint8))
        with pytest.raises(InputError, match="no image was given: an empty list"):
            model.predict([])

    def test_values_that_do_not_fit_the_range_are_noticed(self, run: Path, tmp_path: Path) -> None:
        values = np.random.default_rng(0).integers(20000, 30000, (*photos.SIZE, 3))
        path = stored.png(tmp_path / "in/a.png", values, 16, stored.RGB)
        done = semikit.predict(run, path, out=tmp_path / "out", device="cpu")
        assert "100% of the values lie outside of the range that was learned from" in done.notices[0]
        assert "these images hold 20" in done.notices[0]
        assert semikit.load(run, "cpu").predict(path).notices == tuple(done.notices)  # type: ignore[union-attr]

    def test_files_of_several_images_are_named(self, run: Path, tmp_path: Path) -> None:
        frames = [Image.fromarray(np.full((*photos.SIZE, 3), 80 * k, np.uint8)) for k in range(3)]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        done = semikit.predict(run, tmp_path / "a.gif", out=tmp_path / "out", device="cpu")
        assert "1 files hold several images, of which only the first is read: " in done.notices[-1]

    def test_other_bands_than_the_model_s_are_a_fault_of_the_file(self, run: Path, tmp_path: Path) -> None:
        from tests.helpers import georasters

        path = georasters.save(tmp_path / "a.tif", np.full((5, 40, 48), 1000, np.uint16))
        with pytest.raises(FileFault, match="other channels than the model learned from"):
            semikit.predict(run, path, out=tmp_path / "out", device="cpu")


def test_a_model_of_8_bits_on_deep_images_is_said(data: Path, tmp_path: Path) -> None:
    from semikit.run.config import resolve
    from semikit.run.evaluate import _range_notices

    deep = resolve(photos.raw(data)).data
    settled = TASKS.get("seg").open(deep).scale
    stated = deep.model_copy(update={"folders": deep.folders.model_copy(update={"scale": settled})})  # type: ignore[attr-defined]
    (notice,) = _range_notices({"scale": None}, stated)
    assert notice.endswith("become 0 to 255, while the model learned from 0 to 255")
    assert not _range_notices({"scale": settled.model_dump(mode="json")}, stated)


def test_a_run_whose_values_would_be_read_otherwise_is_not_gone_on_with(run: Path, tmp_path: Path) -> None:
    """An older run read the high bytes of 16-bit colour, and its checkpoint says 8 bits."""
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    raw = config(folder)
    raw["data"]["folders"].pop("orientation")
    raw["data"]["folders"]["scale"] = None
    (folder / "config.yaml").write_text(yaml.safe_dump(raw))
    (folder / "weights/best.safetensors").unlink()
    state = read_checkpoint(folder / "weights/last.ckpt")
    state["config"]["data"]["folders"].pop("orientation")
    state["config"]["data"]["folders"]["scale"] = None
    learned = dict(state["metadata"])
    save_last(folder / "weights", {**state, "metadata": {**learned, "scale": None}})
    with pytest.raises(
        DataError, match=r"trained on values from 0 to 255, and its data are read from .* now\. Restore"
    ):
        semikit.train("seg", resume=folder)
    save_last(folder / "weights", {**state, "metadata": learned})
    shutil.copy(run / "weights/best.safetensors", folder / "weights")
    (folder / "results.json").unlink()
    assert semikit.train("seg", resume=folder).results["iterations"] == 2


def test_a_run_from_before_without_a_best_keeps_the_range_of_its_checkpoint(run: Path, tmp_path: Path) -> None:
    """Whole numbers 0..255 of other types had a range that was sampled; now they are values of 8 bits."""
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    learned = {"min": [3.0, 3.0, 2.0], "max": [215.0, 214.0, 216.0]}
    raw, state = config(folder), read_checkpoint(folder / "weights/last.ckpt")
    for folders in (raw["data"]["folders"], state["config"]["data"]["folders"]):
        folders.pop("orientation")
        folders["scale"] = None
    (folder / "config.yaml").write_text(yaml.safe_dump(raw))
    (folder / "weights/best.safetensors").unlink()
    save_last(folder / "weights", {**state, "metadata": {**state["metadata"], "scale": learned}})
    assert read_begun(folder)["data"]["folders"]["scale"] == learned
    begun = read_run_config(folder, {})
    assert resumable(folder, state["config"], begun) == []
