"""`pytest --cpu-times FILE`: the processor time of each test, with that of the processes it started or had forked."""

from __future__ import annotations

import os
import resource
from collections.abc import Generator
from pathlib import Path

import pytest

TICK = os.sysconf("SC_CLK_TCK")


def seconds() -> float:
    """Of this process, of its children, also of those that have ended, and of theirs."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used) + sum(map(living, children(os.getpid())))


def children(pid: int) -> list[int]:
    """Processes that `pid` has started and that run."""
    try:
        return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]
    except OSError:  # it has ended meanwhile
        return []


def living(pid: int) -> float:
    """Of a process, of its children that have ended, and of those that run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICK + sum(map(living, children(pid)))


class CpuTimes:
    """Adds up what each test used, with its fixtures, and writes it at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        before = seconds()
        answer = yield
        self.found[item.nodeid] = seconds() - before
        return answer

    def pytest_sessionfinish(self) -> None:
        ordered = sorted(self.found.items(), key=lambda item: -item[1])
        lines = [f"{sum(self.found.values()):9.2f} all", *(f"{used:9.2f} {name}" for name, used in ordered)]
        self.path.write_text("\n".join(lines) + "\n")
