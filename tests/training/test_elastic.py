"""Runs over two of torchrun's agents, as over two machines: one is lost, or comes later."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from semikit.training.checkpoint import LAST
from tests.helpers import photos
from tests.helpers.processes import free_port

Start = Callable[..., subprocess.Popen[str]]
Wait = Callable[[Path, subprocess.Popen[str]], None]
PATIENCE = 300.0
LENGTH = 300

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


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


@pytest.fixture
def wait_for() -> Callable[[Path, subprocess.Popen[str]], None]:
    """Waits for a file that a process writes."""

    def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
        limit = time.monotonic() + PATIENCE
        while not path.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit, f"{path} did not come"
            time.sleep(0.05)

    return wait_for


def wait_for_port(port: int, process: subprocess.Popen[str]) -> None:
    """Until an agent keeps the store in which agents meet."""
    limit = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        with socket.socket() as tried:
            if tried.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.1)


def worker_of(agent: subprocess.Popen[str]) -> tuple[int, int]:
    """Number and rank of the process of the run that an agent keeps."""
    for name in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split():
        environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
        for entry in environment:
            if entry.startswith(b"RANK="):
                return int(name), int(entry[5:])
    raise AssertionError(f"agent {agent.pid} keeps no process of the run")


class Agents:
    """Agents that share a run of `LENGTH` iterations; the first keeps the store in which they meet."""

    def __init__(self, data: Path, folder: Path, started: Start, port: int) -> None:
        self.folder, self.started, self.port = folder, started, port
        length = ["--iterations", str(LENGTH), "--eval-every", str(LENGTH), "--save-every", "2"]
        own = ["--labels", "4", "train.group=2", "--out", folder, *length]
        self.run = ["-m", "semikit", "train", "seg", "--data", data, *photos.FLAGS, *own]

    def start(self, last_call: int = 20) -> subprocess.Popen[str]:
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{self.port}", "--rdzv-id", "elastic"]
        soon = ["--rdzv-conf", f"last_call_timeout={last_call},keep_alive_interval=1,keep_alive_max_attempt=3"]
        size = ["--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "3"]
        return self.started("torch.distributed.run", *size, *meeting, *soon, *self.run)


@pytest.fixture
def agents(photo_data: Path, tmp_path: Path, started: Start) -> Agents:
    return Agents(photo_data, tmp_path / "run", started, free_port())


def check(folder: Path, processes: int, times: int = 1) -> None:
    results = json.loads((folder / "results.json").read_text())
    assert (results["processes"], results["iterations"]) == (processes, LENGTH)
    assert (folder / "log.txt").read_text().count("going on at iteration") == times


@pytest.mark.parametrize("lost", ["machine", "process"])
def test_what_is_lost(agents: Agents, wait_for: Wait, lost: str) -> None:
    """The others go on without a machine that is gone; a process alone is started again beside them."""
    first = agents.start()
    wait_for_port(agents.port, first)
    second = agents.start()
    wait_for(agents.folder / "weights" / LAST, first)
    number, rank = worker_of(second)
    assert rank == 1
    if lost == "machine":
        os.kill(second.pid, signal.SIGKILL)
    os.kill(number, signal.SIGKILL)
    for agent in (first,) if lost == "machine" else (first, second):
        _, told = agent.communicate(timeout=PATIENCE)
        assert agent.returncode == 0, told
    check(agents.folder, 1 if lost == "machine" else 2)


def test_what_comes_later(agents: Agents, wait_for: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process begins; it saves when a second machine comes, and both go on."""
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    first = agents.start(last_call=1)
    wait_for(agents.folder / "weights" / LAST, first)
    second = agents.start(last_call=1)
    for agent in (first, second):
        _, told = agent.communicate(timeout=PATIENCE)
        assert agent.returncode == 0, told
    check(agents.folder, 2)
