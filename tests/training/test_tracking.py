from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semikit.errors import DataError
from semikit.training.tracking import Tracker, draw_curves, read_rows


def row(iteration: int) -> dict[str, float]:
    return {
        "iteration": float(iteration),
        "epoch": iteration / 4,
        "loss": 1 / (iteration + 1),
        "confident": 0.123456789,
        "student_mIoU": 10.0 + iteration,
        "teacher_mIoU": 11.0,
        "teacher/pixel_accuracy": 50.0,
    }


def tracked(folder: Path, iterations: list[int], resume: int = 0) -> None:
    tracker = Tracker(folder, resume)
    for iteration in iterations:
        tracker.add(row(iteration))
    tracker.close()


def test_one_row_an_evaluation(tmp_path: Path) -> None:
    tracked(tmp_path, [5, 10])
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [item["iteration"] for item in rows] == ["5", "10"]
    assert list(rows[0]) == list(row(5))
    assert rows[0]["confident"] == "0.123457"


@pytest.mark.parametrize(("step", "kept"), [(10, [5, 10]), (9, [5]), (3, [])])
def test_a_resumed_run_drops_rows_after_where_it_goes_on(tmp_path: Path, step: int, kept: list[int]) -> None:
    tracked(tmp_path, [5, 10, 15])
    Tracker(tmp_path, step).close()
    assert [item["iteration"] for item in read_rows(tmp_path)] == kept
    tracked(tmp_path, [20], resume=step)
    assert [item["iteration"] for item in read_rows(tmp_path)] == [*kept, 20]


def test_rows_survive_being_read_and_written(tmp_path: Path) -> None:
    tracked(tmp_path, [5, 10])
    before = (tmp_path / "results.csv").read_text()
    Tracker(tmp_path, 10).close()
    assert (tmp_path / "results.csv").read_text() == before


def test_curves_are_a_picture(tmp_path: Path) -> None:
    draw_curves([row(5)], tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"
        image.load()
        width = image.width
        assert len(set(image.convert("L").getextrema())) == 2
    draw_curves([{key: value for key, value in row(5).items() if key != "confident"}], tmp_path / "fewer.png")
    with Image.open(tmp_path / "fewer.png") as image:
        assert image.width < width, "a panel less where nothing is confident"


def test_events_for_tensorboard(tmp_path: Path) -> None:
    tracked(tmp_path, [5, 10])
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("student_mIoU")] == [(5, 15.0), (10, 20.0)]


def test_results_at_the_end(tmp_path: Path) -> None:
    Tracker(tmp_path).finish({"task": "seg", "best": {"value": 1.5}})
    assert json.loads((tmp_path / "results.json").read_text()) == {"task": "seg", "best": {"value": 1.5}}


def test_no_half_file_stays(tmp_path: Path) -> None:
    tracked(tmp_path, [5])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "content", [b"iteration,x\n1,x: ~\n", b"x\n1\n", b"iteration\n\xff\xff\n", b"iteration\n1,2\n"]
)
def test_a_table_that_was_changed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "results.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"results\.csv cannot be read"):
        read_rows(tmp_path)
