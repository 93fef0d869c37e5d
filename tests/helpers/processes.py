"""Several processes of one machine that work together."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """Of a child process: it finds the tests' helpers, and computes with one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run_together(command: list[str], world: int, *arguments: object, timeout: float = 120) -> None:
    """Runs `COMMAND RANK WORLD PORT ARGUMENTS` for every rank at once; all have to end with 0."""
    same = [str(world), str(free_port()), *map(str, arguments)]
    running = [
        subprocess.Popen([*command, str(rank), *same], stderr=subprocess.PIPE, text=True, env=environment())
        for rank in range(world)
    ]
    for process in running:
        _, errors = process.communicate(timeout=timeout)
        assert process.returncode == 0, errors[-4000:]
