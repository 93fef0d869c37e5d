from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

from semikit.data.class_spec import folder_spec
from semikit.errors import DataError
from semikit.tasks._class_data import ClassData, open_classes


@pytest.fixture
def root(class_sets: ModuleType, tmp_path: Path) -> Path:
    for part, each in (("train", 3), ("val", 1)):
        class_sets.folders(tmp_path / "own", ("cat", "dog"), 16, each, part)
    class_sets.folders(tmp_path, ("x",), 16, 4, "more")
    return tmp_path


def test_own_folders_with_more_images(root: Path) -> None:
    data = ClassData(folders=folder_spec(root / "own"), labels="2", unlabeled=(str(root / "more"),))
    parts = open_classes(data)
    assert (len(parts.train), len(parts.val), [len(more) for more in parts.unlabeled]) == (6, 2, [4])
    assert not parts.published


def test_a_published_root_with_more_images(root: Path) -> None:
    raw = {"published": {"name": "cifar10", "root": str(root / "own")}, "labels": 2, "unlabeled": [str(root / "more")]}
    parts = open_classes(ClassData.model_validate(raw))
    assert [len(more) for more in parts.unlabeled] == [4]
    assert parts.published
    with pytest.raises(DataError, match="is in both val and --unlabeled"):
        open_classes(ClassData.model_validate({**raw, "unlabeled": [str(root / "own/val")]}))


def test_shapes() -> None:
    parts = open_classes(ClassData.model_validate({"shapes": {"train": 24, "val": 8, "test": 8}, "labels": 16}))
    assert (len(parts.train), len(parts.val), parts.unlabeled) == (24, 8, ())


def test_one_source(root: Path) -> None:
    with pytest.raises(ValidationError, match="no data given"):
        ClassData()
    with pytest.raises(ValidationError, match=r"data\.folders and data\.shapes are given together"):
        ClassData.model_validate({"folders": folder_spec(root / "own").model_dump(), "shapes": {}})
    with pytest.raises(ValidationError, match="the made images take no others"):
        ClassData.model_validate({"shapes": {}, "unlabeled": [str(root / "more")]})
