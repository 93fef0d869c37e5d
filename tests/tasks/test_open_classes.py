from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from semikit.data.label_spec import folder_spec
from semikit.data.samples import DataParts, Samples
from semikit.errors import DataError
from semikit.tasks.cls import ClassData, open_classes
from tests.helpers import class_sets


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part, each in (("train", 3), ("val", 1)):
        class_sets.folders(tmp_path / "own", ("cat", "dog"), 16, each, part)
    class_sets.folders(tmp_path, ("x",), 16, 4, "more")
    return tmp_path


def test_own_folders_with_more_images(root: Path) -> None:
    data = ClassData(folders=folder_spec(root / "own"), labels="2", unlabeled=(str(root / "more"),))
    parts = open_classes(data, on_test=False)
    val = parts.val
    assert val is parts.val
    assert (len(parts.train), len(val), [len(more) for more in parts.unlabeled]) == (6, 2, [4])
    assert not parts.published


def test_a_published_root_with_more_images(root: Path) -> None:
    raw = {"published": {"name": "cifar10", "root": str(root / "own")}, "labels": 2, "unlabeled": [str(root / "more")]}
    parts = open_classes(ClassData.model_validate(raw), on_test=False)
    assert [len(more) for more in parts.unlabeled] == [4]
    assert parts.published
    with pytest.raises(DataError, match="is in both val and --unlabeled"):
        open_classes(ClassData.model_validate({**raw, "unlabeled": [str(root / "own/val")]}), on_test=False)


def test_shapes() -> None:
    data = ClassData.model_validate({"shapes": {"train": 24, "val": 8, "test": 8}, "labels": 16})
    parts = open_classes(data, on_test=False)
    assert (len(parts.train), len(parts.val), parts.unlabeled) == (24, 8, ())


def test_one_source(root: Path) -> None:
    with pytest.raises(ValidationError, match="no data given"):
        ClassData()
    with pytest.raises(ValidationError, match=r"data\.folders and data\.shapes are given together"):
        ClassData.model_validate({"folders": folder_spec(root / "own").model_dump(), "shapes": {}})
    with pytest.raises(ValidationError, match="generated images take no others"):
        ClassData.model_validate({"shapes": {}, "unlabeled": [str(root / "more")]})


class TestNoValidationImages:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for part, each in (("train", 20), ("test", 2)):
            class_sets.folders(tmp_path, ("cat", "dog"), 16, each, part)
        return tmp_path

    def opened(self, root: Path, *, on_test: bool = False, **more: int) -> tuple[DataParts, Samples]:
        parts = open_classes(ClassData(folders=folder_spec(root), labels="2", **more), on_test)  # type: ignore[arg-type]
        return parts, parts.val or parts.test  # type: ignore[return-value]

    def test_a_tenth_of_train_is_held_out_in_balance(self, root: Path) -> None:
        parts, val = self.opened(root)
        assert (len(parts.train), len(val)) == (36, 4)
        assert np.bincount(val.labels).tolist() == [2, 2]
        assert not set(val.names) & set(parts.train.names)
        assert set(val.names) | set(parts.train.names) == set(folder_names(root))
        assert "4 images of train are held out" in parts.notices[-1]
        arrays = val.arrays()
        assert arrays is not None
        assert all(np.array_equal(arrays[k], val.image(k)[0]) for k in range(4))

    def test_as_many_as_are_asked_for(self, root: Path) -> None:
        assert len(self.opened(root, validation=10)[1]) == 10
        with pytest.raises(DataError, match=r"data.validation 3 cannot be balanced over 2 classes"):
            self.opened(root, validation=3)

    def test_none_where_the_best_is_chosen_on_test(self, root: Path) -> None:
        parts, val = self.opened(root, on_test=True)
        assert len(parts.train) == 40
        assert val is parts.test


def folder_names(root: Path) -> list[str]:
    return [path.relative_to(root / "train").with_suffix("").as_posix() for path in (root / "train").rglob("*.png")]
