"""Classification by the commands a user types, and what is said of input that is wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semikit.registry import METHODS
from tests.helpers import icons
from tests.helpers.equality import differences
from tests.helpers.tiny import one_run

Call = Callable[..., Any]

CLASSIFYING = [
    name for name in METHODS.names() if not METHODS.get(name).requirements(METHODS.get(name).Config()).pixels
]


def said(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def rows(path: str) -> list[list[str]]:
    with Path(path).open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def train(semikit: Call) -> Call:
    def call(data: Path | str, *arguments: object) -> Any:
        small = () if "--crop" in arguments else ("views.size=null",)
        return semikit("train", "cls", "--data", data, *icons.FLAGS, *small, "--iterations", "2", *arguments)

    return call


@pytest.fixture
def folder(icon_data: Path, tmp_path: Path) -> Path:
    """Images of one's own to spoil."""
    return Path(shutil.copytree(icon_data.parent, tmp_path / "data"))


class TestTheWholeWay:
    def test_small_images(self, train: Call, semikit: Call, icon_data: Path) -> None:
        shown = train(icon_data.parent, "--labels", "6", "--dry-run")
        assert shown.code == 0, shown.err
        assert "6 labelled · 24 unlabelled · 9 validation · 6 test" in said(shown.out)
        assert "labelled images of each of 3 classes: 2" in shown.out
        answer = train(icon_data.parent, "--labels", "6", "--out", "run", "--iterations", "30", "--seed", "1")
        assert answer.code == 0, answer.err
        results = json.loads(Path("run/results.json").read_text())
        assert results["metric"] == "top-1"
        assert results["test"]["top-1"] > 60
        assert list(results["per_class"]) == ["blue", "green", "red"]
        assert 0 <= results["test"]["ECE"] <= 100
        assert sorted(path.name for path in Path("run/images").iterdir()) == ["confusion.png", "validation.png"]
        assert len(Path("run/labeled.txt").read_text().split()) == 6
        assert semikit("evaluate", "run", "--tta", "flip", "--ensemble", "run").code == 0
        assert "expected one of 'none', 'flip'" in said(semikit("evaluate", "run", "--tta", "flip+scale").err)
        seen = semikit("evaluate", "run", "--split", "test", "--json", "seen.json")
        assert seen.code == 0, seen.err
        assert json.loads(Path("seen.json").read_text())["value"] == pytest.approx(results["test"]["top-1"])
        made = semikit("predict", "run", icon_data.parent / "test", "-o", "out/classes.csv", "--probability")
        assert made.code == 0, made.err
        head, *found = rows("out/classes.csv")
        assert head == ["file", "label", "probability", "blue", "green", "red"]
        right = [label == Path(file).parent.name for file, label, *_ in found]
        assert sum(right) / len(right) == pytest.approx(results["test"]["top-1"] / 100)
        assert all(sum(map(float, row[3:])) == pytest.approx(1, abs=2e-4) for row in found)

    def test_photos_of_any_size_are_streamed(self, train: Call, semikit: Call) -> None:
        rng = np.random.default_rng(0)
        for part in ("train", "val"):
            for number, name in enumerate(icons.CLASSES):
                Path(part, name).mkdir(parents=True)
                for k in range(3):
                    Image.fromarray(icons.image(rng, number, 100 + 7 * k)).save(Path(part, name, f"{k}.jpg"))
        answer = train(".", "--labels", "3", "--crop", "32", "--out", "run", "--workers", "2")
        assert answer.code == 0, answer.err
        assert "test" not in json.loads(Path("run/results.json").read_text())
        made = semikit("predict", "run", "val/red/1.jpg", "-o", "one.csv")
        assert made.code == 0, made.err
        assert len(rows("one.csv")) == 2
        told = train(".", "--labels", "3", "--dry-run")
        assert told.code == 2
        assert "views.size is not set" in told.err

    def test_a_class_that_is_not_scored_has_no_score(self, train: Call, folder: Path) -> None:
        shutil.rmtree(folder / "val/green")
        assert train(folder, "--labels", "6", "--out", "run").code == 0
        results = json.loads(Path("run/results.json").read_text())
        assert [name for name, value in results["per_class"].items() if value is None] == ["green"]
        assert list(results["test"]["per_class"]) == ["blue", "green", "red"]

    def test_several_seeds(self, train: Call, icon_data: Path) -> None:
        answer = train(icon_data, "--labels", "6", "--seeds", "0,1", "--out", "runs", "--quiet")
        assert answer.code == 0, answer.err
        summary = json.loads(Path("runs/summary.json").read_text())
        tested = [json.loads(Path(f"runs/seed-{k}/results.json").read_text())["test"]["top-1"] for k in (0, 1)]
        assert summary["test"]["values"] == tested
        assert f"top-1 over seeds [0, 1]: {sum(tested) / 2:.2f} ± " in answer.out
        assert answer.out.rstrip().endswith("(test)")

    @pytest.mark.parametrize("method", one_run(CLASSIFYING))
    def test_every_method(self, train: Call, icon_data: Path, method: str) -> None:
        answer = train(icon_data, "--labels", "6", "--method", method, "--out", "run")
        assert answer.code == 0, answer.err
        assert np.isfinite(json.loads(Path("run/results.json").read_text())["best"]["value"])

    @pytest.mark.parametrize(
        "method",
        [
            *(
                pytest.param(name, marks=pytest.mark.long)
                for name in ("freematch", "dash", "remixmatch", "shrinkmatch", "comatch")
            ),
            "comatch method.teacher=ema",
        ],
    )
    def test_resumed_it_is_the_same_run(self, train: Call, semikit: Call, icon_data: Path, method: str) -> None:
        from semikit.training.checkpoint import read_checkpoint

        flags = ("--labels", "6", "--save-every", "2", "--method", *method.split())
        assert train(icon_data, *flags, "--iterations", "4", "--out", "whole").code == 0
        shutil.copytree("whole", "part")
        shutil.copy("part/weights/previous.ckpt", "part/weights/last.ckpt")
        assert semikit("train", "cls", "--resume", "part").code == 0
        whole, part = (read_checkpoint(Path(run, "weights/last.ckpt")) for run in ("whole", "part"))
        assert whole["step"] == part["step"] == 4
        assert not differences(whole["method"], part["method"])

    def test_how_right_the_pseudo_labels_are_is_logged(self, train: Call, icon_data: Path) -> None:
        answer = train(icon_data, "--labels", "6", "--out", "run", "method.threshold=0.2")
        assert answer.code == 0, answer.err
        head, *found = rows("run/results.csv")
        values = dict(zip(head, found[-1], strict=True))
        assert float(values["confident"]) == 1.0
        assert 0 < float(values["pseudo_accuracy"]) <= 1

    def test_validation_images_are_held_out_or_the_best_is_chosen_on_test(self, train: Call, folder: Path) -> None:
        shutil.rmtree(folder / "val")
        strict = train(folder, "--labels", "6", "--dry-run")
        assert strict.code == 0, strict.err
        assert "21 unlabelled · 3 validation · 6 test" in said(strict.out)
        assert "3 images of train are held out to choose the best on" in said(strict.out)
        paper = train(folder, "--labels", "6", "--protocol", "paper", "--out", "run")
        assert paper.code == 0, paper.err
        assert "24 unlabelled · 6 validation · 6 test" in said(paper.out)
        assert json.loads(Path("run/results.json").read_text())["best"]["split"] == "test"

    def test_the_demo(self, semikit: Call) -> None:
        small = ("data.shapes={train: 64, val: 16, test: 16}", "--labels", "8", "--iterations", "2", "--device", "cpu")
        more = ("train.batch=8", "train.group=8", f"model.encoder_args={json.dumps(icons.ENCODER_ARGS)}")
        answer = semikit("demo", "cls", *small, *more, "--quiet", "--out", "out")
        assert answer.code == 0, answer.err
        assert "top-1 on the test images" in answer.out
        assert "next:        semikit train cls --data YOUR.yaml" in answer.out
        with Image.open("out/comparison.png") as image:
            image.load()


class TestWrongInput:
    """Every one is exit code 2 and one message that says what to do."""

    def refused(self, answer: Any, *words: str) -> None:
        assert answer.code == 2, (answer.out, answer.err)
        told = said(answer.err)
        for word in words:
            assert word in told, told

    def test_labels(self, train: Call, folder: Path) -> None:
        self.refused(train(folder), "how many images are labelled? Give --labels")
        self.refused(train(folder, "--labels", "7", "data.stratify=false"), "labels 7 cannot be balanced", "6, 9")
        self.refused(train(folder, "--labels", "30"), "asks for 10 of each of 3 classes, but 'blue' has 8")
        (folder / "list.txt").write_text("blue/0\nval/red/1\n")
        self.refused(train(folder, "--labels", folder / "list.txt"), "list.txt: 'val/red/1'", "of val")

    def test_folders(self, train: Call, folder: Path) -> None:
        (folder / "val/violet").mkdir()
        shutil.copy(folder / "val/red/0.png", folder / "val/violet")
        self.refused(train(folder, "--labels", "6"), "classes that train does not have: 'violet'")
        shutil.rmtree(folder / "val/violet")
        (folder / "train/empty").mkdir()
        self.refused(train(folder, "--labels", "6"), "class folders without an image", "empty")

    def test_a_table(self, train: Call, folder: Path) -> None:
        (folder / "train.csv").write_text("file,label\ntrain/red/0.png,red\ntrain/red/99.png,red\n")
        (folder / "own.yaml").write_text("train: train.csv\nval: val\n")
        self.refused(train(folder / "own.yaml", "--labels", "3"), "train.csv", "train/red/99.png")

    def test_images(self, train: Call, folder: Path) -> None:
        Image.fromarray(np.zeros((9, 16, 3), np.uint8)).save(folder / "train/red/3.png")
        self.refused(train(folder, "--labels", "all"), "image of another size than most (16x16", "red/3 (16x9)")
        Image.fromarray(np.full((16, 16), 1000, np.uint16)).save(folder / "train/red/3.png")
        self.refused(train(folder, "--labels", "all"), "image of more than 8 bits", "red/3.png")
        (folder / "train/red/3.png").write_bytes(b"nothing")
        self.refused(train(folder, "--labels", "all"), "unreadable", "red/3.png")

    def test_scored_images_of_another_size(self, train: Call, folder: Path) -> None:
        rng = np.random.default_rng(0)
        for path in (folder / "val/red").iterdir():
            Image.fromarray(icons.image(rng, 2, 20)).save(path)
        told = "those that are learned from have 16x16"
        self.refused(train(folder, "--labels", "6", "--out", "run"), "val: images of several sizes", told)
        for name in ("blue", "green"):
            shutil.rmtree(folder / "val" / name)
        self.refused(train(folder, "--labels", "6", "--out", "run"), "val: images of 20x20", told)
        assert not Path("run").exists()

    def test_a_wrong_folder_in_a_list_is_no_other_image(self, train: Call, folder: Path) -> None:
        for k in range(3):
            (folder / f"train/green/{k}.png").rename(folder / f"train/green/v{k}.png")
        (folder / "list.txt").write_text("blue/0\nred/v1\n")
        self.refused(train(folder, "--labels", folder / "list.txt"), "no image of train is named 'red/v1'")

    def test_nothing_is_left_in_train(self, train: Call, folder: Path) -> None:
        shutil.rmtree(folder / "val")
        self.refused(train(folder, "--labels", "3", "data.validation=24"), "data.validation 24 would take all images")

    def test_options_of_other_tasks(self, train: Call, semikit: Call, folder: Path) -> None:
        self.refused(train(folder, "--labels", "6", "--decoder", "dpt"), "unknown key 'decoder'")
        assert train(folder, "--labels", "6", "--out", "run").code == 0
        self.refused(semikit("predict", "run", folder / "test", "-o", "maps"), "-o maps", "a name that ends in .csv")
        self.refused(semikit("predict", "run", "a", "b", "-o", "c.csv"), "nothing to predict: 'a' is no file")
        self.refused(semikit("predict", "run", folder / "test", "-o", "c.csv", "--overlay"), "no --overlay")
        self.refused(semikit("predict", "run", "gone", "-o", "c.csv"), "nothing to predict")
