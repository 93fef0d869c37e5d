"""The published data sets of image classification: what they are, where they lie, how they are opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

import numpy as np

from semikit.data.labeled_images import LabeledFiles, LabelledImages, find_images, folder_spec, open_labeled
from semikit.data.published.catalogue import root_of
from semikit.data.published.class_files import read_cifar10, read_cifar100, read_stl10, read_svhn
from semikit.data.samples import DataParts, Official
from semikit.data.splits import from_list
from semikit.errors import DataError, some, unknown
from semikit.settings.base import Location, Settings

Reader = Callable[[Path, bool, bool], DataParts]
"""(root, download, extra) -> a data set in the files its makers hand out."""
SCORED = ("val", "test")
"""Parts that nothing is learned from."""


@final
@dataclass(frozen=True, slots=True)
class ClassSet:
    """One published data set: images of each part, and the name of an official split -> images of each class."""

    title: str
    homepage: str
    licence: str
    classes: int
    read: Reader | None
    counts: dict[str, int]
    official: dict[str, int] = field(default_factory=dict)

    @property
    def learned_from(self) -> int:
        """Images to learn from, the labelled included: every part but those that are scored."""
        return sum(count for part, count in self.counts.items() if part not in SCORED)


CLASS_SETS: dict[str, ClassSet] = {
    "cifar10": ClassSet(
        "CIFAR-10", "https://www.cs.toronto.edu/~kriz/cifar.html", "none stated; research use", 10, read_cifar10,
        {"train": 50_000, "test": 10_000},
    ),
    "cifar100": ClassSet(
        "CIFAR-100", "https://www.cs.toronto.edu/~kriz/cifar.html", "none stated; research use", 100, read_cifar100,
        {"train": 50_000, "test": 10_000},
    ),
    "svhn": ClassSet(
        "SVHN (train and extra)", "http://ufldl.stanford.edu/housenumbers", "non-commercial use", 10, read_svhn,
        {"train": 73_257, "test": 26_032, "extra": 531_131},
    ),
    "stl10": ClassSet(
        "STL-10", "https://cs.stanford.edu/~acoates/stl10", "terms of ImageNet", 10, read_stl10,
        {"train": 5_000, "test": 8_000, "unlabeled": 100_000},
    ),
    "imagenet": ClassSet(
        "ImageNet (ILSVRC 2012)", "https://image-net.org/download", "non-commercial research", 1000, None,
        {"train": 1_281_167, "val": 50_000}, {"1%": 13, "10%": 128},
    ),
}  # fmt: skip
"""By name, as on the command line."""


def class_set(name: str) -> ClassSet:
    """A published data set by name.

    Raises:
        UnknownNameError: with the known names.
    """
    if name not in CLASS_SETS:
        raise unknown("published data set of images", name, CLASS_SETS)
    return CLASS_SETS[name]


@final
class PublishedImages(Settings):
    """A published data set of image classification."""

    name: str
    """cifar10, cifar100, svhn, stl10 or imagenet."""
    root: Location | None = None
    """Folder with the files as handed out, or with train/CLASS/*; null: $SEMIKIT_DATA/NAME, else ./data/NAME."""
    download: bool = False
    """Fetch what is missing into the root first (not imagenet)."""
    extra: bool = True
    """svhn: the part `extra` belongs to train, as in published results."""


def open_published_images(named: PublishedImages) -> DataParts:
    """The parts of a published data set, from the files as handed out or from folders of classes.

    Raises:
        UnknownNameError: with the known names.
        DataError: nothing there (says what was looked for and how to get it), or a damaged file.
    """
    known = class_set(named.name)
    root = root_of(named.name, named.root)
    if _has_class_folders(root):
        parts = _from_folders(named, known, root)
    elif known.read is not None:
        parts = known.read(root, named.download, named.extra)
    else:
        raise DataError(_how_to_get_imagenet(root))
    official = official_lists(named.name, known, root) if known.official else None
    return replace(parts, official=official, published=True, balanced=True)


def _has_class_folders(root: Path) -> bool:
    train = root / "train"
    return train.is_dir() and any(item.is_dir() for item in train.iterdir())


def _from_folders(named: PublishedImages, known: ClassSet, root: Path) -> DataParts:
    """A root in folders of classes: train/CLASS/*, test/CLASS/* or val/CLASS/*, unlabeled/*, of svhn extra/CLASS/*."""
    parts, notices = open_labeled(folder_spec(root)), []
    if len(parts.class_names) != known.classes:
        notices.append(f"{known.title} has {known.classes} classes, {root / 'train'} {len(parts.class_names)}")
    if named.name == "svhn" and named.extra:
        if (root / "extra").is_dir():
            more = find_images(LabelledImages(images=root / "extra"), "extra").source(parts.class_names)
            assert isinstance(parts.train, LabeledFiles)
            parts = replace(parts, train=_joined(parts.train, more))
        else:
            notices.append(
                f"{root} has no extra/, so train is smaller than in published results (data.published.extra)"
            )
    if named.name == "stl10" and not parts.unlabeled:
        notices.append(f"{root} has no unlabeled/, so nothing but train is learned from, unlike in published results")
    return replace(parts, notices=tuple(notices))


def _joined(train: LabeledFiles, extra: LabeledFiles) -> LabeledFiles:
    names = (*train.names, *(f"extra/{name}" for name in extra.names))
    return LabeledFiles(names, (*train.paths, *extra.paths), np.concatenate([train.labels, extra.labels]))


def official_lists(name: str, known: ClassSet, root: Path) -> Official:
    """The images of an official list.

    Raises (when called):
        UnknownNameError: another split than those of the data set.
        DataError: there is none, or a list that has not as many images of each class as the official one.
    """

    def labeled(split: str, parts: DataParts) -> list[int]:
        if split not in known.official:
            raise unknown(f"official split of {name}", split, known.official)
        path, each = root / "splits" / f"{split}.txt", known.official[split]
        if not path.is_file():
            raise DataError(
                f"official:{split} is read from {path}, which is not there. Put the published list there (one file a "
                f"line, {each} of each class; SimMatch and SimCLR hand it out), or draw as many by seed: "
                f"--labels {each * known.classes}."
            )
        found = from_list(path, parts)
        counts = np.bincount(parts.train.labels[found], minlength=len(parts.class_names))
        other = [f"{name!r} {count}" for name, count in zip(parts.class_names, counts, strict=True) if count != each]
        if other:
            raise DataError(
                f"{path} is not the official list, which has {each} images of each class: {some(other)}. "
                f"Another list is given by its path: --labels {path}."
            )
        return found

    return labeled


def _how_to_get_imagenet(root: Path) -> str:
    return (
        f"no imagenet in {root}: looked for train/WNID/*.JPEG and val/WNID/*.JPEG. Make an account at "
        "https://image-net.org/download and put ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and "
        "ILSVRC2012_devkit_t12.tar.gz there; torchvision.datasets.ImageNet(ROOT, 'train') and (ROOT, 'val') unpack and "
        "sort them. Or say where it lies with --root DIR."
    )
