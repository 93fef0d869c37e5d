"""Other processes: forked from one that has imported everything, alone or as several that share a run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0
"""Seconds a process may take: the machine may be busy."""


def environment() -> dict[str, str]:
    """Of a child process: it finds the tests' helpers, and computes with one thread."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **threads}


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Ended:
    """How a process ended: its exit code (minus the signal) and all it wrote."""

    code: int
    out: str


class Server:
    """Forks processes that run one command of semikit, or one module, each; see server.py."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.questions, self.answers = self.process.stdin, self.process.stdout
        assert json.loads(self.answers.readline())["threads"] == 1, "only a process of one thread may fork"
        self.outs: dict[int, Path] = {}

    def close(self) -> None:
        """End it, and what still runs."""
        self.questions.close()
        self.process.wait(30)
        self.answers.close()

    def ask(self, **message: Any) -> dict[str, Any]:
        self.questions.write(json.dumps(message) + "\n")
        self.questions.flush()
        answer: dict[str, Any] = json.loads(self.answers.readline())
        return answer

    def start(self, *arguments: object, environment: dict[str, str] | None = None, **plan: Any) -> int:
        """Begin a command, or a module after "-m"; returns the process, which leads a group of its own."""
        self.number += 1
        out = self.folder / f"{self.number}.txt"
        message = {"arguments": list(map(str, arguments)), "folder": str(self.folder), "out": str(out)}
        pid = int(self.ask(start={**message, "environment": environment or {}, "plan": plan})["pid"])
        self.outs[pid] = out
        return pid

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        self.ask(kill=pid, signal=number)

    def wait(self, pid: int, seconds: float = PATIENCE) -> Ended | None:
        """How it ended; None: it still runs after so many seconds."""
        code = self.ask(wait=pid, seconds=seconds)["code"]
        return None if code is None else Ended(code, self.outs[pid].read_text(errors="backslashreplace"))

    def ended(self, pid: int) -> Ended:
        """How it ends; it must not take too long."""
        found = self.wait(pid)
        if found is None:
            self.kill(pid)
            self.wait(pid)
            raise AssertionError(f"process {pid} hung: {self.outs[pid].read_text()}")
        return found

    def run(self, *arguments: object, **plan: Any) -> Ended:
        """A command from beginning to end."""
        return self.ended(self.start(*arguments, **plan))

    def run_together(
        self,
        count: int,
        *arguments: object,
        plans: Mapping[int, dict[str, Any]] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> list[Ended]:
        """A command in several processes that share a run, as torchrun starts them; `plans` for some of them."""
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **(environment or {})}
        size = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
        started = [
            self.start(*arguments, environment={**place, **size, **rank}, **(plans or {}).get(number, {}))
            for number, rank in enumerate(ranks)
        ]
        return [self.ended(pid) for pid in started]

    def killed_after(self, seconds: float, *arguments: object, **plan: Any) -> Ended:
        """A command killed at a moment, unless it is done before."""
        pid = self.start(*arguments, **plan)
        ended = self.wait(pid, seconds)
        if ended is None:
            self.kill(pid)
            ended = self.wait(pid)
        assert ended is not None
        return ended

    def wait_for(self, path: Path, pid: int) -> None:
        """Until a file is there that a process writes."""
        limit = time.monotonic() + PATIENCE
        while not path.exists():
            assert self.wait(pid, 0.02) is None, self.outs[pid].read_text()
            assert time.monotonic() < limit, f"{path} did not come"
