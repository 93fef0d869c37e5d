from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semikit.data.palette import palette
from semikit.errors import DataError, InputError
from semikit.run.data_check import task_of
from tests.helpers import georasters, photos
from tests.helpers import label_files as lf

Call = Callable[..., Any]


def coco_labels(folder: Path) -> Path:
    """Four photos, two of them labelled for training, one for validation."""
    outline = {"image_id": 1, "category_id": 10, "segmentation": [[2, 2, 20, 2, 20, 20, 2, 20]]}
    for k, name in enumerate("abcd"):
        lf.photo(folder / f"photos/{name}.jpg", 32, 40, seed=k)
    both = [outline, {**outline, "image_id": 2}]
    lf.coco(folder / "labels/train.json", [("a.jpg", 32, 40), ("b.jpg", 32, 40)], both, ["car"])
    lf.coco(folder / "labels/val.json", [("c.jpg", 32, 40)], [outline], ["car"])
    return folder / "labels"


def test_labels_are_converted_and_what_is_written_can_be_trained_on(semikit: Call, tmp_path: Path) -> None:
    source = coco_labels(tmp_path)
    arguments = ("data", "convert", source, "--to", "masks", "--images", tmp_path / "photos", "-o", "out")
    answer = semikit(*arguments)
    assert answer.code == 0, answer.err
    assert "3 masks written; 2 classes: background, car" in answer.out
    assert "next: semikit data check out/data.yaml" in answer.out
    answer = semikit("train", "seg", "--data", "out/data.yaml", *photos.FLAGS, "--iterations", "1", "--dry-run")
    assert answer.code == 0, answer.err
    counted = [line.replace("│", " ").split() for line in answer.out.splitlines()]
    assert {"background": "2", "car": "2"}.items() <= {line[0]: line[1] for line in counted if len(line) > 3}.items()
    answer = semikit(*arguments)
    assert "0 masks written, 3 were there" in answer.out


def test_the_command_that_is_shown_can_be_typed(semikit: Call, photo_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(photo_data.parent, tmp_path / "my photos") / photo_data.name
    answer = semikit("data", "check", data)
    assert answer.code == 0, answer.err
    shown = next(line for line in answer.out.splitlines() if "next: semikit train" in line)
    words = shlex.split(shown.partition("next: semikit ")[2])
    answer = semikit(*words, *photos.FLAGS, "--iterations", "1", "--dry-run")
    assert answer.code == 0, answer.err


def test_what_labels_are_converted_to_is_said(semikit: Call, tmp_path: Path) -> None:
    answer = semikit("data", "convert", tmp_path, "--to", "coco", "-o", "out")
    assert answer.code == 2
    assert "converted to masks" in answer.err


def test_data_are_checked_without_a_model_and_shown_on_a_sheet(semikit: Call, photo_data: Path) -> None:
    answer = semikit("data", "check", photo_data, "-o", "sheet.png")
    assert answer.code == 0, answer.err
    assert "segmentation" in answer.out
    assert "images that hold each class" in answer.out
    assert f"The data are fine. next: semikit train seg --data {photo_data}" in answer.out
    with Image.open("sheet.png") as image:
        shown = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert set(map(tuple, palette(3)[:3].tolist())) <= shown  # in the legend


def test_all_that_is_wrong_with_data_is_said(semikit: Call, tmp_path: Path) -> None:
    data = photos.write(tmp_path / "photos")
    damaged = tmp_path / "photos/train/images/train3.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    photos.save(tmp_path / "photos/train/masks/train1.png", np.full((40, 48), 77))
    answer = semikit("data", "check", data, "-o", "sheet.png")
    assert answer.code == 2
    assert "2 problems with the data" in answer.err
    assert not Path("sheet.png").exists()
    assert semikit("data", "check", data, "-o", "missing/sheet.png").code == 2


def test_pairs_and_classes_are_shown_too(semikit: Call, tmp_path: Path) -> None:
    seeds = count()
    for part in ("train", "val"):
        for k in range(2):
            for date in "AB":
                lf.photo(tmp_path / f"pairs/{part}/{date}/{k}.png", 40, 48, seed=next(seeds))
            mask = np.zeros((40, 48), np.uint8)
            mask[8:20, 8:20] = 255
            photos.save(tmp_path / f"pairs/{part}/label/{k}.png", mask)
            for name in ("cat", "dog"):
                lf.photo(tmp_path / f"animals/{part}/{name}/{part}{k}.jpg", 40, 48, seed=next(seeds))
    for folder, task in (("pairs", "change detection"), ("animals", "classification")):
        answer = semikit("data", "check", tmp_path / folder, "-o", f"{folder}.png")
        assert answer.code == 0, answer.err
        assert task in answer.out
        assert Path(f"{folder}.png").is_file()


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("train: {images_a: a, images_b: b}", "cd"),
        ("train: {images: a, masks: b}", "seg"),
        ("train: labels.csv", "cls"),
        ("train: {labels: labels.csv}", "cls"),
        ("train: {images: animals}", "cls"),
        ("train: images/train\nnames: [a, b]", "seg"),
        ("train: pairs", "cd"),
        ("train: photos", "seg"),
        ("train: animals", "cls"),
        ("{path: set, train: images/train, val: images/val, names: [a, b]}", "seg"),
    ],
)
def test_the_task_is_that_of_the_description(tmp_path: Path, text: str, task: str) -> None:
    for folder in ("pairs/A", "pairs/B", "photos/images", "animals/cat"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "my.yaml").write_text(text)
    assert task_of(tmp_path / "my.yaml") == task


@pytest.mark.parametrize("places", [("images/train", "masks/train"), ("train", "trainannot"), ("images", "masks")])
def test_folders_with_masks_are_of_segmentation(tmp_path: Path, places: tuple[str, str]) -> None:
    for place in places:
        (tmp_path / place).mkdir(parents=True)
    assert task_of(tmp_path) == "seg"


def test_a_description_without_a_task_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("val: 0.2\n")
    with pytest.raises(InputError, match="name the task"):
        task_of(tmp_path / "my.yaml")
    with pytest.raises(DataError, match="no such file"):
        task_of(tmp_path / "other.yaml")


def test_a_draft_is_written_and_checked_and_nothing_is_overwritten(semikit: Call, photo_data: Path) -> None:
    answer = semikit("data", "init", photo_data.parent, "-o", "my.yaml")
    assert answer.code == 0, answer.err
    assert "next: semikit data check my.yaml" in answer.out
    text = Path("my.yaml").read_text()
    assert "train: {images: " in text
    assert "test: {images: " in text
    assert semikit("data", "init", photo_data.parent, "-o", "my.yaml").code == 2
    assert semikit("data", "init", photo_data.parent, "-o", "my.yaml", "--overwrite").code == 0
    assert semikit("data", "check", "my.yaml").code == 0


def test_polygons_on_a_map_are_converted_for_pairs(semikit: Call, tmp_path: Path) -> None:
    for date in ("before", "after"):
        for part in ("train", "val"):
            georasters.save(tmp_path / date / part / f"{part}.tif", georasters.ramp(40, 40) // (1 + len(part)))
    ring = [[400050, 5799950], [400150, 5799950], [400150, 5799850], [400050, 5799850], [400050, 5799950]]
    shape = {"type": "Feature", "properties": {"kind": "new"}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    source = tmp_path / "changes.geojson"
    source.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [shape]}))
    flags = ("--images", tmp_path / "before", "--images-b", tmp_path / "after", "--attribute", "kind", "-o", "out")
    answer = semikit("data", "convert", source, *flags, "--classes", "same,new", "--background", "same")
    assert answer.code == 0, answer.err
    assert "2 masks written; 2 classes: same, new" in answer.out
    assert "next: semikit data check out/data.yaml" in answer.out
    answer = semikit("data", "check", "out/data.yaml")
    assert answer.code == 0, answer.err
    assert "change detection" in answer.out


def test_the_command_that_comes_next_can_be_typed_where_every_image_is_labelled(semikit: Call, tmp_path: Path) -> None:
    seeds = count()
    for part in ("train", "val"):
        for k in range(4):
            for date in "AB":
                lf.photo(tmp_path / f"pairs/{part}/{date}/{k}.png", 40, 48, seed=next(seeds))
            lf.photo(tmp_path / f"photos/{part}/images/{k}.png", 40, 48, seed=next(seeds))
            mask = np.zeros((40, 48), np.uint8)
            mask[8:20, 8:20] = 1
            photos.save(tmp_path / f"photos/{part}/masks/{k}.png", mask)
            photos.save(tmp_path / f"pairs/{part}/label/{k}.png", 255 * mask)
            for name in ("cat", "dog"):
                lf.photo(tmp_path / f"animals/{part}/{name}/{part}{k}.jpg", 40, 48, seed=next(seeds))
    (tmp_path / "my.yaml").write_text(
        "train: {images: photos/train/images, masks: photos/train/masks}\n"
        "val: {images: photos/val/images, masks: photos/val/masks}\nclasses: [ground, house]\n"
    )
    for data, task in (("my.yaml", "seg"), ("pairs", "cd"), ("animals", "cls")):
        answer = semikit("data", "check", tmp_path / data)
        assert f"--data {tmp_path / data} --labels 1/2" in answer.out
        words = answer.out.replace("\n", " ").rpartition("next: semikit ")[2].split()
        flags = [] if task == "cls" else photos.FLAGS
        answer = semikit(*words, *flags, "--weights", "none", "--iterations", "1", "--dry-run")
        assert answer.code == 0, (task, answer.err)


def test_the_command_that_comes_next_has_the_root_that_was_given(semikit: Call, tmp_path: Path) -> None:
    rows = [f"{name}{k}.png,{name}" for name in ("cat", "dog") for k in range(4)]
    for k, row in enumerate(rows):
        lf.photo(tmp_path / "images" / row.partition(",")[0], 40, 48, seed=k)
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    answer = semikit("data", "check", tmp_path / "labels.csv", "--root", tmp_path / "images")
    assert f"--data {tmp_path / 'labels.csv'} --root {tmp_path / 'images'} --labels 1/2" in answer.out
