"""The published data sets of image classification in miniature, in the files their makers hand out.

`write(name, root, monkeypatch)`: plain images with a little noise whose colours belong to their classes; the checksums
torchvision knows are replaced by those of these files. `folders(root, ...)`: the same in folders of classes.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WNIDS = ("n01440764", "n02102040", "n03028079")


def images(labels: NDArray[np.int64], side: int, seed: int) -> Bytes:
    """One image (N, side, side, 3) for each label: its class's colour, lighter at the left, with noise."""
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(0).integers(30, 200, (100, 3))
    ramp = np.linspace(40, 0, side)[None, None, :, None]
    noise = rng.integers(-12, 13, (len(labels), side, side, 3))
    return np.clip(colours[labels][:, None, None] + ramp + noise, 0, 255).astype(np.uint8)


def labels(classes: int, each: int) -> NDArray[np.int64]:
    """So many labels of each class, mixed."""
    return np.random.default_rng(classes * each).permutation(np.repeat(np.arange(classes), each))


def write(name: str, root: Path, monkeypatch: pytest.MonkeyPatch, each: int = 6, val: int = 2) -> None:
    """A data set with `each` training images and `val` test images of every class."""
    {"cifar10": _cifar10, "cifar100": _cifar100, "svhn": _svhn, "stl10": _stl10, "imagenet": _imagenet}[name](
        root, monkeypatch, each, val
    )


def folders(root: Path, names: tuple[str, ...], side: int, each: int, part: str, suffix: str = "png") -> None:
    """root/part/CLASS/0000.png and so on."""
    for number, name in enumerate(names):
        (root / part / name).mkdir(parents=True)
        for k, image in enumerate(images(np.full(each, number), side, seed=number + len(part))):
            Image.fromarray(image).save(root / part / name / f"{k:04d}.{suffix}")


def _cifar10(root: Path, monkeypatch: pytest.MonkeyPatch, each: int, val: int) -> None:
    from torchvision.datasets import CIFAR10 as Reader

    parts = list(zip(_names(Reader.train_list), np.array_split(labels(10, each), 5), strict=True))
    _pickles(Reader, root, [*parts, ("test_batch", labels(10, val))], "labels", {"label_names": list(CIFAR10)})
    _checksums(Reader, root, monkeypatch)


def _cifar100(root: Path, monkeypatch: pytest.MonkeyPatch, each: int, val: int) -> None:
    from torchvision.datasets import CIFAR100 as Reader

    names = {"fine_label_names": [f"thing{k:02d}" for k in range(100)]}
    _pickles(Reader, root, [("train", labels(100, each)), ("test", labels(100, val))], "fine_labels", names)
    _checksums(Reader, root, monkeypatch)


def _pickles(reader: Any, root: Path, parts: Any, key: str, meta: dict[str, list[str]]) -> None:
    folder = root / reader.base_folder
    folder.mkdir(parents=True)
    for seed, (name, truth) in enumerate(parts):
        data = images(truth, 32, seed).transpose(0, 3, 1, 2).reshape(len(truth), 3072)
        (folder / name).write_bytes(pickle.dumps({"data": data, key: truth.tolist()}, protocol=2))
    (folder / reader.meta["filename"]).write_bytes(pickle.dumps(meta, protocol=2))


def _checksums(reader: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchvision knows of the files becomes what they are."""
    folder = root / reader.base_folder
    for listed in ("train_list", "test_list"):
        found = [[name, md5(folder / name)] for name in _names(getattr(reader, listed))]
        monkeypatch.setattr(reader, listed, found)
    if hasattr(reader, "meta"):
        monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": md5(folder / reader.meta["filename"])})


def _svhn(root: Path, monkeypatch: pytest.MonkeyPatch, each: int, val: int) -> None:
    from scipy.io import savemat
    from torchvision.datasets import SVHN as Reader

    root.mkdir(parents=True, exist_ok=True)
    known = {}
    for seed, (part, count) in enumerate((("train", each), ("test", val), ("extra", 2 * each))):
        truth = labels(10, count)
        path = root / f"{part}_32x32.mat"
        stored = np.where(truth == 0, 10, truth).astype(np.uint8)[:, None]
        savemat(path, {"X": images(truth, 32, seed).transpose(1, 2, 3, 0), "y": stored})
        known[part] = [Reader.split_list[part][0], path.name, md5(path)]
    monkeypatch.setattr(Reader, "split_list", known)


def _stl10(root: Path, monkeypatch: pytest.MonkeyPatch, each: int, val: int) -> None:
    from torchvision.datasets import STL10 as Reader

    folder = root / Reader.base_folder
    folder.mkdir(parents=True)
    for seed, (part, truth) in enumerate((("train", labels(10, each)), ("test", labels(10, val)))):
        images(truth, 96, seed).transpose(0, 3, 2, 1).tofile(folder / f"{part}_X.bin")
        (truth + 1).astype(np.uint8).tofile(folder / f"{part}_y.bin")
    images(labels(10, 2 * each), 96, 7).transpose(0, 3, 2, 1).tofile(folder / "unlabeled_X.bin")
    _checksums(Reader, root, monkeypatch)


def _imagenet(root: Path, monkeypatch: pytest.MonkeyPatch, each: int, val: int) -> None:
    """Photographs of several sizes, named as theirs are."""
    for part, count in (("train", each), ("val", val)):
        for number, wnid in enumerate(WNIDS):
            (root / part / wnid).mkdir(parents=True)
            for k in range(count):
                image = Image.fromarray(images(np.array([number]), 160, seed=k)[0][: 120 + 8 * (k % 5)])
                image.save(root / part / wnid / f"{wnid}_{part}{k}.JPEG")


def _names(listed: Any) -> list[str]:
    return [name for name, _ in listed]


def md5(path: Path) -> str:
    """As torchvision knows files."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
