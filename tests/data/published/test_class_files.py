"""CIFAR, SVHN and STL-10 as handed out, in miniature; no network."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from semikit.data.published.class_sets import read_cifar10, read_cifar100, read_stl10, read_svhn
from semikit.data.samples import Samples
from semikit.errors import ConfigError, DataError
from tests.helpers import class_sets


def tells_classes(source: Samples) -> bool:
    """Whether every image has the colour of its label, and rows and columns were not exchanged."""
    images = source.arrays()
    assert images is not None
    expected = class_sets.images(source.labels, images.shape[1], seed=99)
    close = np.abs(images.mean((1, 2)) - expected.mean((1, 2))).max() < 4
    left, right = images[:, :, :4].mean(), images[:, :, -4:].mean()
    top, bottom = images[:, :4].mean(), images[:, -4:].mean()
    return bool(close) and left - right > 20 and abs(top - bottom) < 3


@pytest.mark.parametrize(("read", "name", "classes"), [(read_cifar10, "cifar10", 10), (read_cifar100, "cifar100", 100)])
def test_cifar(read: object, name: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_sets.write(name, tmp_path, monkeypatch)
    parts = read(tmp_path)  # type: ignore[operator]
    assert (len(parts.train), len(parts.test), parts.val, parts.unlabeled) == (6 * classes, 2 * classes, None, ())
    assert len(parts.class_names) == classes
    assert np.bincount(parts.train.labels).tolist() == [6] * classes
    assert np.bincount(parts.test.labels).tolist() == [2] * classes
    images = parts.train.arrays()
    assert images.shape == (6 * classes, 32, 32, 3)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    assert np.array_equal(parts.train.image(5)[0], images[5])
    assert tells_classes(parts.train)
    assert tells_classes(parts.test)
    assert parts.train.names[3] == "train/00003"


def test_names_of_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_sets.write("cifar10", tmp_path, monkeypatch)
    assert read_cifar10(tmp_path).class_names == class_sets.CIFAR10


def test_svhn_learns_from_train_and_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_sets.write("svhn", tmp_path, monkeypatch)
    parts = read_svhn(tmp_path)
    assert (len(parts.train), len(parts.test)) == (60 + 120, 20)
    assert np.bincount(parts.train.labels).tolist() == [18] * 10
    assert parts.class_names == tuple("0123456789")
    assert tells_classes(parts.train)
    assert tells_classes(parts.test)
    assert len(read_svhn(tmp_path, extra=False).train) == 60


def test_svhn_without_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(ConfigError, match=r'pip install "semikit\[svhn\]"'):
        read_svhn(tmp_path)


def test_stl10_has_unlabelled_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_sets.write("stl10", tmp_path, monkeypatch)
    parts = read_stl10(tmp_path)
    (more,) = parts.unlabeled
    assert (len(parts.train), len(more), len(parts.test)) == (60, 120, 20)
    assert (more.labels == -1).all()
    assert np.bincount(parts.train.labels).tolist() == [6] * 10
    assert tells_classes(parts.train)
    assert tells_classes(parts.test)
    pixels = more.arrays()
    assert pixels is not None
    assert np.array_equal(pixels, class_sets.images(class_sets.labels(10, 12), 96, 7))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "stl10"])
def test_nothing_there(name: str, tmp_path: Path) -> None:
    read = {"cifar10": read_cifar10, "cifar100": read_cifar100, "svhn": read_svhn, "stl10": read_stl10}[name]
    looked = {"cifar10": "cifar-10-batches-py/data_batch_1", "cifar100": "cifar-100-python/train"}
    looked |= {"svhn": "train_32x32.mat, extra_32x32.mat, test_32x32.mat", "stl10": "stl10_binary/train_X.bin"}
    with pytest.raises(DataError) as raised:
        read(tmp_path)
    told = str(raised.value)
    assert f"in {tmp_path}: looked for {looked[name]}" in told
    assert "http" in told
    assert "data.published.download=true" in told
    assert list(tmp_path.iterdir()) == []


def test_some_files_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_sets.write("svhn", tmp_path, monkeypatch)
    (tmp_path / "extra_32x32.mat").unlink()
    with pytest.raises(DataError, match=r"not all of SVHN in .*: looked for extra_32x32.mat"):
        read_svhn(tmp_path)
    assert len(read_svhn(tmp_path, extra=False).train) == 60


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_nothing_is_unpickled_where_a_checksum_is_wrong(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_sets.write("cifar10", tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / file).write_bytes(b"cbuiltins\nexit\n(tR.")
    loads: list[str] = []
    load = pickle.load
    monkeypatch.setattr(
        pickle, "load", lambda handle, **options: (loads.append(handle.name), load(handle, **options))[1]
    )
    with pytest.raises(
        DataError, match=rf"damaged files of CIFAR10 .*another MD5.*cifar-10-batches-py/{file}\. Remove"
    ):
        read_cifar10(tmp_path)
    assert [name for name in loads if name.endswith(file)] == []


def test_damaged_stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_sets.write("stl10", tmp_path, monkeypatch)
    with (tmp_path / "stl10_binary/unlabeled_X.bin").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DataError, match=r"damaged files of STL10 .*stl10_binary/unlabeled_X\.bin"):
        read_stl10(tmp_path)


@pytest.mark.filterwarnings("ignore:.*filter extracted tar:DeprecationWarning")
def test_download_takes_an_archive_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    import tarfile

    from torchvision.datasets import CIFAR10

    class_sets.write("cifar10", tmp_path, monkeypatch)
    folder, archive = tmp_path / "cifar-10-batches-py", tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    shutil.rmtree(folder)
    monkeypatch.setattr(CIFAR10, "tgz_md5", class_sets.md5(archive))
    with pytest.raises(DataError, match="nothing of CIFAR10"):
        read_cifar10(tmp_path)
    assert len(read_cifar10(tmp_path, download=True).train) == 60


def test_a_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request
    from urllib.error import URLError

    def refuse(*args: object, **kwargs: object) -> None:
        raise URLError("no network here")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DataError, match=r"could not download CIFAR10 .*no network here.*cifar-10-python\.tar\.gz"):
        read_cifar10(tmp_path, download=True)
