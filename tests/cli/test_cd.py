"""Change detection by the commands a user types, and what is said of input that is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from tests.helpers import georasters, pairs

Call = Callable[..., Any]


def said(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.fixture
def train(semikit: Call) -> Call:
    def call(data: Path | str, *arguments: object) -> Any:
        return semikit("train", "cd", "--data", data, *pairs.FLAGS, "--iterations", "2", *arguments)

    return call


@pytest.fixture
def folder(pair_data: Path, tmp_path: Path) -> Path:
    """Pairs of one's own to spoil."""
    return Path(shutil.copytree(pair_data.parent, tmp_path / "data"))


class TestTheWholeWay:
    def test_photos(self, train: Call, semikit: Call, pair_data: Path) -> None:
        shown = train(pair_data, "--labels", "1/2", "--dry-run")
        assert shown.code == 0, shown.err
        assert "3 labelled · 5 unlabelled · 3 validation · 2 test" in said(shown.out)
        answer = train(pair_data, "--labels", "1/2", "--out", "run")
        assert answer.code == 0, answer.err
        assert "semikit predict run BEFORE.tif AFTER.tif -o change.tif" in said(answer.out)
        results = json.loads(Path("run/results.json").read_text())
        assert (results["task"], results["metric"], results["protocol"]) == ("cd", "IoU", "strict")
        objects = {"object_F1", "object_precision", "object_recall"}
        pixels = {"IoU", "F1", "precision", "recall", "OA", "per_class", "class_scores"}
        assert (set(results["student"]), set(results["test"])) == (pixels, pixels | objects)
        assert list(results["per_class"]) == ["unchanged", "changed"]
        with Image.open("run/images/validation.png") as picture:
            assert picture.width > picture.height * 0.5
        scored = semikit("evaluate", "run", "--split", "test", "--json", "scores.json")
        assert scored.code == 0, scored.err
        found = json.loads(Path("scores.json").read_text())
        assert found["value"] == pytest.approx(results["test"]["IoU"])
        assert {name: found[name] for name in objects} == {name: results["test"][name] for name in objects}
        assert "object_recall" in scored.out
        val = pair_data.parent / "val"
        made = semikit("predict", "run", val / "A", val / "B", "-o", "maps", "--probability")
        assert made.code == 0, made.err
        assert "3 images predicted into maps" in made.out
        with Image.open("maps/val1.png") as image:
            assert (image.mode, image.size) == ("P", (48, 40))

    def test_a_folder_of_pairs_needs_no_file(self, train: Call, pair_data: Path) -> None:
        answer = train(
            pair_data.parent, "--labels", "2", "--unlabeled", pair_data.parent / "test", "--dry-run", "--show-config"
        )
        assert answer.code == 2
        assert "is in both" in answer.err
        answer = train(pair_data.parent, "--labels", "2", "--dry-run", "--show-config")
        assert answer.code == 0, answer.err
        assert "mapping: '255': 1" in said(answer.out)

    def test_protocol_paper_chooses_on_test(self, train: Call, pair_data: Path) -> None:
        answer = train(pair_data, "--labels", "2", "--protocol", "paper", "--out", "run")
        assert answer.code == 0, answer.err
        results = json.loads(Path("run/results.json").read_text())
        assert (results["best"]["split"], results["protocol"]) == ("test", "paper")
        assert "protocol paper" in answer.out

    def test_protocol_paper_without_test_images_is_said(self, train: Call, pair_data: Path) -> None:
        for part in ("train", "val"):
            shutil.copytree(pair_data.parent / part, Path("own", part))
        answer = train("own", "--labels", "2", "--protocol", "paper", "--dry-run")
        assert answer.code == 0, answer.err
        assert "note: protocol paper: the data have no test images, so the best is chosen and scored on val" in said(
            answer.out
        )

    @pytest.mark.parametrize("method", ["supervised", "fixmatch", "unimatch_v1"])
    def test_every_method(self, train: Call, pair_data: Path, method: str) -> None:
        answer = train(pair_data, "--labels", "2", "--method", method, "--out", "run")
        assert answer.code == 0, answer.err

    def test_the_student_labels_unless_said_otherwise(self, train: Call, pair_data: Path) -> None:
        told = said(train(pair_data, "--labels", "2", "--dry-run", "--show-config").out)
        assert "teacher: student" in told
        told = said(train(pair_data, "--labels", "2", "--dry-run", "--show-config", "method.teacher=ema").out)
        assert "teacher: ema" in told
        assert "grayscale_probability: 0.0" in told

    def test_rasters(self, train: Call, semikit: Call) -> None:
        """Five uint16 bands, one date on another grid, several kinds of change."""
        rng = np.random.default_rng(0)
        for name in ("one", "two", "three"):
            before, after, labels = (np.moveaxis(v, -1, 0) if v.ndim == 3 else v for v in pairs.scene(rng, (64, 72)))
            dates = [np.concatenate([v, v[:2]]).astype(np.uint16) * 20 + 100 for v in (before, after)]
            for date, values in zip("AB", dates, strict=True):
                georasters.save(Path(f"scenes/{name}/{date}.tif"), values)
            classes = np.where(labels, 1 + (np.arange(72) > 40), 0).astype(np.uint8)
            georasters.save(Path(f"scenes/{name}/label.tif"), classes)
        georasters.save(Path("scenes/two/B.tif"), dates[1].repeat(2, 1).repeat(2, 2), pixel=5.0)
        georasters.save(Path("scenes/three/label.tif"), classes.repeat(2, 0).repeat(2, 1), pixel=5.0)
        text = (
            "{part}: {{images_a: scenes/*/A.tif, images_b: scenes/*/B.tif, masks: scenes/*/label.tif, names: [{name}]}}"
        )
        lines = [text.format(part=part, name=name) for part, name in (("train", "one, two"), ("val", "three"))]
        Path("data.yaml").write_text("\n".join([*lines, "classes: [same, house, road]", "bands: [3, 2, 1, 5]"]))
        answer = train("data.yaml", "--labels", "1", "--out", "run", "evaluate.window=sliding")
        assert answer.code == 0, answer.err
        assert "B.tif (144x128 pixels) is brought onto the grid of A.tif" in said(answer.out)
        assert "masks on another grid than date A are brought onto it:" in said(answer.out)
        results = json.loads(Path("run/results.json").read_text())
        assert list(results["per_class"]) == ["same", "house", "road"]
        flags = ("--polygons", "change.gpkg", "--overlay", "--probability", "--min-area", "50")
        made = semikit("predict", "run", "scenes/one/A.tif", "scenes/one/B.tif", "-o", "out/change.tif", *flags)
        assert made.code == 0, made.err
        with rasterio.open("scenes/one/A.tif") as first, rasterio.open("out/change.tif") as file:
            assert (file.crs, file.transform, file.shape) == (first.crs, first.transform, first.shape)
            assert file.tags()["CLASS_2"] == "road"
        assert sorted(path.name for path in Path("out").iterdir()) == [
            "change-overlay.tif", "change-probability.tif", "change.tif", "change.tif.aux.xml",
        ]  # fmt: skip
        assert Path("change.gpkg").exists()
        seen = semikit("evaluate", "run", "--window", "original")
        assert seen.code == 0, seen.err


class TestWrongInput:
    """Every one is exit code 2 and one message that says what to do."""

    def refused(self, answer: Any, *words: str) -> str:
        assert answer.code == 2, (answer.out, answer.err)
        told = said(answer.err)
        for word in words:
            assert word in told, told
        return told

    def test_different_counts_and_names(self, train: Call, folder: Path) -> None:
        (folder / "train/B/train3.png").unlink()
        self.refused(
            train(folder / "data.yaml", "--labels", "2"),
            "train: 1 of 8 images have no partner of the second date: train3.",
        )
        (folder / "train/B/other.png").write_bytes((folder / "train/B/train2.png").read_bytes())
        (folder / "train/A/train3.png").unlink()
        self.refused(
            train(folder / "data.yaml", "--labels", "2"),
            "train: 1 of 8 images have no partner of the first date: other.",
        )

    def test_different_sizes(self, train: Call, folder: Path) -> None:
        pairs.save(folder / "train/B/train1.png", np.zeros((40, 40, 3)))
        told = train(folder / "data.yaml", "--dry-run", "--method", "supervised")
        self.refused(told, "dates of other sizes", "A/train1.png 48x40", "B/train1.png 40x40", "georeferenced rasters")

    def test_no_second_date_at_all(self, train: Call, folder: Path) -> None:
        shutil.rmtree(folder / "val/B")
        self.refused(train(folder / "data.yaml"), "val.images_b: no such folder", "has the folders: A, label")

    def test_labels_0_1_where_0_255_are_declared(self, train: Call, folder: Path) -> None:
        for path in (folder / "train/label").iterdir():
            pairs.save(path, np.asarray(Image.open(path)) // 255)
        self.refused(
            train(folder / "data.yaml", "--labels", "2"),
            "mask value of a class that is stored otherwise",
            "`mapping` says that class 1 is stored as 255",
            "a plain folder is then described by a YAML file, which `semikit data init FOLDER` drafts",
            "If both occur, add 1: 1",
        )
        (folder / "own.yaml").write_text("train: train\nval: val\ntest: test\n")
        for path in [*(folder / "val/label").iterdir(), *(folder / "test/label").iterdir()]:
            pairs.save(path, np.asarray(Image.open(path)) // 255)
        answer = train(folder / "own.yaml", "--labels", "2", "--dry-run")
        assert answer.code == 0, answer.err

    def test_one_folder_for_both_dates(self, train: Call, folder: Path) -> None:
        shutil.rmtree(folder / "train/B")
        (folder / "train/B").symlink_to("A")
        self.refused(
            train(folder / "data.yaml"), "train: images_a and images_b are the same file for 8 pairs: train0, train1"
        )

    def test_rasters_that_are_odd_work_and_are_told(self, train: Call, folder: Path) -> None:
        for part in ("train", "val"):
            for k, kind in enumerate(("uint16", "uint8")):
                for date in "AB":
                    (folder / f"{part}/{date}/{part}{k}.png").unlink()
                    values = georasters.ramp(40, 48, 3, kind)
                    georasters.save(folder / f"{part}/{date}/{part}{k}.tif", values, crs=None)
        with (folder / "data.yaml").open("a") as file:
            file.write("scale: {min: 0, max: 4000}\nallow_overlap: true\n")
        answer = train(folder / "data.yaml", "--labels", "2", "--dry-run")
        assert answer.code == 0, answer.err
        told = said(answer.out)
        assert "rasters without a coordinate reference system, taken pixel by pixel:" in told
        assert "values are taken from 0 to 4000, and these rasters hold 8 bits, all dark in it:" in told

    def test_names_of_another_task(self, semikit: Call) -> None:
        self.refused(
            semikit("train", "seg", "--dataset", "levir"), "levir is a data set of another task: semikit train cd"
        )
        self.refused(
            semikit("train", "cd", "--preset", "pascal-92-dinov2-s"), "a preset of another task: semikit train seg"
        )
        Path("pairs").mkdir()
        self.refused(semikit("train", "seg", "--data", "pairs"), "pairs holds nothing, which is no layout")

    def test_labels_0_255_where_0_1_are_declared(self, train: Call, folder: Path) -> None:
        text = (folder / "data.yaml").read_text().replace("mapping: {255: 1}", "")
        (folder / "data.yaml").write_text(text)
        self.refused(train(folder / "data.yaml", "--labels", "2"), "255", "add `mapping: {255: 1}`")

    def test_other_values(self, train: Call, folder: Path) -> None:
        path = folder / "train/label/train0.png"
        pairs.save(path, np.full((40, 48), 7))
        self.refused(train(folder / "data.yaml"), "label/train0.png", "7: 1920 pixels", "`ignore: [7]`")

    def test_a_band_that_is_not_there(self, train: Call, folder: Path) -> None:
        for date in "AB":
            (folder / f"train/{date}/train0.png").unlink()
            georasters.save(folder / f"train/{date}/train0.tif", np.zeros((40, 48), np.uint8))
        with (folder / "data.yaml").open("a") as file:
            file.write("bands: [3, 2, 1]\n")
        self.refused(train(folder / "data.yaml"), "band missing", "train0.tif", "it has 1", "`bands` from 1 to 1")

    def test_a_damaged_block(self, train: Call, folder: Path) -> None:
        rng = np.random.default_rng(0)
        tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
        for date in "AB":
            (folder / f"train/{date}/train0.png").unlink()
            values = rng.integers(0, 256, (3, 40, 48), dtype=np.uint8)
            path = georasters.save(folder / f"train/{date}/train0.tif", values, **tiled)
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
        path.write_bytes(data)
        self.refused(train(folder / "data.yaml"), "unreadable or truncated image", "B/train0.tif", "rows 0 to 39")

    def test_nothing_valid(self, train: Call, folder: Path) -> None:
        for date in "AB":
            (folder / f"train/{date}/train0.png").unlink()
            values = np.full((3, 40, 48), 9 if date == "A" else 0, np.uint8)
            georasters.save(folder / f"train/{date}/train0.tif", values, nodata=0)
        self.refused(train(folder / "data.yaml"), "image without a valid pixel: train0", "nodata")

    def test_no_place_in_common(self, train: Call, folder: Path) -> None:
        for date, origin in (("A", (400000.0, 5800000.0)), ("B", (600000.0, 5800000.0))):
            (folder / f"train/{date}/train0.png").unlink()
            georasters.save(folder / f"train/{date}/train0.tif", georasters.ramp(40, 48), origin=origin)
        self.refused(
            train(folder / "data.yaml"), "dates without a place in common", "x 400000 to 400480", "x 600000 to 600480"
        )

    def test_a_folder_that_is_none_of_pairs(self, train: Call, photo_data: Path, folder: Path) -> None:
        (folder / "val").rename(folder / "dev")
        self.refused(train(folder), "has no val/", "A folder of pairs holds train/ and val/")
        self.refused(train(photo_data), "unknown key 'train.images'", "images_a")
        self.refused(train("gone.yaml"), "no such file: gone.yaml")

    def test_flags_of_another_task(self, semikit: Call, trained: Path, photo_data: Path) -> None:
        image = photo_data.parent / "val/images/val0.png"
        self.refused(
            semikit("predict", trained, image, "-o", "out", "--polygons", "a.gpkg", "--min-area", "3"),
            "--polygons a.gpkg: they are drawn from a GeoTIFF, and val0.png is a picture",
            "--format tif",
        )
        twin = photo_data.parent / "train/../val/images/val0.png"
        self.refused(semikit("predict", trained, image, twin, "-o", "out", "--fail-fast"), "two files of one name")

    def test_numbers_that_are_none_are_left_out(self, train: Call, folder: Path) -> None:
        for part in ("train", "val", "test"):
            for date in "AB":
                for path in sorted((folder / part / date).glob("*.png")):
                    values = np.moveaxis(np.asarray(Image.open(path)), -1, 0).astype(np.float32)
                    values[:, :4] = np.nan
                    georasters.save(path.with_suffix(".tif"), values)
                    path.unlink()
        answer = train(folder / "data.yaml", "--labels", "2", "--out", "run")
        assert answer.code == 0, answer.err
        assert np.isfinite(json.loads(Path("run/results.json").read_text())["best"]["value"])


def test_released_checkpoints(semikit: Call, pair_data: Path, tmp_path: Path) -> None:
    """As the authors wrote them: the tensors of a network for segmentation, of two classes."""
    keys = json.loads((Path(__file__).parents[1] / "parity/data/a1_state_dict_keys.json").read_text())["cd_small"]
    weights = {f"module.{key}": torch.zeros(shape) for key, shape in keys.items()}
    weights["module.head.scratch.output_conv.2.bias"][1] = 1.0
    path = tmp_path / "levir_5_dinov2_small.pth"
    state = {"model_ema": weights, "model": weights, "epoch": 3, "previous_best_iou": np.float64(82.0)}
    torch.save(state, path)
    val = pair_data.parent / "val"
    made = semikit("predict", path, val / "A/val0.png", val / "B/val0.png", "-o", "change.png", "--device", "cpu")
    assert made.code == 0, made.err
    with Image.open("change.png") as image:
        assert set(np.unique(np.asarray(image))) == {1}
    scored = semikit("evaluate", path, "--data", pair_data, "--device", "cpu", "--json", "scores.json")
    assert scored.code == 0, scored.err
    scores = json.loads(Path("scores.json").read_text())
    assert scores["recall"] == 100
    assert scores["value"] == scores["precision"] < 50
