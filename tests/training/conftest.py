"""Runs in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PATIENCE = 300.0
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def started() -> Iterator[Start]:
    """Starts a module with arguments in a session of its own; ended after the test, with all it started."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.terminate()
        process.communicate()


@pytest.fixture(scope="session")
def wait_for() -> Callable[[Path, subprocess.Popen[str]], None]:
    """Waits for a file that a process writes."""

    def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
        limit = time.monotonic() + PATIENCE
        while not path.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit, f"{path} did not come"
            time.sleep(0.05)

    return wait_for
