from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from semikit.errors import DataError, InputError
from semikit.reproduce.cells import cells
from semikit.reproduce.compare import best, compare
from semikit.reproduce.plan import composed
from semikit.run.config import resolve
from semikit.run.recipes import merge
from tests.helpers import photos

ROWS = """iteration,epoch,student_mIoU,teacher_mIoU,confident
639,1,77.1,77.0,0.6
1278,2,79.0,80.1,0.83
3000,4.69,82,83,0.9
38340,60,85.5,85.75,0.95
"""


def write(
    folder: Path, identity: str, above: Mapping[str, Any] | None = None, rows: str = ROWS, finished: bool = True
) -> Path:
    """A run folder as training would leave it."""
    (cell,) = cells(identity)
    folder.mkdir()
    (folder / "config.yaml").write_text(resolve(merge(composed(cell), above or {})).to_yaml())
    (folder / "results.csv").write_text(rows)
    if finished:
        (folder / "results.json").write_text(json.dumps({"metric": "mIoU"}))
    return folder


def test_a_run_is_found_by_its_configuration(tmp_path: Path) -> None:
    free = {
        "name": "mine",
        "data": {"published": {"root": "/elsewhere"}},
        "train": {"seed": 7, "device": "cpu", "workers": 0, "precision": "bf16", "accumulate": 2, "eval_every": 10},
    }
    found = compare(write(tmp_path / "run", "table1/unimatch-v2-dinov2-small/366", free), cells())
    assert [cell.id for cell in found.cells] == [
        "table1/unimatch-v2-dinov2-small/366",
        "table7/dinov2-small/pascal-366",
        "table8/unimatch-v2-dinov2-small/pascal-366",
    ]
    assert not found.differences
    assert {(score.metric, score.published, score.measured) for score in found.scores} == {("mIoU", 85.9, 85.75)}


def test_early_epochs_beside_the_log(tmp_path: Path) -> None:
    found = compare(write(tmp_path / "run", "table1/unimatch-v2-dinov2-small/366", finished=False), cells("1"))
    assert not found.finished
    assert not found.scores
    early = {row.epoch: row for row in found.early}
    assert list(early) == [1, 2, 5, 10]
    assert early[1].measured == {"student": 77.1, "teacher": 77.0, "confident": 0.6}
    assert early[1].logged is not None
    assert (early[1].logged.student, early[1].logged.teacher, early[1].logged.confident) == (77.5, 77.3, 0.61)
    assert early[5].measured == {}, "an evaluation at epoch 4.69 is none of epoch 5"


def test_the_reported_network_counts(tmp_path: Path) -> None:
    labeled_only = compare(write(tmp_path / "a", "table1/labeled-only-dinov2-small/366"), cells("1"))
    assert [score.measured for score in labeled_only.scores] == [85.5]
    better = compare(write(tmp_path / "b", "table10/student/pascal-92"), cells("10"))
    assert [score.measured for score in better.scores] == [85.75]


def test_a_run_that_is_no_cell_is_put_beside_the_nearest(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", "table1/unimatch-v2-dinov2-small/92", {"views": {"weak": {"crop": 434}}})
    found = compare(folder, cells("1"))
    assert [cell.id for cell in found.cells] == ["table1/unimatch-v2-dinov2-small/92"]
    assert found.differences == ["views.weak.crop: 518 -> 434"]


def test_a_run_on_the_users_own_data(tmp_path: Path, photo_data: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(resolve(photos.raw(photo_data)).to_yaml())
    found = compare(folder, cells("1", split="92"))
    assert any(line.startswith("data.folders") for line in found.differences)
    assert [row.epoch for row in found.early if row.measured] == []


def test_another_metric_is_read_at_the_best_epoch() -> None:
    rows = [{"student_IoU": 80.0, "student/OA": 99.0}, {"student_IoU": 81.0, "student/OA": 98.5}]
    assert best(rows, "student", "IoU", "OA") == 98.5
    assert best(rows, "teacher", "IoU", "IoU") is None
    assert best(rows, "better", "IoU", "IoU") == 81.0


def test_a_run_of_change_detection(tmp_path: Path) -> None:
    rows = (
        "iteration,epoch,student_IoU,student/OA,teacher_IoU,teacher/OA\n845,1,68,97,68.5,98\n50700,60,82,99,83,99.5\n"
    )
    cell = "table14/unimatch-v2-dinov2-small/levir-5%"
    found = compare(write(tmp_path / "paper", cell, rows=rows), cells("14"))
    assert ([item.id for item in found.cells], found.differences) == ([cell], [])
    assert {(score.metric, score.published, score.measured) for score in found.scores} == {
        ("IoU", 82.1, 82.0),
        ("OA", 99.01, 99.0),
    }
    assert found.early[0].measured == {"student": 68.0, "teacher": 68.5}
    strict = compare(write(tmp_path / "strict", cell, {"train": {"protocol": "strict"}}, rows), cells("14"))
    assert strict.differences == ["train.protocol: 'paper' -> 'strict'"]


def test_a_run_of_classification(tmp_path: Path) -> None:
    head = "iteration,epoch,student_top-1,student/top-5,teacher_top-1,teacher/top-5"
    rows = f"{head}\n4003,1,70,90,71,91\n8006,2,73,92,74,93\n"
    found = compare(write(tmp_path / "imagenet", "table18/simmatch/10%", rows=rows), cells("18"))
    assert ([cell.id for cell in found.cells], found.differences) == (["table18/simmatch/10%"], [])
    assert {(score.metric, score.published, score.measured) for score in found.scores} == {
        ("top-1", 74.1, 74.0),
        ("top-5", 91.5, 93.0),
    }
    rows = "iteration,epoch,student_top-1,teacher_top-1\n5000,45.05,50,60\n10000,90.1,80,81\n"
    cell = "table17/unimatch-v2/250-seed1"
    place = {"data": {"published": {"root": "/elsewhere", "download": True}}}
    found = compare(write(tmp_path / "svhn", cell, place, rows), cells())
    assert [cell.id for cell in found.cells] == [f"table17/unimatch-v2/250-seed{seed}" for seed in range(3)]
    assert [score.measured for score in found.scores] == [81.0] * 3
    without = compare(write(tmp_path / "few", cell, {"data": {"published": {"extra": False}}}, rows), cells("17"))
    assert without.differences == ["data.published.extra: True -> False"]


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder: it has no config"):
        compare(tmp_path, cells("1"))
    folder = write(tmp_path / "run", "table1/unimatch-v2-dinov2-small/92")
    with pytest.raises(InputError, match="none of these cells can be trained yet"):
        compare(folder, [])
    (folder / "results.json").write_text("{")
    with pytest.raises(DataError, match=r"results.json cannot be read"):
        compare(folder, cells("1"))
    (folder / "results.json").unlink()
    (folder / "results.csv").write_text("iteration,epoch\n1,x\n")
    with pytest.raises(DataError, match=r"results.csv cannot be read"):
        compare(folder, cells("1"))
