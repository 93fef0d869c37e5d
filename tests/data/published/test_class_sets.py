from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semikit.data.published.class_sets import CLASS_SETS, PublishedImages, open_published_images
from semikit.data.splits import choose
from semikit.errors import DataError, UnknownNameError
from tests.helpers import class_sets

COUNTS = {"cifar10": (60, 0), "cifar100": (600, 0), "svhn": (180, 0), "stl10": (60, 120), "imagenet": (18, 0)}


@pytest.mark.parametrize("name", list(COUNTS))
def test_every_data_set_as_handed_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_sets.write(name, tmp_path / name, monkeypatch)
    monkeypatch.setenv("SEMIKIT_DATA", str(tmp_path))
    parts = open_published_images(PublishedImages(name=name))
    assert (len(parts.train), sum(map(len, parts.unlabeled))) == COUNTS[name]
    assert parts.published
    assert (parts.official is not None) == (name == "imagenet")
    split = choose(str(2 * len(parts.class_names)), parts)
    assert len(split.unlabeled) == sum(COUNTS[name])


@pytest.mark.parametrize("name", list(CLASS_SETS))
def test_folders_of_classes_are_read_for_any(name: str, tmp_path: Path) -> None:
    for part, each in (("train", 3), ("test", 1)):
        class_sets.folders(tmp_path, class_sets.CIFAR10, 32, each, part, "jpg")
    parts = open_published_images(PublishedImages(name=name, root=tmp_path))
    assert (len(parts.train), len(parts.val or parts.test or ())) == (30, 10)
    assert parts.class_names == class_sets.CIFAR10
    assert parts.train.names[0] == "airplane/0000"
    images = parts.train.arrays()
    assert images is not None
    assert images.shape == (30, 32, 32, 3)
    told = " ".join(parts.notices)
    assert (f"classes, {tmp_path / 'train'} 10" in told) == (name in ("cifar100", "imagenet"))
    assert ("has no extra/" in told) == (name == "svhn")
    assert ("has no unlabeled/" in told) == (name == "stl10")


def test_svhn_in_folders_has_its_extra_part(tmp_path: Path) -> None:
    for part, each in (("train", 2), ("extra", 3), ("test", 1)):
        class_sets.folders(tmp_path, tuple("0123456789"), 32, each, part)
    parts = open_published_images(PublishedImages(name="svhn", root=tmp_path))
    assert np.bincount(parts.train.labels).tolist() == [5] * 10
    assert parts.train.names[20] == "extra/0/0000"
    assert len(set(parts.train.names)) == 50
    assert parts.notices == ()
    without = open_published_images(PublishedImages(name="svhn", root=tmp_path, extra=False))
    assert (len(without.train), without.notices) == (20, ())


def test_stl10_in_folders(tmp_path: Path) -> None:
    for part in ("train", "test"):
        class_sets.folders(tmp_path, class_sets.CIFAR10, 96, 1, part)
    class_sets.folders(tmp_path / "unlabeled", ("all",), 96, 7, "")
    parts = open_published_images(PublishedImages(name="stl10", root=tmp_path))
    assert [len(more) for more in parts.unlabeled] == [7]
    assert parts.notices == ()


def test_imagenet_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no imagenet in .*: looked for train/WNID/\*\.JPEG and val/WNID.*--root DIR"):
        open_published_images(PublishedImages(name="imagenet", root=tmp_path))


def test_official_lists_of_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_sets.write("imagenet", tmp_path, monkeypatch, each=15)
    parts = open_published_images(PublishedImages(name="imagenet", root=tmp_path))
    with pytest.raises(DataError, match=r"is read from .*splits/1%\.txt, which is not there\. .*--labels 13000"):
        choose("official:1%", parts)
    with pytest.raises(UnknownNameError, match="unknown official split of imagenet '5%'"):
        choose("official:5%", parts)
    (tmp_path / "splits").mkdir()
    lines = [f"{wnid}_train{k}.JPEG" for wnid in class_sets.WNIDS for k in range(13)]
    (tmp_path / "splits/1%.txt").write_text("\n".join(lines))
    split = choose("official:1%", parts)
    assert np.bincount(parts.train.labels[list(split.labeled)]).tolist() == [13, 13, 13]


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'cifar'\. Did you mean 'cifar1"):
        open_published_images(PublishedImages(name="cifar", root=tmp_path))
