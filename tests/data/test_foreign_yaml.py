from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from semikit.data.label_spec import load_labels
from semikit.data.masked_images import DataSpec, Folders, load_spec
from semikit.errors import ConfigError, DataError, InputError


def written(folder: Path, **keys: Any) -> Path:
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(keys, sort_keys=False))
    return path


def folders(part: Any) -> tuple[Path, Path | None]:
    assert isinstance(part, Folders)
    return part.images, part.masks


def test_ultralytics_with_masks(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    spec = load_spec(
        written(
            tmp_path, path="set", train="images/train", val="images/val", test=None, masks_dir="masks", nc=2,
            names={0: "road", 1: "car"}, download="https://example.org",
        )
    )  # fmt: skip
    root = tmp_path / "set"
    assert folders(spec.train) == (root / "images/train", root / "masks/train")
    assert folders(spec.val) == (root / "images/val", root / "masks/val")
    assert (spec.test, spec.classes, spec.ignore) == (None, ("road", "car"), (255,))
    assert isinstance(spec, DataSpec)


def test_path_may_count_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here/sets/one").mkdir(parents=True)
    (tmp_path / "yamls").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    keys = {"path": "sets/one", "train": "train/images", "val": "valid/images", "names": ["a", "b"], "masks_dir": "m"}
    assert folders(load_spec(written(tmp_path / "yamls", **keys)).val) == (
        tmp_path / "here/sets/one/valid/images",
        tmp_path / "here/sets/one/valid/m",
    )
    moved = load_spec(written(tmp_path / "yamls", **keys), root=tmp_path / "else")
    assert moved.train.images == tmp_path / "else/train/images"
    with pytest.raises(DataError, match=r"`path: gone` is no folder here \(tried .*yamls/gone and .*here/gone\)"):
        load_spec(written(tmp_path / "yamls", **{**keys, "path": "gone"}))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({}, r"text files \(YOLO\).*\nsemikit data convert .*data\.yaml -o "),
        ({}, r"masks already, name their folder as ultralytics does: masks_dir: masks\."),
        ({"train": "tr/i"}, r"classes: in place of names:\ntrain: \{images: .*tr/i, masks: FOLDER\}\nval: \{images: "),
        ({"masks_dir": "m", "train": ["images/a", "images/b"]}, "train names several places"),
        ({"masks_dir": "m", "train": "train.txt"}, r"train\.txt is a list of files"),
        ({"masks_dir": "m", "train": "photos"}, r"has none\. Write, for each part, train: \{images: .*photos"),
        ({"masks_dir": "m", "nc": 3}, "nc is 3, but `names` has 2 entries"),
        ({"masks_dir": "m", "kpt_shape": [17, 3]}, "unknown key 'kpt_shape'"),
    ],
)
def test_what_is_not_exact_is_answered(tmp_path: Path, keys: dict[str, Any], sentence: str) -> None:
    base = {"train": "images/train", "val": "images/val", "names": ["a", "b"]}
    with pytest.raises(InputError, match=sentence):
        load_spec(written(tmp_path, **{**base, **keys}))


def test_names_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nc is 2, but `names` says no name"):
        load_spec(written(tmp_path, train="images/train", val="images/val", nc=2))


PARTS = {part: {"images": f"{part}/images", "masks": f"{part}/masks"} for part in ("train", "val")}


def test_lightly_train_with_stored_numbers(tmp_path: Path) -> None:
    classes = {0: {"name": "void", "labels": [0, 9]}, 4: {"name": "road", "values": [4, 5]}, 7: "car"}
    spec = load_spec(written(tmp_path, **PARTS, classes=classes, ignore_classes=[0]))
    assert spec.classes == ("road", "car")
    assert (spec.ignore, spec.mapping) == ((0, 9), {4: 0, 5: 0, 7: 1})
    assert folders(spec.train) == (tmp_path / "train/images", tmp_path / "train/masks")


def test_lightly_train_with_plain_classes(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path, **PARTS, classes={0: "road", 1: "car", 2: "void"}, ignore_classes=[2]))
    assert (spec.classes, spec.ignore, spec.mapping) == (("road", "car"), (2,), {})


def test_lightly_train_with_colours(tmp_path: Path) -> None:
    classes = {
        0: {"name": "road", "labels": [[128, 64, 128]]},
        1: {"name": "void", "values": [[0, 0, 0], [1, 1, 1]]},
        2: {"name": "car", "labels": [[0, 0, 142]]},
    }
    spec = load_spec(written(tmp_path, **PARTS, classes=classes, ignore_classes=[1]))
    assert spec.colors == {"road": (128, 64, 128), "car": (0, 0, 142)}
    assert (spec.classes, spec.ignore_colors) == (("road", "car"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(ConfigError, match="void: several colours; of each class one is read"):
        load_spec(written(tmp_path, **PARTS, classes=classes))


def test_classes_of_images(tmp_path: Path) -> None:
    spec = load_labels(written(tmp_path, path=str(tmp_path), train="train", val="val", names={0: "cat", 1: "dog"}))
    assert spec.classes == ("cat", "dog")
    assert spec.train.images == tmp_path / "train"
    spec = load_labels(written(tmp_path, train="train", val="val", classes={0: "cat", 1: "dog"}))
    assert spec.classes == ("cat", "dog")
