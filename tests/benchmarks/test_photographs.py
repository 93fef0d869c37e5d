"""The study on photographs goes on wherever it was stopped."""

from __future__ import annotations

import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import photographs


@pytest.mark.parametrize(
    ("files", "resumed"),
    [([], False), (["log.txt"], False), (["config.yaml"], True), (["config.yaml", "last.pt"], True)],
)
def test_a_run_that_began_is_resumed_and_its_time_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], resumed: bool
) -> None:
    cell = photographs.Cell(tmp_path, "cifar10", "fixmatch", 0)
    cell.folder.mkdir(parents=True)
    for name in files:
        (cell.folder / name).touch()
    started: list[str] = []

    def start(command: list[str], **options: Any) -> SimpleNamespace:
        started.extend(command)
        return SimpleNamespace(pid=1)

    used = resource.struct_rusage([2.0, 1.0, *[0] * 14])
    monkeypatch.setattr(photographs.subprocess, "Popen", start)
    monkeypatch.setattr(photographs.os, "wait4", lambda pid, options: (pid, 0, used))
    cell.train()
    assert ("--resume" in started, "--out" in started) == (resumed, not resumed)
    cell.train()
    assert cell.seconds == 6.0
