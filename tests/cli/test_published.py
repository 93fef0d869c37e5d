"""The published data sets by name, by the commands a user types: prepare, verify, train, evaluate, predict."""

from __future__ import annotations

import importlib.util
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semikit.data.published import prepared
from semikit.data.published.catalogue import published_names, read_published
from semikit.data.published.prepared import Record
from semikit.training import tracking

Call = Callable[..., Any]
Miniature = Callable[[str], Path]

SMALL = (
    "--encoder", "resnet10t", "--weights", "none", "model.decoder_channels=8", "--iterations", "2", "--batch", "2",
    "--crop", "32", "--device", "cpu", "--workers", "0", "train.group=1",
    "model.encoder_args={layers: [1, 1, 1, 1], channels: [8, 8, 8, 8], stem_width: 8}",
)  # fmt: skip
FIRST = {
    "pascal": "JPEGImages",
    "cityscapes": "leftImg8bit/val",
    "ade20k": "images/validation",
    "coco": "val2017",
}
"""Where images to predict lie."""


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "draw_curves", lambda rows, path: Image.new("L", (1, 1)).save(path))


def done(answer: Any) -> str:
    assert answer.code == 0, answer.err
    return " ".join(answer.out.split())


@pytest.mark.parametrize("name", published_names())
def test_the_whole_way(semikit: Call, miniature: Miniature, name: str) -> None:
    root = Path("root").absolute()
    told = done(semikit("data", "prepare", name, "--source", miniature(name), "--root", root))
    assert "official lists will be refused" in told
    assert "nothing wrong was found" in done(semikit("data", "verify", name, "--root", root))
    done(semikit("train", "seg", "--dataset", name, "--root", root, "--labels", "3", *SMALL, "--out", "run"))
    results = json.loads(Path("run/results.json").read_text())
    assert results["iterations"] == 2
    assert list(results["per_class"]) == list(read_published(name).classes)
    assert results["best"]["model"] == "teacher"
    told = done(semikit("evaluate", "run", "--dataset", name, "--root", root, "--json", "scores.json"))
    scores = json.loads(Path("scores.json").read_text())
    assert scores["value"] == pytest.approx(results["best"]["value"])
    assert (scores["images"], scores["model"], scores["protocol"]) == (3, "teacher", "strict")
    assert scores["evaluation"]["window"] == ("sliding" if name == "cityscapes" else "original")
    assert scores["checkpoint"]["sha256"][:12] in told
    assert scores["checkpoint"] == results["checkpoint"]
    done(semikit("predict", "run", root / FIRST[name], "-o", "predictions"))
    predicted = sorted(Path("predictions").rglob("*.png"))
    with Image.open(predicted[0]) as image:
        assert image.mode == "P"
        colours = np.array(image.getpalette()).reshape(-1, 3)
        assert colours[1].tolist() == list(read_published(name).palette[1])


def test_more_unlabelled_images(semikit: Call, miniature: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMIKIT_DATA", str(Path.cwd() / "all"))
    for name in ("cityscapes", "coco"):
        done(semikit("data", "prepare", name, "--source", miniature(name)))
    Path("own").mkdir()
    Image.new("RGB", (64, 48)).save("own/a.png")
    extra = ("--unlabeled", "cityscapes:train_extra", "--unlabeled", "coco", "--unlabeled", "coco:unlabeled")
    done(semikit("train", "seg", "--dataset", "cityscapes", "--labels", "all", *extra, "--unlabeled", "own", *SMALL,
                 "--out", "run"))  # fmt: skip
    manifest = json.loads(Path("run/split.json").read_text())
    assert (manifest["family"], manifest["counts"]) == ("all", {"labeled": 8, "unlabeled": 4 + 8 + 4 + 1, "masked": 8})


def test_another_set_by_its_folder(semikit: Call, miniature: Miniature) -> None:
    """Its training images alone; never its masks or validation images."""
    for name in ("ade20k", "coco"):
        done(semikit("data", "prepare", name, "--source", miniature(name), "--root", Path("sets") / name))
    base = ("train", "seg", "--dataset", "ade20k", "--root", "sets/ade20k", "--labels", "3", *SMALL, "--dry-run")
    assert "3 labelled · 13 unlabelled" in done(semikit(*base, "--unlabeled", "sets/coco"))
    assert "3 labelled · 9 unlabelled" in done(semikit(*base, "--unlabeled", "sets/coco:unlabeled"))
    twice = semikit(*base, "--unlabeled", "sets/coco", "--unlabeled", "sets/coco")
    assert "is in both unlabeled[0] and unlabeled[1]" in twice.err
    own = semikit(*base, "--unlabeled", "sets/ade20k/images/validation")
    assert "is in both val and unlabeled[0]" in own.err
    prepared.begin(Path("half"))
    assert "was begun and not finished there" in semikit(*base, "--unlabeled", "half").err
    assert "give its folder, --unlabeled DIR" in semikit(*base, "--unlabeled", "pascal").err


def test_masks_that_are_not_prepared_ones(semikit: Call, miniature: Miniature) -> None:
    done(semikit("data", "prepare", "cityscapes", "--source", miniature("cityscapes"), "--root", "root"))
    for path in Path("root/gtFine").rglob("*.png"):
        Image.fromarray(np.full((48, 64), 26, np.uint8)).save(path)
    answer = semikit("train", "seg", "--dataset", "cityscapes", "--root", "root", "--labels", "3", *SMALL)
    assert answer.code == 2
    assert "`semikit data verify` tells the cause" in answer.err
    assert "mapping:" not in answer.err
    assert "They are labelIds (0-33), not trainIds" in semikit("data", "verify", "cityscapes", "--root", "root").err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dataset", "pascal", "--root", "nowhere"], "no folder"),
        (["--dataset", "pascal", "--root", "empty"], "`semikit data prepare` was not run there"),
        (["--dataset", "pascal", "--root", "half"], "was begun and not finished there"),
        (["--dataset", "coco", "--root", "root"], "was prepared for pascal, not for coco"),
        (["--dataset", "pascal", "--root", "root", "--labels", "official:92"], "only a part of PASCAL VOC 2012"),
        (["--dataset", "pascal", "--root", "root", "--labels", "9"], "only 8 of train have a mask"),
        (["--dataset", "pascal", "--root", "root", "--labels", "3", "--unlabeled", "pascal"], "these are the train"),
        (["--dataset", "pascal", "--root", "root", "--labels", "3", "--unlabeled", "pascal:more"], "unknown part"),
        (["--dataset", "shapes", "--root", "root"], "semikit data list"),
        (["--dataset", "shapes", "--labels", "official:92"], "only published data sets have official splits"),
    ],
)
def test_bad_input(semikit: Call, miniature: Miniature, arguments: list[str], told: str) -> None:
    done(semikit("data", "prepare", "pascal", "--source", miniature("pascal"), "--root", "root"))
    Path("empty").mkdir()
    prepared.begin(Path("half"))
    answer = semikit("train", "seg", *arguments, *SMALL, "--out", "run")
    assert answer.code == 2
    assert told in " ".join(answer.err.split())
    assert "Traceback" not in answer.err
    assert not Path("run").exists()


def test_files_that_vanished(semikit: Call, miniature: Miniature) -> None:
    done(semikit("data", "prepare", "pascal", "--source", miniature("pascal"), "--root", "root"))
    for path in sorted(Path("root/JPEGImages").iterdir()):
        path.unlink()
    answer = semikit("train", "seg", "--dataset", "pascal", "--root", "root", "--labels", "7", *SMALL)
    assert answer.code == 2
    assert "labelled: 7 of 14 files are missing" in answer.err
    assert "and 4 more" in answer.err


def test_scored_files_that_vanished(semikit: Call, miniature: Miniature) -> None:
    done(semikit("data", "prepare", "pascal", "--source", miniature("pascal"), "--root", "root"))
    done(semikit("train", "seg", "--dataset", "pascal", "--root", "root", "--labels", "3", *SMALL, "--out", "run"))
    for image, _ in prepared.read_list(Path("root"), "val"):
        (Path("root") / image).unlink()
    answer = semikit("evaluate", "run")
    assert answer.code == 2
    assert "scored images: 3 of 6 files are missing" in answer.err


def _lists(folder: Path) -> Path:
    with tarfile.open(Path(os.environ["SEMIKIT_TEST_DATA"]) / "official-splits.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "splits/pascal"


def _whole_pascal(root: Path, lists: Path) -> None:
    """A root with the names of all images; what lies there is one training and one validation image, linked."""
    counts = {}
    for k, (part, file) in enumerate({"train": "all/labeled.txt", "val": "val.txt"}.items()):
        pairs = [(line.split()[0], line.split()[1]) for line in (lists / file).read_text().splitlines()]
        for folder in ("JPEGImages", "SegmentationClass"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 40, 3), 100 * k, np.uint8)).save(root / f"{k}.png")
        Image.fromarray(np.full((32, 40), k + 1, np.uint8)).save(root / f"mask-{k}.png")
        for image, mask in pairs:
            (root / image).hardlink_to(root / f"{k}.png")
            (root / mask).hardlink_to(root / f"mask-{k}.png")
        prepared.write_list(root, part, pairs)
        counts[part] = len(pairs)
    for split in ("92", "183"):
        (root / "splits" / split).mkdir(parents=True)
        (root / "splits" / split / "labeled.txt").write_bytes((lists / split / "labeled.txt").read_bytes())
    prepared.finish(root, Record(dataset="pascal", counts=counts, masks="made"))


@pytest.mark.real_data
def test_an_official_split(semikit: Call, tmp_path: Path) -> None:
    lists, root = _lists(tmp_path), tmp_path / "pascal"
    root.mkdir()
    _whole_pascal(root, lists)
    arguments = ("train", "seg", "--preset", "pascal-92-dinov2-s", "--root", root, "--weights", "none")
    told = done(semikit(*arguments, "--dry-run"))
    assert "92 labelled · 10490 unlabelled · 1449 validation" in told
    assert "39300 iterations of 16 + 16 images, 60.0 epochs" in told

    list_92 = root / "splits/92/labeled.txt"
    official = list_92.read_text()
    list_92.write_bytes(official.replace("\n", " \r\n").encode())
    done(semikit(*arguments, "--dry-run"))
    list_92.write_text((lists / "183/labeled.txt").read_text())
    answer = semikit(*arguments, "--dry-run")
    assert "is the official list splits/pascal/183/labeled.txt" in answer.err
    list_92.write_text(official.replace("2010_", "2011_"))
    assert "no official list of PASCAL VOC 2012" in semikit(*arguments, "--dry-run").err
    list_92.unlink()
    assert "semikit data fetch pascal --splits" in semikit(*arguments, "--dry-run").err
    told = done(semikit(*arguments, "--dry-run", "--labels", lists / "366/labeled.txt"))
    assert "366 labelled · 10216 unlabelled" in told, "a list of one's own, in the authors' form"


@pytest.fixture(scope="module")
def released() -> ModuleType:
    path = Path(__file__).parents[1] / "models" / "test_released.py"
    spec = importlib.util.spec_from_file_location("semikit_tests_released", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_released_checkpoint(semikit: Call, miniature: Miniature, released: ModuleType) -> None:
    """Weights that are all zero leave the bias to decide, so everything is class 0."""
    state = {f"module.{name}": value for name, value in released.official("small", 21, 0.0).items()}
    state["module.head.scratch.output_conv.2.bias"] = torch.eye(21)[0]
    torch.save({"model": state, "model_ema": state, "epoch": 59, "previous_best": np.float64(79.0)}, "official.pth")
    done(semikit("data", "prepare", "pascal", "--source", miniature("pascal"), "--root", "root"))
    told = done(semikit("evaluate", "official.pth", "--dataset", "pascal", "--root", "root", "--json", "scores.json"))
    scores = json.loads(Path("scores.json").read_text())
    assert (scores["model"], scores["protocol"], scores["data"]) == ("teacher", "paper", "pascal")
    assert scores["per_class"]["background"] == pytest.approx(scores["pixel_accuracy"])
    assert "mIoU" in told
    done(semikit("data", "prepare", "coco", "--source", miniature("coco"), "--root", "coco"))
    answer = semikit("evaluate", "official.pth", "--dataset", "coco", "--root", "coco")
    assert answer.code == 2
    assert "the model knows 21 classes, the data 81" in answer.err
