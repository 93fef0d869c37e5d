from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semikit.errors import ConfigError, DataError, RunError
from semikit.training import services
from semikit.training.services import Service, check_service
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


def test_a_service_takes_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb, mlflow = MagicMock(), MagicMock()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    for name in ("wandb", "mlflow"):
        folder = tmp_path / name
        folder.mkdir()
        tracker = Tracker(folder, service=Service(name, folder, {"task": "seg"}))
        tracker.add_steps(2, {"loss": 0.5})
        tracker.add({**row(5), "share/a → b": 0.5})
        tracker.finish({})
    numbers = {name: value for name, value in row(5).items() if name != "iteration"}
    assert wandb.init.call_args.kwargs["config"] == {"task": "seg"}
    logged = wandb.init.return_value
    assert [call.args for call in logged.log.call_args_list] == [
        ({"steps/loss": 0.5},),
        ({**numbers, "share/a → b": 0.5},),
    ]
    assert [call.kwargs for call in logged.log.call_args_list] == [{"step": 2}, {"step": 5}]
    assert mlflow.log_metrics.call_args.args == ({**numbers, "share/a _ b": 0.5},)
    assert (logged.finish.call_count, mlflow.end_run.call_count) == (1, 1)
    wandb.init.side_effect = ValueError("no account\nlog in")
    with pytest.raises(RunError, match=r"train.log=wandb: no account. Mend it, or go on with --resume RUN"):
        Service("wandb", tmp_path, {})
    monkeypatch.setattr(services, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"train.log=wandb: its package is not installed. pip install 'semikit\[wandb\]'"
    ):
        check_service("wandb")
    check_service(None)
