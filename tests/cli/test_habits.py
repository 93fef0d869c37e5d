"""What people try who know other programs."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from semikit import __version__, api
from semikit.distributed.groups import joined
from semikit.errors import ConfigError
from semikit.run.compose import asked
from semikit.run.config import resolve
from semikit.run.recipes import parse_overrides
from semikit.settings.messages import MEANT, meant
from semikit.training import services, trainer
from semikit.training.device import choose_device
from semikit.training.reporter import Reporter
from semikit.training.tracking import read_rows
from tests.helpers import photos

Call = Callable[..., Any]


def test_version_and_completion(semikit: Call) -> None:
    assert (semikit("--version").code, semikit("--version").out) == (0, f"semikit {__version__}\n")
    assert "--show-completion" in semikit("--help").out


@pytest.mark.parametrize("given", [1, "1", "cuda:1"])
def test_a_gpu_by_its_number(monkeypatch: pytest.MonkeyPatch, given: Any) -> None:
    used: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    assert (choose_device(given), used) == (torch.device("cuda", 1), [1])
    config = resolve({"task": "seg", "data": {"shapes": {}}, "train": {"iterations": 1, "device": given}})
    assert config.train.device == "cuda:1"
    with pytest.raises(ConfigError, match="'cuda:2' is not there: this machine has GPUs 0 to 1"):
        choose_device("2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="have a GPU each, not cuda:1 together"), joined("cuda:1"):
        pass


def test_data_as_a_key(train: Call, semikit: Call, photo_data: Path) -> None:
    answer = semikit("train", "seg", f"data={photo_data}", *photos.FLAGS, "--iterations", "2", "--dry-run")
    assert answer.code == 0, answer.err
    assert "both --data" in train(f"data={photo_data}", "--dry-run").err


def test_names_that_settings_have_elsewhere(train: Call) -> None:
    err = train("learning_rate=0.1", "train.batch_size=4", "img_size=64", "optimizer.learning_rate=0.1").err
    for line in (
        "unknown section of the configuration 'learning_rate'. Did you mean 'optimizer.lr'?",
        "unknown section of the configuration 'img_size'. Did you mean 'views.weak.crop' (cls: 'views.size')?",
        "train: unknown key 'batch_size'. Did you mean 'train.batch'?",
        "optimizer: unknown key 'learning_rate'. Did you mean 'optimizer.lr'?",
    ):
        assert line in err


def test_they_are_settings_of_the_configuration() -> None:
    raw = resolve({"task": "seg", "data": {"shapes": {}}, "train": {"iterations": 1}}).to_raw()
    for key in MEANT.values():
        inner: Any = raw
        for part in key.split("."):
            assert part in inner, key
            inner = inner[part]
    assert meant("Learning-Rate") == "'optimizer.lr'"
    assert meant("threshold") is None


def test_log_lines_have_times(trained: Path) -> None:
    lines = (trained / "log.txt").read_text().splitlines()
    assert any(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d 4/4 student mIoU .*", line) for line in lines)


@pytest.mark.parametrize("flag", ["start_from", "teacher"])
def test_the_last_run_is_where_another_begins_or_who_teaches_it(
    flag: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "runs/seg/mine")
    raw, _ = asked("seg", dataset="shapes", **{flag: "last"})
    section = raw["train" if flag == "start_from" else "method"]
    assert Path(section[flag]) == Path("runs/seg/mine").absolute()


def test_the_last_run_predicts_several_sources_into_a_new_folder(
    semikit: Call, trained: Path, photo_data: Path, tmp_path: Path
) -> None:
    assert "there is no trained run under runs" in semikit("predict", "last", photo_data.parent / "val/images").err
    shutil.copytree(trained, "runs/seg/mine")
    images = photo_data.parent / "val/images"
    shutil.copytree(images, "more/inner")
    Path("more/notes.txt").touch()
    shown = [*sorted(images.glob("val[01].png")), "more/notes.txt", "more/inner/val2.png"]
    answer = semikit("predict", "last", *shown)
    assert answer.code == 0, answer.err
    assert "3 images predicted into runs/predict/mine" in answer.out
    assert sorted(path.name for path in Path("runs/predict/mine").glob("*.png")) == ["val0.png", "val1.png", "val2.png"]
    again = semikit("predict", "last", images / "val0.png", "more")
    assert "predicted into runs/predict/mine-2" in again.out
    assert sorted(str(path) for path in Path("runs/predict/mine-2").rglob("*.png"))[0].endswith("inner/val0.png")
    assert "--resume goes with -o" in semikit("predict", "last", "more", "--resume").err
    assert "say where the results" in semikit("predict", trained / "weights/best.safetensors", "more").err


def test_help_of_predict_knows_all_tasks(semikit: Call) -> None:
    text = semikit("predict", "--help").out
    assert all(f"{task}: semikit predict RUN" in text for task in ("seg", "cd", "cls"))


def test_what_is_read_between_evaluations(train: Call, semikit: Call, stop_at: Callable[[int | None], None]) -> None:
    flags = ("--iterations", "4", "--eval-every", "2", "train.log_every=1", "--out", "run")
    stop_at(3)
    assert train(*flags).code == 130
    with Path("run/steps.csv").open("a") as file:
        file.write("4,0.5\n5,")  # of steps after the checkpoint, and a row that is not whole
    stop_at(None)
    assert semikit("train", "seg", "--resume", "run").code == 0
    with Path("run/steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4"]
    assert {"loss", "confident", "lr", "images_per_second"} <= rows[0].keys()
    assert [row["iteration"] for row in read_rows(Path("run"))] == [2, 4]
    events = EventAccumulator("run")
    events.Reload()
    assert [event.step for event in events.Scalars("steps/loss")] == [1, 2, 3, 4]
    assert {f"images/{path.stem}" for path in Path("run/images").iterdir()} == set(events.Tags()["images"])


@final
class Following(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.evaluated: list[tuple[int, int]] = []
        self.notices: list[str] = []

    def evaluating(self, done: int, total: int) -> None:
        self.evaluated.append((done, total))

    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_progress_of_an_evaluation_and_the_time_left(
    photo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_TIMED", 2)
    monkeypatch.setattr(trainer, "_WORTH_SAYING", 0.0)
    told = Following()
    flags = {"settings": parse_overrides([item for item in photos.FLAGS if "=" in item])}
    api.train(
        "seg", data=photo_data, labels=4, iterations=4, eval_every=4, encoder="test_vit", weights="none", crop=32,
        batch=2, workers=0, device="cpu", out=tmp_path / "run", reporter=told,
        settings={**flags["settings"], "train": {"log_every": 1}, "evaluate": {"batch": 2}},
    )  # fmt: skip
    assert told.evaluated == [(2, 3), (3, 3)]
    assert (
        len([text for text in told.notices if re.fullmatch(r".* for 2 more steps of .* s, evaluations apart", text)])
        == 1
    )


def test_numbers_go_where_log_says(train: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "find_spec", lambda name: None)
    assert "train.log=mlflow: its package is not installed" in train("--log", "mlflow").err
    assert "log: null" in train("--log", "tensorboard", "--dry-run", "--show-config").out
    assert "'log': expected one of 'wandb', 'mlflow', 'tensorboard', got 'paper'" in train("--log", "paper").err
