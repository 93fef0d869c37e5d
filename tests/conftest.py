"""Parts shared by all tests: a tiny network with batches, the counter of syncs, small photographs on disk."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch


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


def _load(name: str) -> ModuleType:
    path = Path(__file__).parent / "contracts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"semikit_tests_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for the names of their types
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """`tiny.network`, `tiny.run_info`, `tiny.batch`."""
    return _load("tiny")


@pytest.fixture(scope="session")
def count_syncs() -> type:
    """The dispatch mode that counts what makes the host wait."""
    return _load("sync_counter").SyncCounter


@pytest.fixture(scope="session")
def tars() -> ModuleType:
    """`tars.write`, `tars.pool`, `tars.encoded`, `tars.number_of`."""
    return _load("tars")


@pytest.fixture(scope="session")
def photos() -> ModuleType:
    """`photos.write`, `photos.raw`, `photos.FLAGS`."""
    return _load("photos")


@pytest.fixture(scope="session")
def photo_data(photos: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data YAML of eight training images; nobody may change what lies there."""
    return photos.write(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def pairs() -> ModuleType:
    """`pairs.write`, `pairs.raw`, `pairs.FLAGS`, `pairs.scene`."""
    return _load("pairs")


@pytest.fixture(scope="session")
def pair_data(pairs: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data YAML of eight training pairs; nobody may change what lies there."""
    return pairs.write(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="session")
def icons() -> ModuleType:
    """`icons.write`, `icons.raw`, `icons.FLAGS`, `icons.image`."""
    return _load("icons")


@pytest.fixture(scope="session")
def icon_data(icons: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data YAML of eight training images of each of three classes; nobody may change what lies there."""
    return icons.write(tmp_path_factory.mktemp("icons"))


@pytest.fixture(scope="session")
def small(
    photos: ModuleType, photo_data: Path, pairs: ModuleType, pair_data: Path, icons: ModuleType, icon_data: Path
) -> dict[str, tuple[ModuleType, Path]]:
    """Of each task the module that makes small data, and the YAML of what it made."""
    return {"seg": (photos, photo_data), "cd": (pairs, pair_data), "cls": (icons, icon_data)}


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A port of this machine that nobody listens to."""

    def port() -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return int(free.getsockname()[1])

    return port


@pytest.fixture(scope="session")
def run_together(free_port: Callable[[], int]) -> Callable[..., None]:
    """Runs `COMMAND RANK WORLD PORT ARGUMENTS` for every rank at once; all have to end with 0."""

    def run(command: list[str], world: int, *arguments: object, timeout: float = 120) -> None:
        same = [str(world), str(free_port()), *map(str, arguments)]
        running = [
            subprocess.Popen([*command, str(rank), *same], stderr=subprocess.PIPE, text=True) for rank in range(world)
        ]
        for process in running:
            _, errors = process.communicate(timeout=timeout)
            assert process.returncode == 0, errors[-4000:]

    return run


@pytest.fixture(scope="session")
def georasters() -> ModuleType:
    """`georasters.save`, `georasters.ramp`: small rasters with a place on the map."""
    return _load("georasters")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests are small: threads cost more than they bring, and sums depend on their number."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def differences() -> Callable[..., list[str]]:
    """Where two nested states differ, bit by bit."""
    return _load("equality").differences


@pytest.fixture(scope="session")
def miniatures() -> ModuleType:
    """`miniatures.make`, `miniatures.packed`: the published data sets as archives of a few small images."""
    return _load("miniatures")


@pytest.fixture(scope="session")
def miniature(miniatures: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with the archives of a data set, made once; nobody may change what lies there."""
    made: dict[str, Path] = {}

    def source(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            miniatures.make(name, made[name])
        return made[name]

    return source


@pytest.fixture(scope="session")
def class_sets() -> ModuleType:
    """`class_sets.write`, `class_sets.folders`: small data sets of image classification in their original layouts."""
    return _load("class_sets")


@pytest.fixture(scope="session")
def mutations() -> ModuleType:
    """`mutations.damaged`, `mutations.altered`, `mutations.garbled`: hostile files, values and texts."""
    return _load("mutations")


@pytest.fixture(scope="session")
def trials() -> ModuleType:
    """`trials.tried`, `trials.called`, `trials.refused`: commands on hostile input, watched."""
    return _load("trials")
