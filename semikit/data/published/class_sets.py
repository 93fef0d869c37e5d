"""The published data sets of image classification: what they are, where they lie, how they are opened.

CIFAR, SVHN and STL-10 are read in the files their makers hand out, through torchvision's readers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from semikit.data.label_spec import LabelledImages, folder_spec
from semikit.data.labeled_images import LabeledArrays, LabeledFiles, find_images, open_labeled
from semikit.data.published.catalogue import root_of
from semikit.data.samples import UNKNOWN, Bytes, DataParts, Labels, Official
from semikit.data.splits import from_list
from semikit.errors import ConfigError, DataError, some, unknown
from semikit.files import shell_word
from semikit.settings.base import Location, Settings

DIGITS = tuple("0123456789")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def read_cifar10(root: Path, download: bool = False, extra: bool = True) -> DataParts:
    """50,000 training images and 10,000 test images of 32x32; looked for in cifar-10-batches-py.

    Raises:
        DataError: a missing or damaged file; no file is unpickled unless its checksum is right.
    """
    from torchvision.datasets import CIFAR10

    return _cifar(CIFAR10, root, download)


def read_cifar100(root: Path, download: bool = False, extra: bool = True) -> DataParts:
    """50,000 training images and 10,000 test images of 32x32; looked for in cifar-100-python.

    Raises:
        DataError: a missing or damaged file; no file is unpickled unless its checksum is right.
    """
    from torchvision.datasets import CIFAR100

    return _cifar(CIFAR100, root, download)


def read_svhn(root: Path, download: bool = False, extra: bool = True) -> DataParts:
    """73,257 training images with 531,131 extra ones and 26,032 test images of 32x32.

    Raises:
        DataError: a missing or damaged file.
        ConfigError: scipy is not installed.
    """
    from torchvision.datasets import SVHN

    try:
        import scipy.io  # noqa: F401
    except ImportError:
        raise ConfigError(
            'SVHN comes as MATLAB files, which scipy reads. Install it: pip install "semikit[svhn]".'
        ) from None
    needed = ("train", "extra", "test") if extra else ("train", "test")
    files = [tuple(SVHN.split_list[split]) for split in needed]
    read = {split: _opened(SVHN, root, download, files, split=split) for split in needed}
    train = [read[split] for split in needed if split != "test"]
    data = np.concatenate([part.data.transpose(0, 2, 3, 1) for part in train])
    labels = np.concatenate([part.labels for part in train])
    test = _source("test", read["test"].data.transpose(0, 2, 3, 1), read["test"].labels)
    return DataParts(_source("train", data, labels), (), None, test, DIGITS)


def read_stl10(root: Path, download: bool = False, extra: bool = True) -> DataParts:
    """5,000 labelled and 100,000 unlabelled images and 8,000 test images of 96x96; looked for in stl10_binary.

    Raises:
        DataError: a missing or damaged file.
    """
    from torchvision.datasets import STL10 as Reader

    class Checked(Reader):  # type: ignore[misc]
        """The checksum of 2.9 GB is made once, when the first part is opened."""

        def _check_integrity(self) -> bool:
            return True

    files = [(Reader.url, f"{Reader.base_folder}/{name}", md5) for name, md5 in Reader.train_list + Reader.test_list]
    read = _opened(Reader, root, download, files, split="train")
    train = _source("train", read.data.transpose(0, 2, 3, 1), read.labels)
    read = Checked(root, split="test")
    test = _source("test", read.data.transpose(0, 2, 3, 1), read.labels)
    read = Checked(root, split="unlabeled")
    more = _source("unlabeled", read.data.transpose(0, 2, 3, 1), np.full(len(read.data), UNKNOWN))
    return DataParts(train, (more,), None, test, STL10)


def _cifar(reader: Any, root: Path, download: bool) -> DataParts:
    listed = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
    files = [(reader.url, f"{reader.base_folder}/{name}", md5) for name, md5 in listed]
    train = _opened(reader, root, download, files, train=True)
    test = _opened(reader, root, False, files, train=False)
    return DataParts(
        _source("train", train.data, train.targets),
        (),
        None,
        _source("test", test.data, test.targets),
        tuple(train.classes),
    )


def _source(part: str, data: Bytes, labels: Labels | Sequence[int]) -> LabeledArrays:
    """Images (N, H, W, 3), in that order in memory too."""
    return LabeledArrays(part, np.ascontiguousarray(data), np.asarray(labels, np.int64))


def _opened(reader: Any, root: Path, download: bool, files: Sequence[tuple[str, ...]], **options: Any) -> Any:
    """What a reader of torchvision makes of its files; it checks their MD5 before it reads one.

    `files` are (url, path below the root, MD5).

    Raises:
        DataError: says which files are missing or damaged, and where they come from.
    """
    try:
        return reader(root, download=download, **options)
    except RuntimeError as error:
        raise _diagnosed(reader.__name__, root, files) or DataError(f"{root}: {error}") from None
    except OSError as error:
        if not download:
            raise
        urls = some(sorted({url for url, _, _ in files}))
        raise DataError(f"could not download {reader.__name__} to {root}: {error}. Fetch it by hand: {urls}.") from None


def _diagnosed(name: str, root: Path, files: Sequence[tuple[str, ...]]) -> DataError | None:
    """What is wrong with the files, if anything is."""
    from torchvision.datasets.utils import check_integrity

    missing = [path for _, path, _ in files if not (root / path).is_file()]
    urls = ", ".join(sorted({url for url, _, _ in files}))
    if missing:
        what = f"nothing of {name}" if len(missing) == len(files) else f"not all of {name}"
        return DataError(
            f"{what} in {root}: looked for {some(missing)}, and for folders train/CLASS/* with test/CLASS/*. "
            f"Fetch it with: semikit data fetch {name.lower()} --root {shell_word(root)} (in a run: "
            f"data.published.download=true), or by hand ({urls}; unpack archives there), or say where "
            "it lies with --root DIR."
        )
    damaged = [path for _, path, md5 in files if not check_integrity(root / path, md5)]
    if not damaged:
        return None
    return DataError(
        f"damaged files of {name} in {root} (another MD5 than published): {some(damaged)}. Remove them and fetch them "
        f"again: semikit data fetch {name.lower()} --root {shell_word(root)}, or {urls}."
    )


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
                f"Another list is given by its path: --labels {shell_word(path)}"
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
