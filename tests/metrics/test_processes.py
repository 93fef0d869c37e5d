"""Two processes have the sums of both, also where one of them had nothing to score."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.processes import Server


def test_two_processes_score_what_one_does(server: Server, tmp_path: Path) -> None:
    for world in (1, 2):
        (tmp_path / str(world)).mkdir()
        for ended in server.run_together(world, "-m", "tests.helpers.shared_metrics", tmp_path / str(world)):
            assert ended.code == 0, ended.out
    lines = [line for path in sorted(tmp_path.glob("*/*.json")) for line in path.read_text().splitlines()]
    assert len(lines) == 6
    first, *others = map(json.loads, lines)
    assert first["one"] != first["other"]
    for other in others:
        assert other["one"]["top-5"] == first["one"]["top-5"]
        assert other["one"]["ECE"] == pytest.approx(first["one"]["ECE"], rel=1e-12)
        for name in ("one", "other"):
            assert other[name]["class_scores"] == first[name]["class_scores"]
