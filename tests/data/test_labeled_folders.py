from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semikit.data.label_spec import LabelSpec, load_labels
from semikit.data.labeled_images import open_labeled, unlabeled_files
from semikit.errors import DataError


def image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (value, 0, 0)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """3 cats, 2 dogs and 1 owl to learn from, one of each for validation."""
    for part, counts in (("train", {"cat": 3, "dog": 2, "owl": 1}), ("val", {"cat": 1, "dog": 1, "owl": 1})):
        for number, (name, count) in enumerate(counts.items()):
            for k in range(count):
                image(tmp_path / part / name / f"{part}{k}.png", 40 * number + k + (100 if part == "val" else 0))
    return tmp_path


def spec(root: Path, **changes: Any) -> LabelSpec:
    return LabelSpec.model_validate({"train": str(root / "train"), "val": str(root / "val"), **changes})


def test_classes_are_folders_in_the_order_of_the_alphabet(root: Path) -> None:
    parts = open_labeled(load_labels(root))
    assert parts.class_names == ("cat", "dog", "owl")
    assert list(parts.train.names) == [
        "cat/train0",
        "cat/train1",
        "cat/train2",
        "dog/train0",
        "dog/train1",
        "owl/train0",
    ]
    assert parts.train.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert parts.train.image(4)[0][0, 0].tolist() == [41, 0, 0]
    assert parts.train.files(4) == (root / "train/dog/train1.png",)
    assert parts.val.labels.tolist() == [0, 1, 2]
    assert (parts.test, parts.unlabeled) == (None, ())


def test_classes_in_an_order_of_their_own(root: Path) -> None:
    parts = open_labeled(spec(root, classes=("owl", "cat", "dog")))
    assert parts.class_names == ("owl", "cat", "dog")
    assert parts.train.labels.tolist() == [1, 1, 1, 2, 2, 0]


def test_subfolders_hidden_files_and_other_files(root: Path) -> None:
    image(root / "train/cat/more/a.JPEG")
    image(root / "train/cat/.hidden.png")
    image(root / "train/.cache/x.png")
    (root / "train/notes.txt").write_text("no image")
    (root / "train/cat/Thumbs.db").write_text("no image")
    parts = open_labeled(spec(root))
    assert parts.class_names == ("cat", "dog", "owl")
    assert parts.train.names[0] == "cat/more/a"
    assert len(parts.train) == 7


def test_unlabelled_folders_and_lists(root: Path) -> None:
    image(root / "more/b/1.png")
    image(root / "more/a/1.png")
    image(root / "other/x.png", 200)
    (root / "other/list.txt").write_text("# found\nx.png\n\n")
    parts = open_labeled(spec(root, unlabeled=[str(root / "more"), str(root / "other/list.txt")]))
    first, second = parts.unlabeled
    assert list(first.names) == ["a/1", "b/1"]
    assert first.labels.tolist() == [-1, -1]
    assert second.image(0)[0][0, 0, 0] == 200


def empty(root: Path) -> None:
    (root / "train/wolf").mkdir()


def empty_val(root: Path) -> None:
    (root / "val/dog/val0.png").unlink()


def unseen(root: Path) -> None:
    (root / "val/dog").rename(root / "val/dogs")


def beside(root: Path) -> None:
    image(root / "train/lost.png")


def flat(root: Path) -> None:
    shutil.rmtree(root / "val")
    image(root / "val/val0.png")


def gone(root: Path) -> None:
    (root / "val").rename(root / "valid")


def twice(root: Path) -> None:
    image(root / "train/cat/train1.jpg")


def one(root: Path) -> None:
    for name in ("dog", "owl"):
        shutil.rmtree(root / "train" / name)


def linked(root: Path) -> None:
    shutil.rmtree(root / "val/owl")
    (root / "val/owl").symlink_to(root / "train/owl")


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (empty, r"train: class folders without an image in .*/train: wolf\. Add images or remove the folders"),
        (empty_val, r"val: class folders without an image in .*/val: dog\."),
        (unseen, r"val \(.*\): 1 images are of classes that train does not have: 'dogs' Did you mean 'dog'\?\."),
        (beside, r"train: 1 images lie beside the class folders of .*: lost\.png"),
        (flat, r"val: .*/val has no class folders\. Put each image into a folder named after its class"),
        (gone, r"val: no such folder: .*/val\. .* has the folders: train, valid"),
        (twice, r"train: two files of one name: .*cat/train1\.png \(the other is .*train1\.jpg\)"),
        (one, r"train \(.*\): 1 class \(cat\); at least 2 are needed"),
        (linked, r"train0\.png is in both train and val"),
    ],
)
def test_wrong_folders(root: Path, harm: Any, sentence: str) -> None:
    harm(root)
    with pytest.raises(DataError, match=sentence):
        open_labeled(spec(root))


def test_a_class_without_images(root: Path) -> None:
    with pytest.raises(
        DataError, match=r"no image of the classes 'wolf', which `classes` names\. Found: cat, dog, owl"
    ):
        open_labeled(spec(root, classes=("cat", "dog", "owl", "wolf")))


def test_a_folder_that_classes_does_not_name(root: Path) -> None:
    with pytest.raises(DataError, match=r"train \(.*\): 1 images are of classes that `classes` does not have: 'owl'"):
        open_labeled(spec(root, classes=("cat", "dog")))


def test_an_empty_folder_of_unlabelled_images(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    with pytest.raises(DataError, match=r"unlabeled: no image in .*/more\. Known types: \.avif"):
        unlabeled_files(tmp_path / "more", "unlabeled")


def test_tables(root: Path) -> None:
    (root / "train.csv").write_text(
        "id;File;LABEL\n7;train/cat/train0.png;cat\n8;train/owl/train0.png;\n9;train/dog/train1.png;dog\n"
    )
    (root / "val.csv").write_text("file,label\nval/dog/val0.png,dog\n")
    parts = open_labeled(LabelSpec.model_validate({"train": str(root / "train.csv"), "val": str(root / "val.csv")}))
    assert parts.class_names == ("cat", "dog")
    assert list(parts.train.names) == ["train/cat/train0", "train/dog/train1", "train/owl/train0"]
    assert parts.train.labels.tolist() == [0, 1, -1]
    assert parts.val.labels.tolist() == [1]
    assert np.array_equal(parts.val.image(0)[0][0, 0], [140, 0, 0])


def test_a_table_in_val_needs_every_label(root: Path) -> None:
    (root / "val.csv").write_text("file,label\nval/dog/val0.png,dog\nval/cat/val0.png,\n")
    with pytest.raises(DataError, match=r"val: images without a label: val/cat/val0\. Every image that is scored"):
        open_labeled(spec(root, val=str(root / "val.csv")))
