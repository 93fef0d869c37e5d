"""CIFAR, SVHN and STL-10 in the files their makers hand out, through torchvision's readers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semikit.data.labeled_images import LabeledArrays
from semikit.data.samples import UNKNOWN, Bytes, DataParts, Labels
from semikit.errors import ConfigError, DataError, some

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
            f"Fetch it with: semikit data fetch {name.lower()} --root {root} (in a run: data.published.download=true), "
            f"or by hand ({urls}; unpack archives there), or say where it lies with --root DIR."
        )
    damaged = [path for _, path, md5 in files if not check_integrity(root / path, md5)]
    if not damaged:
        return None
    return DataError(
        f"damaged files of {name} in {root} (another MD5 than published): {some(damaged)}. Remove them and fetch them "
        f"again: semikit data fetch {name.lower()} --root {root}, or {urls}."
    )
