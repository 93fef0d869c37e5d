from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semikit.data.image_pairs import open_pair_folders
from semikit.data.label_spec import load_labels
from semikit.data.masked_images import load_spec, open_folders
from semikit.data.pair_spec import load_pairs
from semikit.data.survey.draft import Draft, draft
from semikit.errors import ConfigError, DataError
from semikit.run.data_check import task_of
from tests.helpers import georasters
from tests.helpers import label_files as lf

RNG = np.random.default_rng(0)
SEEDS = count(100)


def mask(path: Path, values: list[int] | tuple[int, ...] = (0, 1, 2)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.choice(values, (12, 16)).astype(np.uint8)).save(path)


def drafted(folder: Path) -> tuple[Draft, Path]:
    target = folder.parent / "my.yaml"
    made = draft(folder, target)
    target.write_text(made.text, encoding="utf-8")
    return made, target


def counts(yaml: Path) -> dict[str, tuple[int, int]]:
    """Images and masks of each part of what was drafted."""
    parts = open_folders(load_spec(yaml))
    return {
        name: (len(part), sum(part.has_target(k) for k in range(len(part)))) for name, part in parts.named().items()
    }


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{part}/images/{k}.jpg", "{part}/masks/{k}.png"),
        ("images/{part}/{k}.jpg", "annotations/{part}/{k}.png"),
        ("{part}/{k}.png", "{part}annot/{k}.png"),
        ("{part}/{k}.jpg", "{part}_labels/{k}_L.png"),
        ("leftImg8bit/{part}/city{k}/x_{k}_leftImg8bit.png", "gtFine/{part}/city{k}/x_{k}_gtFine_labelIds.png"),
    ],
)
def test_usual_layouts_of_images_with_masks(tmp_path: Path, images: str, masks: str) -> None:
    data = tmp_path / "data"
    for part, many in (("train", 4), ("val", 2)):
        for k in range(many):
            lf.photo(data / images.format(part=part, k=f"{part[0]}{k}"), seed=next(SEEDS))
            if (part, k) != ("train", 3):
                mask(data / masks.format(part=part, k=f"{part[0]}{k}"))
    made, yaml = drafted(data)
    assert made.task == "seg"
    assert counts(yaml) == {"train": (4, 3), "val": (2, 2)}
    assert "4 images, 3 masks: 1 are unlabelled" in made.text
    assert load_spec(yaml).classes == ("class 0", "class 1", "class 2")
    assert task_of(yaml) == "seg"


@pytest.mark.parametrize(
    ("image", "label"), [("{k}.jpg", "{k}.png"), ("{k}.jpg", "{k}_mask.png"), ("{k}.png", "{k}_gt.png")]
)
def test_masks_beside_their_images_in_one_folder(tmp_path: Path, image: str, label: str) -> None:
    for k in range(4):
        lf.photo(tmp_path / "data" / image.format(k=k), seed=k)
        mask(tmp_path / "data" / label.format(k=k), (0, 255))
    made, yaml = drafted(tmp_path / "data")
    assert "val: 0.2" in made.text
    parts = open_folders(load_spec(yaml))
    assert (len(parts.train), all(parts.train.has_target(k) for k in range(4))) == (4, True)
    labels, valid = parts.train.target(0)
    assert valid.all()
    assert labels.max() == 1
    assert load_spec(yaml).mapping == {255: 1}


def test_values_that_are_no_class_numbers_are_mapped_and_255_is_left_out(tmp_path: Path) -> None:
    lf.photo(tmp_path / "data/images/a.png")
    mask(tmp_path / "data/masks/a.png", (0, 85, 170, 255))
    made, yaml = drafted(tmp_path / "data")
    spec = load_spec(yaml)
    assert spec.ignore == (255,)
    assert spec.mapping == {85: 1, 170: 2}
    assert "value 85:" in made.text
    assert open_folders(spec).train.target(0)[0].max() == 2


def test_names_beside_the_images_are_taken(tmp_path: Path) -> None:
    lf.photo(tmp_path / "data/images/a.png")
    mask(tmp_path / "data/masks/a.png", (0, 1))
    (tmp_path / "data/classes.txt").write_text("sky\nroad\ncar\n")
    made, yaml = drafted(tmp_path / "data")
    assert load_spec(yaml).classes == ("sky", "road", "car")
    assert "car    # value 2: not seen" in made.text
    assert "guesses" not in made.text


def test_a_list_of_names_that_does_not_fit_is_named(tmp_path: Path) -> None:
    lf.photo(tmp_path / "data/images/a.png")
    mask(tmp_path / "data/masks/a.png", (0, 1, 2))
    (tmp_path / "data/classes.txt").write_text("sky\nroad\n")
    made, yaml = drafted(tmp_path / "data")
    assert "names 2 classes, but the masks hold 3 values (0, 1, 2); the list was not used" in made.notices[0]
    assert load_spec(yaml).classes == ("class 0", "class 1", "class 2")


def test_masks_of_one_value_are_said_not_to_be_enough(tmp_path: Path) -> None:
    for k in range(3):
        lf.photo(tmp_path / f"data/images/{k}.jpg", seed=next(SEEDS))
        mask(tmp_path / f"data/masks/{k}.png", [0])
    made, _ = drafted(tmp_path / "data")
    assert "the masks that were counted hold one class ('class 0'); two are needed" in made.notices[0]


def test_a_class_called_void_does_not_count(tmp_path: Path) -> None:
    lf.photo(tmp_path / "data/images/a.png")
    mask(tmp_path / "data/masks/a.png", (0, 1, 2))
    (tmp_path / "data/classes.txt").write_text("void\nsky\nroad\n")
    spec = load_spec(drafted(tmp_path / "data")[1])
    assert (spec.classes, spec.ignore, spec.mapping) == (("sky", "road"), (0,), {1: 0, 2: 1})


def test_colours_are_listed_with_their_shares_and_names_where_they_are_known(tmp_path: Path) -> None:
    lf.photo(tmp_path / "data/images/a.png")
    pixels = np.zeros((12, 16, 3), np.uint8)
    pixels[:3] = (128, 64, 128)
    (tmp_path / "data/masks").mkdir()
    Image.fromarray(pixels).save(tmp_path / "data/masks/a.png")
    made, yaml = drafted(tmp_path / "data")
    assert load_spec(yaml).colors == {"class 0": (0, 0, 0), "class 1": (128, 64, 128)}
    assert "class 1: [128, 64, 128]    # 25.0 %" in made.text
    (tmp_path / "data/class_dict.csv").write_text("name,r,g,b\nroad,128,64,128\nvoid,0,0,0\nsky,1,2,3\n")
    _, yaml = drafted(tmp_path / "data")
    spec = load_spec(yaml)
    assert spec.classes == ("road", "sky")
    assert spec.ignore_colors == ((0, 0, 0),)
    assert "not understood" not in drafted(tmp_path / "data")[0].text.casefold()


def test_masks_saved_as_jpeg_are_not_understood_and_that_is_said(tmp_path: Path) -> None:
    lf.photo(tmp_path / "data/images/a.png")
    mask(tmp_path / "data/masks/a.jpg", (0, 100, 200))
    made = draft(tmp_path / "data", tmp_path / "my.yaml")
    assert "JPEG" in made.text
    assert any("the classes were not understood" in notice for notice in made.notices)


def test_folders_without_labels_and_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    lf.photo(data / "train/images/a.png")
    mask(data / "train/masks/a.png")
    lf.photo(data / "unlabeled/b.png", seed=1)
    lf.photo(data / "logo.png", seed=2)
    (data / "notes.docx").write_text("x")
    made, yaml = drafted(data)
    assert counts(yaml) == {"train": (1, 1), "unlabeled[0]": (1, 0)}
    assert "1 images without labels" in made.text
    assert "notes.docx" in made.text
    assert "1 images in ." in made.text


@pytest.mark.parametrize("dates", [("A", "B"), ("before", "after"), ("T1", "T2")])
def test_pairs_of_two_dates(tmp_path: Path, dates: tuple[str, str]) -> None:
    data = tmp_path / "data"
    for part, many in (("train", 3), ("val", 2)):
        for k in range(many):
            for date in dates:
                lf.photo(data / part / date / f"{k}.png", seed=next(SEEDS))
            if (part, k) != ("train", 2):
                mask(data / part / "label" / f"{k}.png", (0, 255))
    made, yaml = drafted(data)
    assert made.task == task_of(yaml) == "cd"
    parts = open_pair_folders(load_pairs(yaml))
    assert (len(parts.train), sum(parts.train.has_target(k) for k in range(3))) == (3, 2)
    assert parts.train.target(0)[0].max() == 1
    assert parts.class_names == ("unchanged", "changed")
    assert "guesses" not in made.text


def test_pairs_in_a_folder_each(tmp_path: Path) -> None:
    for k, place in enumerate(("paris", "rio", "nantes")):
        lf.photo(tmp_path / f"data/{place}/A.png", seed=2 * k)
        lf.photo(tmp_path / f"data/{place}/B.png", seed=2 * k + 1)
        if place != "rio":
            mask(tmp_path / f"data/{place}/label.png", (0, 1))
    _, yaml = drafted(tmp_path / "data")
    parts = open_pair_folders(load_pairs(yaml))
    assert list(parts.train.names) == ["nantes", "paris", "rio"]
    assert [parts.train.has_target(k) for k in range(3)] == [True, True, False]


@pytest.mark.parametrize("parts", [("train/", "val/"), ("",)])
def test_a_folder_for_each_class(tmp_path: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        for name, many in (("cat", 3), ("dog", 2)):
            for k in range(many):
                lf.photo(tmp_path / f"data/{part}{name}/{k}.jpg")
    made, yaml = drafted(tmp_path / "data")
    assert made.task == task_of(yaml) == "cls"
    assert load_labels(yaml).classes == ("cat", "dog")
    assert "# images of each class in train: cat 3, dog 2" in made.text


def test_tables_of_files_and_labels(tmp_path: Path) -> None:
    for k in range(4):
        lf.photo(tmp_path / f"data/images/{k}.jpg")
    rows = "".join(f"{k}.jpg,{'cat' if k % 2 else 'dog'}\n" for k in range(4))
    (tmp_path / "data/train.csv").write_text(f"file,label\n{rows}")
    made, yaml = drafted(tmp_path / "data")
    assert made.task == "cls"
    assert "train: {labels: data/train.csv, images: data/images}    # 4 rows" in made.text
    assert load_labels(yaml).train.labels == tmp_path / "data/train.csv"


def test_labels_of_other_programs_are_answered_with_the_command_that_converts_them(tmp_path: Path) -> None:
    lf.photo(tmp_path / "data/a.png")
    shapes = {"shapes": [], "imagePath": "a.png", "imageHeight": 12, "imageWidth": 16}
    (tmp_path / "data/a.json").write_text(json.dumps(shapes))
    with pytest.raises(ConfigError, match=r"LabelMe json.*semikit data convert .*data -o data-masks"):
        draft(tmp_path / "data", tmp_path / "my.yaml")


@pytest.mark.parametrize("kind", ["missing", "empty", "images"])
def test_what_holds_no_label_is_said(tmp_path: Path, kind: str) -> None:
    data: Any = tmp_path / "data"
    if kind != "missing":
        data.mkdir()
    if kind == "images":
        lf.photo(data / "a.png")
    with pytest.raises(DataError, match={"missing": "no such folder", "empty": "is empty"}.get(kind, "not understood")):
        draft(data, tmp_path / "my.yaml")


@pytest.mark.parametrize(
    ("folders", "form"),
    [
        (("2018", "2020"), "{images_a: data/2018, images_b: data/2020}"),
        (("photo", "segout"), "{images: data/photo, masks: data/segout}"),
        (("x", "y", "z"), "{images_a: data/x, images_b: data/y, masks: data/z}"),
        (("2018", "2020", "mask"), "{images_a: data/2018, images_b: data/2020, masks: data/mask}"),
    ],
)
def test_folders_with_the_same_names_of_files_may_be_no_classes(
    tmp_path: Path, folders: tuple[str, ...], form: str
) -> None:
    for folder in folders:
        for k in range(3):
            lf.photo(tmp_path / "data" / folder / f"{k}.png", seed=next(SEEDS))
    made, yaml = drafted(tmp_path / "data")
    assert made.task == "cls"
    assert any("files of the same names" in text and f"train: {form}" in text for text in made.notices)
    assert "# But all these folders hold" in yaml.read_text()
    lf.photo(tmp_path / "data" / folders[0] / "more.png")
    assert not drafted(tmp_path / "data")[0].notices


def test_polygons_beside_rasters_are_answered_with_the_command_that_converts_them(tmp_path: Path) -> None:
    georasters.save(tmp_path / "data/scenes/a.tif", georasters.ramp(8, 8))
    (tmp_path / "data/fields.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(ConfigError, match=r"semikit data convert .*data --images .*data/scenes -o data-masks"):
        draft(tmp_path / "data", tmp_path / "my.yaml")
