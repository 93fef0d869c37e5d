"""Runs in processes of their own that can be killed at any moment, and the table of what was tried."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from semikit.training.checkpoint import BEST, LAST, read_best, read_checkpoint
from semikit.training.tracking import read_rows
from tests.helpers import photos, trials
from tests.helpers.equality import differences
from tests.helpers.processes import Server

_tried: Counter[str] = Counter()


@pytest.fixture
def tried() -> Callable[..., None]:
    """`tried(kind)` counts a trial that ended as it should; the table of counts is printed at the end."""

    def count(kind: str, times: int = 1) -> None:
        _tried[kind] += times

    return count


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that counts nothing itself counts as one trial, under its own name."""
    before = _tried.total()
    yield
    if _tried.total() == before:
        name = getattr(item, "originalname", item.name).removeprefix("test_").replace("_", " ")
        _tried[f"{item.path.stem.removeprefix('test_')}: {name}"] += 1


@pytest.fixture
def fuzzed(tried: Callable[..., None], tmp_path: Path) -> Callable[..., Counter[str]]:
    """`fuzzed(kind, make, count)` tries cases of a kind and counts how often each exit code came."""

    def fuzz(kind: str, make: Callable[..., Any], count: int) -> Counter[str]:
        ends: Counter[str] = trials.tried(kind, make, count, tmp_path)
        for code, times in ends.items():
            tried(f"fuzzed {kind}: exit {code}", times)
        return ends

    return fuzz


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # of a process that works for the one that prints
        session.config.workeroutput["tried"] = dict(_tried)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _tried.update(node.workeroutput["tried"] if hasattr(node, "workeroutput") else {})


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _tried:
        terminalreporter.section("trials that ended as they should")
        for kind, count in sorted(_tried.items()):
            terminalreporter.write_line(f"{count:6d}  {kind}")


STEPS = 4
WALL = {"seconds", "first_batch_seconds", "images_per_second", "waiting", "peak_memory_mib"}
"""What is measured, not computed."""


def outcome(folder: Path) -> dict[str, Any]:
    """All a run leaves that is computed."""
    state = read_checkpoint(folder / "weights" / LAST)
    results = json.loads((folder / "results.json").read_text())
    with safe_open(folder / "weights" / BEST, "pt") as file:
        told = file.metadata()
    return {
        "names": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "tfevents" not in path.name),
        "last": {key: value for key, value in state.items() if key != "seconds"},
        "best": [read_best(folder / "weights" / BEST), told],
        "results": {key: value for key, value in results.items() if key not in WALL | {"checkpoint"}},
        "sha256": results["checkpoint"]["sha256"],
        "rows": [{key: value for key, value in row.items() if key not in WALL} for row in read_rows(folder)],
        "texts": [
            (folder / name).read_text() for name in ("config.yaml", "split.json", "labeled.txt", "unlabeled.txt")
        ],
    }


@dataclass
class Whole:
    """The uninterrupted run: what it leaves, how long it takes (s), how often each line of what writes files runs."""

    folder: Path
    outcome: dict[str, Any]
    seconds: float
    lines: dict[str, int]


class Trials:
    """Kills runs and goes on with them."""

    def __init__(self, server: Server, command: list[Any], folder: Path) -> None:
        self.server, self.command, self.folder = server, command, folder
        self.number = 0

    def outcome(self, folder: Path) -> dict[str, Any]:
        return outcome(folder)

    def new(self) -> Path:
        self.number += 1
        return self.folder / f"run-{self.number}"

    def go_on(self, folder: Path, **plan: Any) -> int:
        """With `--resume`; a run that was ended before its folder had a configuration is started again as it was."""
        if not (folder / "config.yaml").exists():
            return self.server.start(*self.command, "--out", folder, **plan)
        return self.server.start("train", "seg", "--resume", folder, "--quiet", **plan)

    def to_the_end(self, folder: Path, whole: Whole) -> None:
        ended = self.server.wait(self.go_on(folder))
        assert ended is not None, "hung"
        assert ended.code == 0, ended.out
        assert not differences(outcome(folder), whole.outcome)


@pytest.fixture(scope="session")
def many_runs(server: Server, photo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    flags = ["--data", photo_data, *photos.FLAGS, "--labels", "4", "--quiet", "optimizer.lr=0.01"]
    flags += ["--iterations", STEPS, "--eval-every", 2, "--save-every", 1]
    return Trials(server, ["train", "seg", *flags], tmp_path_factory.mktemp("kills"))


@pytest.fixture(scope="session")
def whole(many_runs: Trials) -> Whole:
    folder, record = many_runs.new(), many_runs.folder / "lines.json"
    begun = time.monotonic()
    assert many_runs.server.run(*many_runs.command, "--out", folder).code == 0
    seconds = time.monotonic() - begun
    traced = many_runs.new()
    assert many_runs.server.run(*many_runs.command, "--out", traced, record=str(record)).code == 0
    assert not differences(outcome(traced), outcome(folder)), "two runs of one seed are equal"
    return Whole(folder, outcome(folder), seconds, json.loads(record.read_text()))
