"""The published data sets by name, by the commands a user types: prepare, verify, train, evaluate, predict."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semikit.data.published import prepared
from semikit.data.published.catalogue import published_names, read_published
from semikit.data.published.prepared import Record
from tests.helpers.released import official
from tests.helpers.tars import unpack

Call = Callable[..., Any]
Miniature = Callable[[str], Path]

SMALL = (
    "--encoder", "resnet10t", "--weights", "none", "model.decoder_channels=8", "--iterations", "2", "--batch", "2",
    "--crop", "32", "--device", "cpu", "--workers", "0", "train.group=1",
    "model.encoder_args={layers: [1, 1, 1, 1], channels: [8, 8, 8, 8], stem_width: 8}",
)  # fmt: skip
TINY = ("--weights", "none", "model.encoder_args={depth: 2, embed_dim: 32, num_heads: 2}", "model.decoder_channels=8")
"""A network that a plan of the published lengths does not wait for."""
FIRST = {
    "pascal": ("JPEGImages",),
    "cityscapes": ("leftImg8bit/val",),
    "ade20k": ("images/validation",),
    "coco": ("val2017",),
}
"""Where images to predict lie; of pairs both dates."""
TELLING = ("pascal", "cityscapes", "levir", "oscd")
"""Images and pairs, whole and by windows, photographs and deep bands. `architecture/test_configs.py` prepares, trains
on and scores all of them; `data/published` tries how each is prepared and verified.
"""
SLIDING = ("cityscapes", "levir-plus", "oscd")
SCORED = {"levir": 16, "levir-plus": 2, "sysu": 2, "clcd": 2, "dsifn": 2, "oscd": 1}
"""Images of the miniatures that are scored, where they are not 3."""


def done(answer: Any) -> str:
    assert answer.code == 0, answer.err
    return " ".join(answer.out.replace("│", " ").split())


@pytest.mark.parametrize(
    "name", [name if name in TELLING else pytest.param(name, marks=pytest.mark.long) for name in published_names()]
)
def test_the_whole_way(semikit: Call, miniature: Miniature, name: str) -> None:
    root = Path("root").absolute()
    told = done(semikit("data", "prepare", name, "--source", miniature(name), "--root", root))
    known = read_published(name)
    assert ("official lists will be refused" in told) == bool(known.splits)
    assert "nothing wrong was found" in done(semikit("data", "verify", name, "--root", root))
    labels = "2" if name == "oscd" else "3"
    done(semikit("train", known.task, "--dataset", name, "--root", root, "--labels", labels, *SMALL, "--out", "run"))
    results = json.loads(Path("run/results.json").read_text())
    assert results["iterations"] == 2
    assert list(results["per_class"]) == list(known.classes)
    chosen = "student" if known.pairs else "teacher"
    assert results["best"]["model"] == chosen
    told = done(semikit("evaluate", "run", "--dataset", name, "--root", root, "--json", "scores.json"))
    scores = json.loads(Path("scores.json").read_text())
    assert scores["value"] == pytest.approx(results["best"]["value"])
    assert (scores["images"], scores["model"], scores["protocol"]) == (SCORED.get(name, 3), chosen, "strict")
    assert scores["evaluation"]["window"] == ("sliding" if name in SLIDING else "original")
    assert scores["checkpoint"]["sha256"][:12] in told
    assert scores["checkpoint"] == results["checkpoint"]
    done(semikit("predict", "run", *(root / folder for folder in FIRST.get(name, ("A", "B"))), "-o", "predictions"))
    if known.deep:
        assert len(list(Path("predictions").rglob("*.tif"))) == 6
        return
    predicted = sorted(Path("predictions").rglob("*.png"))
    with Image.open(predicted[0]) as image:
        assert image.mode == "P"
        colours = np.array(image.getpalette()).reshape(-1, 3)
        assert colours[1].tolist() == list(known.palette[1])


def test_change_detection_is_chosen_on_val_or_on_test(semikit: Call, miniature: Miniature) -> None:
    done(semikit("data", "prepare", "whu", "--source", miniature("whu"), "--root", "root"))
    train = ("train", "cd", "--dataset", "whu", "--root", "root", "--labels", "3", *SMALL)
    told = done(semikit(*train, "--protocol", "paper", "--out", "paper"))
    assert "student, iteration 2, test, protocol paper" in told
    results = json.loads(Path("paper/results.json").read_text())
    assert (results["best"]["split"], results["protocol"], "test" in results) == ("test", "paper", False)
    scores = ("evaluate", "paper", "--dataset", "whu", "--root", "root", "--split", "test", "--json", "scores.json")
    done(semikit(*scores))
    assert json.loads(Path("scores.json").read_text())["value"] == pytest.approx(results["best"]["value"])
    told = done(semikit(*train, "--protocol", "strict", "--out", "strict"))
    assert "student, iteration 2, val, protocol strict" in told
    assert "test IoU" in told
    results = json.loads(Path("strict/results.json").read_text())
    assert (results["best"]["split"], results["protocol"], results["metric"]) == ("val", "strict", "IoU")
    assert set(results["test"]) >= {"IoU", "F1", "object_F1", "OA", "per_class", "class_scores"}


def test_a_list_of_ones_own_names_pairs_as_the_official_ones_do(semikit: Call, miniature: Miniature) -> None:
    done(semikit("data", "prepare", "levir", "--source", miniature("levir-tiles"), "--root", "root"))
    Path("few.txt").write_text("train_1_7.png\ntrain_1_2.png\n")
    train = ("train", "cd", "--dataset", "levir", "--root", "root", *SMALL)
    told = done(semikit(*train, "--labels", "few.txt", "--dry-run"))
    assert "2 labelled · 6 unlabelled · 3 validation · 2 test" in told
    Path("few.txt").write_text("val_1_1.png\n")
    assert "is an image of val, not of train" in semikit(*train, "--labels", "few.txt", "--dry-run").err
    answer = semikit(*train, "--dry-run", "--labels", "official:5%")
    assert answer.code == 2
    assert "only a part of LEVIR-CD, tiles of 256 (train 8 of 7120, val 3 of 1024, test 2 of 2048 images)" in answer.err
    assert "unknown official split of levir '7%'" in semikit(*train, "--dry-run", "--labels", "official:7%").err


def test_more_unlabelled_pairs(semikit: Call, miniature: Miniature) -> None:
    for name, form in (("levir", "levir-tiles"), ("whu", "whu"), ("pascal", "pascal")):
        done(semikit("data", "prepare", name, "--source", miniature(form), "--root", Path("sets") / name))
    base = ("train", "cd", "--dataset", "levir", "--root", "sets/levir", "--labels", "3", *SMALL, "--dry-run")
    assert "3 labelled · 13 unlabelled" in done(semikit(*base, "--unlabeled", "sets/whu"))
    assert "3 labelled · 7 unlabelled" in done(semikit(*base, "--unlabeled", "sets/whu:test"))
    assert "these are the test images of levir itself" in semikit(*base, "--unlabeled", "levir:test").err
    single = "sets/pascal: these are single images; semikit train cd learns from pairs."
    assert single in semikit(*base, "--unlabeled", "sets/pascal").err
    pairs = "sets/whu: these are pairs of two dates; semikit train seg learns from single images."
    seg = ("train", "seg", "--dataset", "pascal", "--root", "sets/pascal", "--labels", "3", *SMALL, "--dry-run")
    assert pairs in semikit(*seg, "--unlabeled", "sets/whu").err


def test_pictures_that_repeat_are_taken_as_they_were_published(semikit: Call, miniature: Miniature) -> None:
    done(semikit("data", "prepare", "levir", "--source", miniature("levir-tiles"), "--root", "root"))
    for date in "AB":
        Path("root", date, "val_1_1.png").write_bytes(Path("root", date, "train_1_1.png").read_bytes())
    base = ("train", "cd", "--dataset", "levir", "--root", "root", "--labels", "3", *SMALL, "--dry-run")
    assert "learned from" not in done(semikit(*base))


def test_masks_of_0_and_1(semikit: Call, miniature: Miniature) -> None:
    """Read as 0 and 255 they would be unchanged throughout."""
    done(semikit("data", "prepare", "levir", "--source", miniature("levir-tiles"), "--root", "root"))
    for path in Path("root/label").iterdir():
        with Image.open(path) as image:
            values = np.array(image)
        Image.fromarray(values // 255).save(path)
    train = ("train", "cd", "--dataset", "levir", "--root", "root", "--labels", "3", *SMALL)
    for more in ((), ("--dry-run",)):
        answer = semikit(*train, *more)
        assert answer.code == 2
        assert "labelled: mask value of a class that is stored otherwise: " in answer.err
        assert "hold 0 (unchanged) and 255 (changed); `semikit data verify` tells the cause" in answer.err
        assert "mapping" not in answer.err
    assert "after a division by 255" in semikit("data", "verify", "levir", "--root", "root").err


def test_a_second_date_that_vanished(semikit: Call, miniature: Miniature) -> None:
    done(semikit("data", "prepare", "levir", "--source", miniature("levir-tiles"), "--root", "root"))
    for path in Path("root/B").glob("train_*.png"):
        path.unlink()
    answer = semikit("train", "cd", "--dataset", "levir", "--root", "root", "--labels", "7", *SMALL)
    assert answer.code == 2
    assert "labelled: 7 of 21 files are missing" in answer.err
    assert "root/B/train_1_" in answer.err


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
    assert "is in both unlabeled[0] and val" in own.err
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
        (["--dataset", "shapes", "--labels", "official:92"], "these data have no official splits"),
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
    unpack(Path(os.environ["SEMIKIT_TEST_DATA"]) / "official-splits.tar.xz", folder)
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


@pytest.mark.real_data("official-splits.tar.xz")
def test_an_official_split(semikit: Call, tmp_path: Path) -> None:
    lists, root = _lists(tmp_path), tmp_path / "pascal"
    root.mkdir()
    _whole_pascal(root, lists)
    arguments = ("train", "seg", "--preset", "pascal-92-dinov2-s", "--root", root, *TINY)
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


def _whole_pairs(name: str, root: Path, lists: Path) -> None:
    """A root with the names of all tiles, as prepared: one tile of each part, linked."""
    counts = {}
    for k, part in enumerate(("train", "val", "test")):
        names = (lists / f"{part}.txt").read_text().split()
        for folder, shape in (("A", (28, 28, 3)), ("B", (28, 28, 3)), ("label", (28, 28))):
            (root / folder).mkdir(exist_ok=True)
            values = np.zeros(shape, np.uint8) + (np.eye(28, dtype=np.uint8) * 255 if folder == "label" else k)
            Image.fromarray(values).save(root / f"{folder}-{part}.png")
            for file in names:
                (root / folder / file).hardlink_to(root / f"{folder}-{part}.png")
        prepared.write_list(root, part, [(f"A/{file}", f"label/{file}") for file in names])
        counts[part] = len(names)
    for split in read_published(name).splits:
        (root / "splits" / split).mkdir(parents=True)
        (root / "splits" / split / "labeled.txt").write_bytes((lists / split / "labeled.txt").read_bytes())
    prepared.finish(root, Record(dataset=name, counts=counts, masks="made"))


@pytest.mark.real_data("official-splits.tar.xz")
@pytest.mark.parametrize(
    ("preset", "told"),
    [
        pytest.param(
            "levir-5%-dinov2-s",
            ("356 labelled · 6764 unlabelled · 1024 validation · 2048 test", "50700 iterations of 8 + 8"),
            marks=pytest.mark.long,
        ),
        pytest.param(
            "whu-20%-dinov2-b",
            ("1189 labelled · 4758 unlabelled · 743 validation · 744 test", "35640 iterations of 8 + 8"),
            marks=pytest.mark.long,
        ),
    ],
)
def test_official_splits_of_pairs(semikit: Call, tmp_path: Path, preset: str, told: tuple[str, ...]) -> None:
    name, split, _ = preset.split("-", 2)
    lists, root = _lists(tmp_path).parents[1] / "remote-sensing/splits" / name, tmp_path / name
    root.mkdir()
    _whole_pairs(name, root, lists)
    answer = done(semikit("train", "cd", "--preset", preset, "--root", root, *TINY, "--dry-run"))
    assert all(text in answer for text in told)
    list_of = ("data", "split", "cd", "--dataset", name, "--root", root, "--labels", f"official:{split}")
    done(semikit(*list_of, "-o", "list.txt"))
    labelled = (lists / split / "labeled.txt").read_text().split()
    assert sorted(Path("list.txt").read_text().split()) == sorted(file.removesuffix(".png") for file in labelled)


def test_a_released_checkpoint(semikit: Call, miniature: Miniature) -> None:
    """Weights that are all zero leave the bias to decide, so everything is class 0."""
    state = {f"module.{name}": value for name, value in official("small", 21, 0.0).items()}
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
