from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from semikit.data.masked_images import DataSpec, Folders, load_spec
from semikit.errors import DataError, FileFault
from tests.helpers.photos import save


def pair(images: Path, masks: Path | None, name: str = "a", values: tuple[int, ...] = (0, 1)) -> None:
    save(images / f"{name}.png", np.zeros((4, 4, 3)))
    if masks is not None:
        save(masks / f"{name}.png", np.resize(np.array(values), (4, 4)))


def places(part: Any, base: Path) -> tuple[str, str]:
    assert isinstance(part, Folders)
    assert part.masks is not None
    return part.images.relative_to(base).as_posix(), part.masks.relative_to(base).as_posix()


@pytest.mark.parametrize(
    ("train", "val"),
    [
        (("train/images", "train/masks"), ("val/images", "val/masks")),
        (("training/imgs", "training/annotations"), ("validation/imgs", "validation/annotations")),
        (("images/train", "masks/train"), ("images/val", "masks/val")),
        (("images/train", "labels/train"), ("images/valid", "labels/valid")),
        (("train", "trainannot"), ("val", "valannot")),
        (("train", "train_labels"), ("val", "val_labels")),
    ],
)
def test_known_layouts(tmp_path: Path, train: tuple[str, str], val: tuple[str, str]) -> None:
    for images, masks in (train, val):
        pair(tmp_path / images, tmp_path / masks)
    spec = load_spec(tmp_path)
    assert places(spec.train, tmp_path) == train
    assert places(spec.val, tmp_path) == val
    assert spec.classes == ("background", "foreground")
    assert DataSpec.model_validate(spec.model_dump(mode="json", exclude_none=True)) == spec


def test_a_folder_without_parts_holds_a_fifth_out(tmp_path: Path) -> None:
    pair(tmp_path / "images", tmp_path / "masks", values=(0, 255))
    pair(tmp_path / "unlabeled", None)
    spec = load_spec(tmp_path)
    assert places(spec.train, tmp_path) == ("images", "masks")
    assert (spec.val, spec.mapping) == (0.2, {255: 1})
    assert [part.images for part in spec.unlabeled] == [tmp_path / "unlabeled"]


def test_a_folder_that_may_be_validated_on_is_not_passed_over(tmp_path: Path) -> None:
    pair(tmp_path / "train/images", tmp_path / "train/masks")
    assert load_spec(tmp_path).val == 0.2
    pair(tmp_path / "dev/images", tmp_path / "dev/masks")
    with pytest.raises(DataError, match=r"holds dev, train, which is no layout that is known.*train/images with"):
        load_spec(tmp_path)


def test_classes_have_names_in_a_file(tmp_path: Path) -> None:
    pair(tmp_path / "images", tmp_path / "masks", values=(0, 1, 2, 255))
    (tmp_path / "classes.txt").write_text("sky\nroad\n\ncar\n")
    spec = load_spec(tmp_path)
    assert (spec.classes, spec.ignore) == (("sky", "road", "car"), (255,))


@pytest.mark.parametrize(
    ("values", "classes", "mapping", "ignore"),
    [
        ((0, 1, 2, 3), 4, None, None),
        ((0, 2, 2, 255), 3, None, [255]),
        ((1, 2, 3, 255), 3, {1: 0, 2: 1, 3: 2}, [255]),
        ((0, 40, 90, 90), 3, {0: 0, 40: 1, 90: 2}, None),
        ((0, 1, 255, 255), 2, None, [255]),
    ],
)
def test_classes_nobody_named_are_asked_for_with_the_yaml(
    tmp_path: Path, values: tuple[int, ...], classes: int, mapping: dict[int, int] | None, ignore: list[int] | None
) -> None:
    pair(tmp_path / "images", tmp_path / "masks", values=values)
    with pytest.raises(DataError) as caught:
        load_spec(tmp_path)
    told, _, text = str(caught.value).partition(":\n")
    assert f"holds the values {values[0]} ({25 * values.count(values[0])}.0 %)" in told
    written = yaml.safe_load(text)
    assert len(written["classes"]) == classes
    assert (written.get("mapping"), written.get("ignore")) == (mapping, ignore)
    (tmp_path / "data.yaml").write_text(text)
    assert load_spec(tmp_path / "data.yaml").val == 0.2, "what is told can be used as it is"
    assert load_spec(tmp_path / "data.yaml").train.images == tmp_path / "images"


def test_labels_that_are_no_masks_are_to_be_converted(tmp_path: Path) -> None:
    pair(tmp_path / "images/train", None)
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text("0 0.1 0.1 0.9 0.1 0.5 0.9\n")
    with pytest.raises(DataError, match=r"holds 1 files such as a\.txt and no mask.*data convert \S+ -o \S+-masks$"):
        load_spec(tmp_path)


def test_the_command_that_converts_labels_can_be_typed(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    pair(folder / "images", None)
    (folder / "masks").mkdir()
    (folder / "masks/a.json").write_text("{}")
    with pytest.raises(DataError) as caught:
        load_spec(folder)
    words = shlex.split(str(caught.value).partition("by: semikit ")[2])
    assert words == ["data", "convert", str(folder / "masks"), "--images", "FOLDER_OF_IMAGES", "-o", "my photos-masks"]


def test_colour_masks_are_named(tmp_path: Path) -> None:
    pair(tmp_path / "images", None)
    save(tmp_path / "masks/a.png", np.random.default_rng(0).integers(0, 255, (4, 4, 3)))
    with pytest.raises(FileFault, match="colour"):
        load_spec(tmp_path)


def test_another_layout_is_answered_with_those_that_are_known(tmp_path: Path) -> None:
    save(tmp_path / "photos/a.png", np.zeros((4, 4, 3)))
    (tmp_path / "mine.yaml").write_text("")
    with pytest.raises(DataError, match=r"holds mine\.yaml, photos, .*It holds mine\.yaml: give that as --data"):
        load_spec(tmp_path)


def test_names_of_classes_that_are_no_utf_8(tmp_path: Path) -> None:
    pair(tmp_path / "train/images", tmp_path / "train/masks")
    pair(tmp_path / "val/images", tmp_path / "val/masks", "b")
    (tmp_path / "classes.txt").write_bytes("Straße\nGehweg\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"classes\.txt is not a text file in UTF-8\. Save it as UTF-8"):
        load_spec(tmp_path)
