"""The prepared script for a GPU (`benchmarks/accelerator.py`), tried on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import ROOT, environment


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_all_parts_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.accelerator", "--out", str(tmp_path), "--device", "cpu", "--tiny"]
    answer = subprocess.run(
        [*command, "--seconds", "3500"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    found = json.loads((tmp_path / "report.json").read_text())
    assert {part["ended"] for part in found["parts"]} == {"done"}, answer.stdout
    assert all(part["numbers"] for part in found["parts"])
    assert answer.returncode == 0
