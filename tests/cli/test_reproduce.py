from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semikit.registry import TASKS
from semikit.reproduce.cells import cells, command
from semikit.reproduce.plan import composed
from semikit.run import lifecycle as cli_run
from semikit.run.config import resolve

CELL = "table1/unimatch-v2-dinov2-base/183"


def test_the_tables(semikit: Any) -> None:
    answer = semikit("reproduce")
    assert answer.code == 0
    lines = [line.split() for line in answer.out.splitlines()]
    assert ["table1", "32", "Pascal:", "state", "of", "the", "art"] in lines
    assert {line[0] for line in lines if line} >= {*(f"table{n}" for n in range(1, 19)), "figure5", "figure6"}


def test_the_cells_of_a_table(semikit: Any) -> None:
    answer = semikit("reproduce", "table1", "--dry-run")
    assert answer.code == 0
    assert [line for line in answer.out.splitlines() if line.split() == [CELL, "87.9"]]
    assert sum(line.strip().startswith("table1/") for line in answer.out.splitlines()) == 32
    assert "SemiVL CLIP-B: 84.0 / 85.6 / 86.0 / 86.7 / 87.3" in answer.out
    assert max(len(line) for line in answer.out.splitlines() if line.strip().startswith("table1/")) <= 80


def test_the_plan_of_few_cells(semikit: Any) -> None:
    answer = semikit("reproduce", "table1", "--split", "183", "--encoder", "dinov2-b", "--dry-run")
    assert answer.code == 0
    assert "60 epochs of 650 iterations: 39000 iterations" in answer.out
    assert "mIoU 87.9 (teacher)" in answer.out
    (cell,) = cells(CELL)
    assert f"  command    {command(cell)}\n" in answer.out


def test_cells_that_wait(semikit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(TASKS), "names", lambda self: ["seg"])
    told = semikit("reproduce", "18", "--dry-run")
    assert told.code == 0
    assert "waits for the cls adapter (semikit train cls)" in told.out
    assert "top-1 74.3, top-5 91.7" in told.out
    refused = semikit("reproduce", "18/unimatch-v2")
    assert refused.code == 2
    assert "waits for the cls adapter" in refused.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tabel1"], "unknown table 'tabel1'. Did you mean 'table1'"),
        (["1", "--split", "184"], "unknown split '184'. Did you mean '183'"),
        (["1", "--split", "183"], "6 cells match, and one is trained at a time"),
        (["1", "2"], "one table at a time, not 1, 2"),
        (["--dry-run"], "which cell?"),
        (["--compare"], "--compare needs run folders"),
        (["--compare", "no-run"], "no-run is no run folder"),
    ],
)
def test_what_cannot_be_done(semikit: Any, arguments: list[str], told: str) -> None:
    answer = semikit("reproduce", *arguments)
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err


def test_one_cell_is_trained(semikit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(cli_run, "start_run", lambda raw, folder, reporter: seen.append((raw, folder)))
    answer = semikit("reproduce", CELL, "--root", tmp_path, "--out", tmp_path / "run", "--device", "cpu")
    assert answer.code == 0
    assert "published mIoU 87.9" in answer.out
    ((raw, folder),) = seen
    assert folder == tmp_path / "run"
    (cell,) = cells(CELL)
    expected = composed(cell)
    expected["data"]["published"]["root"] = str(tmp_path)
    expected["train"]["device"] = "cpu"
    assert raw == expected


def test_a_run_beside_the_paper(semikit: Any, tmp_path: Path) -> None:
    (cell,) = cells("table1/unimatch-v2-dinov2-small/366")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(resolve(composed(cell)).to_yaml())
    (folder / "results.csv").write_text("iteration,epoch,student_mIoU,teacher_mIoU,confident\n639,1,77.1,77.0,0.6\n")
    unfinished = semikit("reproduce", "table1", "--compare", folder)
    assert unfinished.code == 0
    assert "is not finished" in unfinished.out
    assert "77.10 | 77.50" in unfinished.out
    (folder / "results.json").write_text(json.dumps({}))
    lines = semikit("reproduce", "table1", "--compare", folder).out.splitlines()
    assert [cell.id, "mIoU", "85.9", "77.00", "-8.90", "teacher"] in [line.split() for line in lines]
