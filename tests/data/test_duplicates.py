"""Pictures that are in one's own data more than once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semikit.data.duplicates import overlap_notices, same_pictures
from semikit.data.image_pairs import open_pair_folders
from semikit.data.label_spec import folder_spec
from semikit.data.labeled_images import open_labeled
from semikit.data.masked_images import DataSpec, open_folders
from semikit.data.pair_spec import load_pairs
from semikit.data.samples import Subset
from semikit.errors import DataError
from tests.helpers import class_sets

Save = Callable[..., Path]


def copied(folder: Path, here: str, there: str) -> None:
    (folder / there).write_bytes((folder / here).read_bytes())


def test_nothing_twice(spec: DataSpec) -> None:
    sources = open_folders(spec)
    assert same_pictures(sources.named()) == []
    assert overlap_notices(sources, refuse=True) == []


@pytest.mark.parametrize("name", ["train2", "train7"], ids=["labelled", "unlabelled"])
def test_a_picture_of_val_that_is_learned_from_under_another_name(folder: Path, spec: DataSpec, name: str) -> None:
    copied(folder, f"train/images/{name}.png", "val/images/val1.png")
    sources = open_folders(spec)
    assert same_pictures(sources.named()) == [[("train", int(name[-1])), ("val", 1)]]
    with pytest.raises(DataError) as raised:
        overlap_notices(sources, refuse=True)
    assert str(raised.value) == (
        f"1 pictures of val are also learned from: val1 (train: {name}). A score on them says little of new images: "
        "take them out of train or of val, or, where that is meant, write `allow_overlap: true` into the description "
        "of the data."
    )
    told = [f"1 pictures of val are also learned from: val1 (train: {name})"]
    assert overlap_notices(sources, refuse=False) == told


def test_pictures_of_other_unlabelled_images_and_of_test(
    folder: Path, save: Save, spec_of: Callable[..., DataSpec]
) -> None:
    for k in range(5):
        save(f"more/more{k}.png", np.random.default_rng(100 + k).integers(0, 256, (12, 16, 3), dtype=np.uint8))
        copied(folder, f"more/more{k}.png", f"val/images/val{k}.png")
        save(f"val/masks/val{k}.png", np.zeros((12, 16), np.uint8))
    sources = open_folders(spec_of(folder, unlabeled={"images": folder / "more"}))
    told = r"5 pictures of val are also learned from: val0 \(unlabeled\[0\]: more0\), val1 .*, val2 .* and 2 more\. A"
    with pytest.raises(DataError, match=told):
        overlap_notices(sources, refuse=True)
    scored = replace(sources, unlabeled=(), test=open_folders(spec_of(folder)).val)
    assert overlap_notices(scored, refuse=True) == [
        "5 pictures of test are also in val: val0 (val: val0), val1 (val: val1), val2 (val: val2) and 2 more"
    ]


def test_sizes_ends_and_contents(folder: Path, save: Save, spec_of: Callable[..., DataSpec]) -> None:
    """Files of one size that begin and end alike are not the same, nor are those of one content in two formats."""
    values = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    other = values.copy()
    other[32, 32, 0] ^= 1
    for path in (folder / "train/images").iterdir():
        path.unlink()
    for name, pixels in (("train0.bmp", values), ("train1.bmp", other), ("train2.tif", values), ("train3.bmp", values)):
        save(f"train/images/{name}", pixels)
    sources = open_folders(spec_of(folder))
    assert same_pictures(sources.named()) == [[("train", 0), ("train", 3)]]


def test_twice_in_train_is_told(folder: Path, spec: DataSpec) -> None:
    copied(folder, "train/images/train2.png", "train/images/train7.png")
    copied(folder, "train/images/train3.png", "train/images/train4.png")
    assert overlap_notices(open_folders(spec), refuse=True) == [
        "2 pictures are learned from under several names: train2 = train7, train3 = train4",
        "1 pictures of train have several masks: train3 = train4. Keep the right one",
    ]


def test_a_blank_tile_may_be_in_any_part(folder: Path, save: Save, spec: DataSpec) -> None:
    for name in ("train/images/train6.png", "val/images/val1.png"):
        save(name, np.full((12, 16, 3), (255, 0, 0), np.uint8))
    assert overlap_notices(open_folders(spec), refuse=True) == []
    broken = (folder / "val/images/val0.png").read_bytes()[:60]
    for name in ("train/images/train5.png", "val/images/val0.png"):
        (folder / name).write_bytes(broken)
    with pytest.raises(DataError, match="1 pictures of val are also learned from"):
        overlap_notices(open_folders(spec), refuse=True)


def test_what_is_held_out_of_train_is_told(folder: Path, spec: DataSpec) -> None:
    copied(folder, "train/images/train2.png", "train/images/train4.png")
    sources = open_folders(spec)
    train = sources.train
    cut = replace(sources, train=Subset(train, np.array([0, 1, 2, 6, 7])), val=Subset(train, np.array([3, 4, 5])))
    assert overlap_notices(cut, refuse=True) == [
        "1 pictures of val are also learned from: train4 (train: train2); val was held out of train: `group` keeps "
        "what belongs together in one part"
    ]


def test_one_file_in_two_parts_where_that_is_allowed(folder: Path, spec_of: Callable[..., DataSpec]) -> None:
    folders = {"unlabeled": {"images": folder / "val/images"}}
    with pytest.raises(DataError, match="is in both"):
        open_folders(spec_of(folder, **folders))
    sources = open_folders(spec_of(folder, **folders, allow_overlap=True))
    assert sources.allow_overlap
    (told,) = overlap_notices(sources, refuse=False)
    assert told.startswith("3 pictures of val are also learned from: val0 (unlabeled[0]: val0)")


def test_a_missing_file_is_equal_to_none(folder: Path, spec: DataSpec) -> None:
    sources = open_folders(spec)
    for name in ("train/images/train1.png", "val/images/val1.png"):
        (folder / name).unlink()
    assert same_pictures(sources.named()) == []


def test_a_pair_is_the_same_where_both_dates_are(tmp_path: Path, save: Save) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("one", "two"):
            for date in "AB":
                save(f"{part}/{date}/{name}.png", rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            save(f"{part}/label/{name}.png", np.full((12, 16), 255, np.uint8))
    copied(tmp_path, "train/A/one.png", "val/A/one.png")
    assert overlap_notices(open_pair_folders(load_pairs(tmp_path)), refuse=True) == []
    copied(tmp_path, "train/B/one.png", "val/B/one.png")
    with pytest.raises(DataError, match=r"1 pictures of val are also learned from: one \(train: one\)"):
        overlap_notices(open_pair_folders(load_pairs(tmp_path)), refuse=True)


def test_one_picture_of_two_classes(tmp_path: Path) -> None:
    class_sets.folders(tmp_path, ("cat", "dog"), 16, 3, "train")
    copied(tmp_path, "train/cat/0001.png", "train/dog/0002.png")
    copied(tmp_path, "train/cat/0000.png", "train/cat/0002.png")
    assert overlap_notices(open_labeled(folder_spec(tmp_path)), refuse=True) == [
        "2 pictures are learned from under several names: cat/0000 = cat/0002, cat/0001 = dog/0002",
        "1 pictures of train have several classes: cat/0001 = dog/0002. Correct their labels",
    ]


def test_images_in_memory_have_no_files() -> None:
    from semikit.data.synthetic.class_shapes import ClassShapesSettings, open_shapes

    assert overlap_notices(open_shapes(ClassShapesSettings(train=8, val=8, test=8)), refuse=True) == []
