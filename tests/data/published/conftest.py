"""Published data sets in miniature, as archives and prepared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from semikit.data.published.prepare import PrepareReport, prepare
from tests.helpers import tars


def quiet(what: str, done: int, total: int) -> None:
    """Progress that is not shown."""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., PrepareReport]:
    """Prepares into the folder `root` of the test."""

    def call(name: str, source: Path, root: Path | None = None) -> PrepareReport:
        return prepare(name, source, root or tmp_path / "root", quiet)

    return call


@pytest.fixture
def prepared_root(
    miniature: Callable[[str], Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A prepared root of the test's own."""

    def root(name: str) -> Path:
        prepare(name.partition("-")[0], miniature(name), tmp_path / name, quiet)
        return tmp_path / name

    return root


@pytest.fixture
def extracted() -> Callable[[Path, Path], Path]:
    """Unpacks all archives of a folder into another."""

    def unpack(source: Path, target: Path) -> Path:
        for archive in sorted(source.iterdir()):
            if archive.suffix == ".zip":
                shutil.unpack_archive(archive, target)
            else:
                tars.unpack(archive, target)
        return target

    return unpack
