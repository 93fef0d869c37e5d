from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semikit.data.folders import image_files
from semikit.data.formats.mask_values import MaskValues, MaskWatch
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import Scale
from semikit.data.masked_images import DataSpec, Folders, masked_images, open_folders, plain_images
from semikit.data.samples import Pool
from semikit.errors import DataError, FileFault, UnknownNameError

Save = Callable[..., Path]
SpecOf = Callable[..., DataSpec]
GRAY = np.zeros((12, 16), dtype=np.uint8)


def test_images_and_masks_meet_by_name(spec: DataSpec, folder: Path) -> None:
    sources = open_folders(spec)
    train = sources.train
    assert train.names == tuple(f"train{k}" for k in range(8))
    assert [train.has_target(k) for k in range(8)] == [True] * 6 + [False] * 2
    image, valid = train.image(3)
    assert valid is None
    np.testing.assert_array_equal(image, np.array(Image.open(folder / "train/images/train3.png")))
    raw = np.array(Image.open(folder / "train/masks/train3.png"))
    labels, valid = train.target(3)
    np.testing.assert_array_equal(valid, raw != 9)
    np.testing.assert_array_equal(labels, np.where(raw == 9, 0, raw))
    assert (len(sources.val), sources.test, sources.unlabeled, sources.scale) == (3, None, (), None)
    with pytest.raises(DataError, match=r"train7\.png has no mask"):
        train.target(7)


def test_corrected_masks_hold_class_numbers_beside_others(tmp_path: Path, save: Save, spec_of: SpecOf) -> None:
    """Stored as 0 and 255 in masks, or in colours; new ones are read by class numbers and 255, and come first."""
    half, new = np.zeros((12, 16), np.uint8), np.ones((12, 16), np.uint8)
    half[:6], new[3:], new[9:] = 255, 0, 255
    for name in ("1", "2", "3", "4"):
        save(f"i/{name}.png", GRAY)
    for name in ("1", "2"):
        save(f"m/{name}.png", half)
        save(f"rgb/{name}.png", np.where(half[..., None] > 0, np.uint8([9, 8, 7]), np.uint8(0)))
    for name in ("2", "3", "5"):
        save(f"new/{name}.png", new)
    place = {"images": str(tmp_path / "i"), "corrected": str(tmp_path / "new")}
    for more, masks in (({"mapping": {255: 1}}, "m"), ({"colors": {"a": [0, 0, 0], "b": [9, 8, 7]}}, "rgb")):
        raw = {"train": {**place, "masks": str(tmp_path / masks)}, "val": 0.5, "classes": ["a", "b"], **more}
        parts = open_folders(DataSpec.model_validate(raw))
        train = parts.train.watched(RangeWatch(None), MaskWatch(MaskValues(2)))
        assert [train.has_target(k) for k in range(4)] == [True, True, True, False]
        np.testing.assert_array_equal(train.target(0)[0], half > 0)
        for index in (1, 2):
            labels, valid = train.target(index)
            np.testing.assert_array_equal(labels, new == 1)
            np.testing.assert_array_equal(valid, new != 255)
        assert [str(one) for one in parts.unused if "train.corrected: 1 not used" in str(one)]
    save("new/3.png", new + 1)
    with pytest.raises(FileFault, match=r"2: 48 pixels.*Masks of `corrected` hold class numbers, and 255"):
        open_folders(DataSpec.model_validate(raw)).train.target(2)
    (tmp_path / "new/9.png").touch()
    for name in ("2", "3"):
        (tmp_path / f"new/{name}.png").unlink()
    with pytest.raises(DataError, match="no image has a mask"):
        open_folders(DataSpec.model_validate(raw))


def test_a_source_travels_to_workers(spec: DataSpec) -> None:
    train = open_folders(spec).train
    assert pickle.loads(pickle.dumps(train)) == train


def test_subfolders_other_suffixes_and_hidden_files(tmp_path: Path, save: Save, spec_of: SpecOf) -> None:
    for name in ("i/b/1.JPG", "i/a/2.bmp", "i/a.b.png", "m/b/1.png", "i/.thumbs/x.png", "i/._1.png"):
        save(name, GRAY)
    (tmp_path / "i/notes.txt").write_text("no image")
    source = masked_images(Folders(images=tmp_path / "i", masks=tmp_path / "m"), spec_of(tmp_path), "train")
    assert source.names == ("a.b", "a/2", "b/1")
    assert [source.has_target(k) for k in range(3)] == [False, False, True]


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path, save: Save) -> None:
    save("elsewhere/1.png", GRAY)
    (tmp_path / "i/a").mkdir(parents=True)
    (tmp_path / "i/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "i/a/up").symlink_to(tmp_path / "i")
    assert list(image_files(tmp_path / "i", "train.images")) == ["b/1"]


def test_folders_that_link_to_each_other_are_read_once(tmp_path: Path, save: Save) -> None:
    for name in "pqrs":
        save(f"i/{name}/{name}.png", GRAY)
        for other in "pqrs":
            (tmp_path / "i" / name / f"to-{other}").symlink_to(tmp_path / "i" / other)
    assert list(image_files(tmp_path / "i", "train.images")) == ["p/p", "q/q", "r/r", "s/s"]


def test_the_folder_of_masks_is_left_out_however_it_is_spelt(tmp_path: Path, save: Save) -> None:
    save("i/1.png", GRAY)
    save("i/masks/1.png", GRAY)
    (tmp_path / "link").symlink_to(tmp_path / "i")
    for images, masks in (("i/../i", "i/masks"), ("i", "i/../i/masks"), ("link", "i/masks")):
        assert list(image_files(tmp_path / images, "train.images", without=tmp_path / masks)) == ["1"]


def test_masks_below_the_images_are_no_images(tmp_path: Path, save: Save, spec_of: SpecOf) -> None:
    save("i/1.png", GRAY)
    save("i/masks/1.png", GRAY)
    source = masked_images(Folders(images=tmp_path / "i", masks=tmp_path / "i/masks"), spec_of(tmp_path), "train")
    assert source.names == ("1",)
    assert source.has_target(0)


def test_missing_and_empty_folders(folder: Path, spec_of: SpecOf) -> None:
    bad = {"images": folder / "trein/images", "masks": folder / "train/masks"}
    with pytest.raises(
        DataError, match=r"train\.images: no such folder: .*trein/images\. .* has the folders: train, val"
    ):
        open_folders(spec_of(folder, train=bad))
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"unlabeled\[0\]\.images: no image in .*empty\. Known types: .*\.png"):
        open_folders(spec_of(folder, unlabeled={"images": folder / "empty"}))
    with pytest.raises(DataError, match="not a folder"):
        image_files(folder / "train/images/train0.png", "train.images")


def test_two_files_of_one_name(folder: Path, save: Save, spec: DataSpec) -> None:
    save("train/images/train1.jpg", GRAY)
    with pytest.raises(DataError, match=r"train\.images: two files of one name: .*train1\.png \(.*train1\.jpg\)"):
        open_folders(spec)


def test_names_that_never_meet(tmp_path: Path, save: Save, spec_of: SpecOf) -> None:
    save("i/1.png", GRAY)
    save("m/1_mask.png", GRAY)
    with pytest.raises(DataError, match=r"no image has a mask\. Images are named '1' in .*, masks '1_mask'"):
        masked_images(Folders(images=tmp_path / "i", masks=tmp_path / "m"), spec_of(tmp_path), "val")


def test_scenes_of_one_folder_are_chosen_by_name(tmp_path: Path, save: Save, spec_of: SpecOf) -> None:
    for city in ("nantes", "rennes", "rio"):
        save(f"cities/{city}/A.png", GRAY + len(city))
        save(f"masks/{city}.png", GRAY)
    images, masks = tmp_path / "cities/{stem}/A.png", tmp_path / "masks"
    train, val = ({"images": images, "masks": masks, "names": [city]} for city in ("nantes", "rio"))
    parts = open_folders(spec_of(tmp_path, train=train, val=val, unlabeled={"images": images, "names": ["rennes"]}))
    assert (parts.train.names, parts.val.names, parts.unlabeled[0].names) == (("nantes",), ("rio",), ("rennes",))
    assert parts.train.has_target(0)
    assert not parts.unused
    with pytest.raises(UnknownNameError, match=r"unknown image in val\.names: 'rioo'\. Did you mean 'rio'"):
        open_folders(spec_of(tmp_path, train=train, val={**val, "names": ["rioo"]}))


def test_one_file_in_two_parts(folder: Path, spec_of: SpecOf) -> None:
    with pytest.raises(DataError, match=r"val0\.png is in both unlabeled\[0\] and val"):
        open_folders(spec_of(folder, unlabeled={"images": folder / "val/images"}))


def test_the_range_of_deep_images_is_sampled_from_train(folder: Path, save: Save, spec_of: SpecOf) -> None:
    for k in range(8):
        save(f"train/images/train{k}.png", np.linspace(1000, 3000, 192).reshape(12, 16).astype(np.uint16))
    save("val/images/val0.png", np.full((12, 16), 2000, dtype=np.uint16))
    sources = open_folders(spec_of(folder))
    assert sources.scale is not None
    assert isinstance(sources.scale.min, tuple)
    assert sources.scale.min == pytest.approx((1031,) * 3, abs=15)
    assert np.unique(sources.val.image(0)[0]).tolist() == [128]
    stated = open_folders(spec_of(folder, scale={"min": 0, "max": 4000}))
    assert stated.scale == Scale(min=0.0, max=4000.0)
    assert np.unique(stated.val.image(0)[0]).tolist() == [128]
    assert stated.train.image(0)[0].min() == 64


def test_a_pool_joins_sources_and_keeps_masks_closed(spec: DataSpec) -> None:
    sources = open_folders(spec)
    pool = Pool((sources.train, sources.val, sources.val))
    assert len(pool) == 14
    assert list(pool.names)[7:12] == [
        "train7",
        "unlabeled-1/val0",
        "unlabeled-1/val1",
        "unlabeled-1/val2",
        "unlabeled-2/val0",
    ]
    np.testing.assert_array_equal(pool.image(9)[0], sources.val.image(1)[0])
    np.testing.assert_array_equal(pool.image(13)[0], sources.val.image(2)[0])
    np.testing.assert_array_equal(pool.image(7)[0], sources.train.image(7)[0])
    assert not pool.has_target(0)
    with pytest.raises(DataError, match="mask of the unlabelled image 'train0'"):
        pool.target(0)


def test_a_plain_images_takes_files_as_they_come(folder: Path) -> None:
    paths = [folder / "val/images/val2.png", folder / "val/images/val0.png"]
    source = plain_images({path.stem: path for path in paths})
    assert source.names == ("val2", "val0")
    assert source.image(0)[0].shape == (12, 16, 3)
