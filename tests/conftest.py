"""What all tests share: small data on disk, made once; which tests need real data."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.helpers import icons, miniatures, pairs, photos, shortcuts
from tests.helpers.processes import Server


def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("real_data")
    if marker is None:
        return
    folder = os.environ.get("SEMIKIT_TEST_DATA")
    if not folder:
        pytest.skip("SEMIKIT_TEST_DATA is not set: it names the folder of the real data")
    missing = [name for name in marker.args if not Path(folder, name).exists()]
    if missing:
        pytest.skip(f"{folder} has no {', '.join(missing)}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu-times", type=Path, help="write the processor time of each test to this file")


def pytest_configure(config: pytest.Config) -> None:
    if (path := config.getoption("--cpu-times")) is not None:
        from tests.helpers.cpu_times import CpuTimes  # by /proc

        config.pluginmanager.register(CpuTimes(path))


def pytest_collection_finish() -> None:
    """What is imported by now stays: collections of garbage, which some tests ask for, need not look through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests are small: threads cost more than they bring, and sums depend on their number."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _shortcuts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In this process and, by the environment, in those it starts."""
    os.environ[shortcuts.FOLDER] = str(tmp_path_factory.mktemp("unused"))
    shortcuts.take()


@pytest.fixture(scope="session")
def photo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data YAML of eight training images; nobody may change what lies there."""
    return photos.write(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def pair_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data YAML of eight training pairs; nobody may change what lies there."""
    return pairs.write(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="session")
def icon_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data YAML of eight training images of each of three classes; nobody may change what lies there."""
    return icons.write(tmp_path_factory.mktemp("icons"))


@pytest.fixture(scope="session")
def small(photo_data: Path, pair_data: Path, icon_data: Path) -> dict[str, tuple[ModuleType, Path]]:
    """Of each task the module that makes small data, and the YAML of what it made."""
    return {"seg": (photos, photo_data), "cd": (pairs, pair_data), "cls": (icons, icon_data)}


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with the archives of a data set, made once; nobody may change what lies there."""
    made: dict[str, Path] = {}

    def source(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            miniatures.make(name, made[name])
        return made[name]

    return source


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The process that forks others."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()
