"""Parts shared by all tests: a tiny network with batches, and the counter of syncs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    path = Path(__file__).parent / "contracts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"semikit_tests_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """`tiny.network`, `tiny.facts`, `tiny.batch`."""
    return _load("tiny")


@pytest.fixture(scope="session")
def count_syncs() -> type:
    """The dispatch mode that counts what makes the host wait."""
    return _load("sync_counter").SyncCounter
