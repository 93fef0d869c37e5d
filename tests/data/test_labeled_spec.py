from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semikit.data.label_spec import LabelledImages, LabelSpec, load_labels
from semikit.errors import ConfigError, DataError
from tests.helpers.photos import save


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    return path


def test_folders_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOS", "/photos")
    spec = load_labels(
        written(
            tmp_path,
            'train: labels.csv\nval: {images: "${PHOTOS}/val"}\ntest: {labels: test.tsv, images: pixels}\n'
            "unlabeled: [more, list.txt]\nclasses: [cat, dog]",
        )
    )
    assert spec.train.labels == tmp_path / "labels.csv"
    assert spec.train.images is None
    assert spec.val.images == Path("/photos/val")
    assert spec.test is not None
    assert (spec.test.labels, spec.test.images) == (tmp_path / "test.tsv", tmp_path / "pixels")
    assert spec.unlabeled == (tmp_path / "more", tmp_path / "list.txt")
    assert spec.classes == ("cat", "dog")


def test_paths_count_from_the_root(tmp_path: Path) -> None:
    spec = load_labels(written(tmp_path, "train: train\nval: val\nunlabeled: more"), Path("/pictures"))
    assert spec.train.images == Path("/pictures/train")
    assert spec.unlabeled == (Path("/pictures/more"),)


def test_a_written_configuration_reads_back(tmp_path: Path) -> None:
    spec = load_labels(written(tmp_path, "train: labels.csv\nval: val\nunlabeled: more"))
    assert LabelSpec.model_validate(spec.model_dump(mode="json", exclude_none=True)) == spec


def test_everything_wrong_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "train: {}\nvalid: val\nclasses: [cat, cat]")
    with pytest.raises(ConfigError) as raised:
        load_labels(path)
    told = str(raised.value)
    assert "give a folder with one subfolder for each class" in told
    assert "valid" in told
    assert "val" in told


def test_classes_twice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="class names must differ, got twice: cat"):
        load_labels(written(tmp_path, "train: train\nval: val\nclasses: [cat, dog, cat]"))


def folders(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_a_folder(tmp_path: Path) -> None:
    spec = load_labels(folders(tmp_path, "train", "val", "test", "unlabeled"))
    assert (spec.train.images, spec.val.images) == (tmp_path / "train", tmp_path / "val")
    assert spec.test is not None
    assert spec.test.images == tmp_path / "test"
    assert spec.unlabeled == (tmp_path / "unlabeled",)


def test_validation_images_need_not_be_given(tmp_path: Path) -> None:
    spec = load_labels(folders(tmp_path, "train", "test"))
    assert spec.test is not None
    assert (spec.val, spec.test.images) == (None, tmp_path / "test")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no train/, only cats, dogs\. A folder of images holds"):
        load_labels(folders(tmp_path, "cats", "dogs"))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file: .*nothing\.yaml"):
        load_labels(tmp_path / "nothing.yaml")


def test_a_folder_of_classes_alone_is_train(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save(tmp_path / name / "a.png", np.zeros((4, 4, 3)))
    assert load_labels(tmp_path).train.images == tmp_path
    (tmp_path / "valid").mkdir()
    with pytest.raises(DataError, match="has no train/"):
        load_labels(tmp_path)


def test_images_with_masks_are_no_classes(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        save(tmp_path / name / "a.png", np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match="has no train/, only images, masks"):
        load_labels(tmp_path)


def test_parts_may_be_called_otherwise(tmp_path: Path) -> None:
    for part in ("training", "valid"):
        for name in ("cat", "dog"):
            save(tmp_path / part / name / "a.png", np.zeros((4, 4, 3)))
    spec = load_labels(tmp_path)
    assert (spec.train.images, spec.val) == (tmp_path / "training", LabelledImages(images=tmp_path / "valid"))
    (tmp_path / "val").mkdir()
    assert load_labels(tmp_path).val == LabelledImages(images=tmp_path / "val"), "valid is then named as not used"
