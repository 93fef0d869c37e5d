from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from semikit.run.folder import find_run
from semikit.training.checkpoint import read_checkpoint
from semikit.training.tracking import read_rows
from tests.helpers import photos
from tests.helpers.equality import differences

Call = Callable[..., Any]


def test_resumed_as_if_never_stopped(
    train: Call, semikit: Call, tmp_path: Path, stop_at: Callable[[int | None], None]
) -> None:
    flags = ("--iterations", "4", "--eval-every", "2")
    assert train("--out", tmp_path / "whole", *flags).code == 0
    stop_at(3)
    stopped = train(*flags)
    assert stopped.code == 130
    folder = Path("runs/seg/data-unimatch_v2")
    assert stopped.err.startswith("stopped: interrupted at iteration 3; saved.")
    assert f"--resume {folder}" in stopped.err
    assert not (folder / "results.json").exists()
    stop_at(None)
    answer = semikit("train", "seg", "--resume", "last")
    assert answer.code == 0, answer.err
    found, expected = (read_checkpoint(path / "weights/last.ckpt") for path in (folder, tmp_path / "whole"))
    for part in ("step", "method", "optimizer", "best", "manifest"):
        assert not differences(found[part], expected[part]), part
    results, wanted = (json.loads((path / "results.json").read_text()) for path in (folder, tmp_path / "whole"))
    for key in ("best", "student", "teacher", "per_class", "test", "iterations"):
        assert results[key] == wanted[key]
    assert [row["iteration"] for row in read_rows(folder)] == [2, 4]
    log = (folder / "log.txt").read_text()
    assert "interrupted at iteration 3" in log
    assert "4/4 student mIoU" in log


def test_a_step_may_be_shared_otherwise(
    train: Call, semikit: Call, tmp_path: Path, stop_at: Callable[[int | None], None]
) -> None:
    flags = ("--iterations", "4", "--eval-every", "2", "optimizer.name=sgd")
    assert train("--out", tmp_path / "whole", *flags).code == 0
    stop_at(3)
    assert train("--out", tmp_path / "run", *flags, "train.accumulate=2").code == 130
    stop_at(None)
    answer = semikit("train", "seg", "--resume", tmp_path / "run", "train.accumulate=auto")
    assert answer.code == 0, answer.err
    assert "train.accumulate: 2 -> 1" in (tmp_path / "run" / "log.txt").read_text()
    found, expected = (read_checkpoint(tmp_path / name / "weights/last.ckpt")["method"] for name in ("run", "whole"))
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["micro_batches"] == 1


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_finished_run_gets_its_results_again(semikit: Call, run: Path, trained: Path) -> None:
    (run / "results.json").unlink()
    answer = semikit("train", "seg", "--resume", run)
    assert answer.code == 0, answer.err
    results, wanted = (json.loads((path / "results.json").read_text()) for path in (run, trained))
    for key in ("best", "student", "teacher", "test"):
        assert results[key] == wanted[key]
    assert (run / "results.csv").read_text() == (trained / "results.csv").read_text()


def test_a_damaged_last_checkpoint(semikit: Call, run: Path, trained: Path) -> None:
    path = run / "weights/last.ckpt"
    path.write_bytes(path.read_bytes()[:-2000])
    answer = semikit("train", "seg", "--resume", run)
    assert answer.code == 0, answer.err
    told = " ".join(answer.out.replace("│", " ").split())
    assert f"{path} is damaged" in told
    assert "Going on from previous.ckpt at iteration 2." in told
    assert "Going on from previous.ckpt at iteration 2." in (run / "log.txt").read_text()
    found, expected = (read_checkpoint(folder / "weights/last.ckpt") for folder in (run, trained))
    assert not differences(found["method"], expected["method"])


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_a_checkpoint_that_would_run_code(semikit: Call, run: Path) -> None:
    import torch

    torch.save({**read_checkpoint(run / "weights/last.ckpt"), "best": Bomb()}, run / "weights/last.ckpt")
    (run / "weights/previous.ckpt").write_bytes(pickle.dumps(Bomb()))
    for arguments in (
        ("train", "seg", "--resume", run),
        ("evaluate", run / "weights/last.ckpt"),
        ("predict", run / "weights/last.ckpt", ".", "-o", "out"),
    ):
        answer = semikit(*arguments)
        assert answer.code == 2, answer
    assert "would run code when unpickled; refused" in answer.err
    assert not Path("ran").exists()


def test_another_configuration(semikit: Call, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "log.txt"}
    answer = semikit("train", "seg", "--resume", run, "method.threshold=0.5", "--seed", "7")
    assert answer.code == 2
    assert "was trained with another configuration:" in answer.err
    assert "method.threshold: 0.95 -> 0.5" in answer.err
    assert "train.seed: 0 -> 7" in answer.err
    assert all(path.read_bytes() == content for path, content in before.items())


def test_another_split(semikit: Call, train: Call, tmp_path: Path) -> None:
    data = photos.write(tmp_path / "own")
    assert train("--out", tmp_path / "run", "--iterations", "1", data=data).code == 0
    photos.save(data.parent / "train/images/new.png", [[[0, 0, 0]] * 40] * 40)
    answer = semikit("train", "seg", "--resume", tmp_path / "run")
    assert answer.code == 2
    assert "was trained on another split:" in answer.err
    assert "counts.unlabeled: 4 -> 5" in answer.err


def test_data_that_were_damaged_meanwhile(semikit: Call, train: Call, tmp_path: Path) -> None:
    data = photos.write(tmp_path / "own")
    assert train("--out", tmp_path / "run", "--iterations", "1", data=data).code == 0
    photos.save(data.parent / "val/masks/val1.png", [[0] * 48] * 20)
    answer = semikit("train", "seg", "--resume", tmp_path / "run")
    assert answer.code == 2
    assert answer.err.startswith("error: val: mask of another size than its image: val1")


def test_the_last_run_is_one_that_is_not_finished(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "stopped", "old-stopped")):
        path = tmp_path / "seg" / name / "weights/last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (100 - age, 100 - age))
    assert find_run("seg", "last", tmp_path).name == "new"
    (tmp_path / "seg/new/results.json").touch()
    assert find_run("seg", "last", tmp_path).name == "stopped"
    for path in (tmp_path / "seg").iterdir():
        (path / "results.json").touch()
    assert find_run("seg", "last", tmp_path).name == "new"


def test_nothing_to_resume(semikit: Call, tmp_path: Path) -> None:
    answer = semikit("train", "seg", "--resume", "last")
    assert answer.code == 2
    assert "there is no run to resume under runs/seg" in answer.err
    answer = semikit("train", "seg", "--resume", tmp_path)
    assert answer.code == 2
    assert "is no run folder: it has no config.yaml" in answer.err


@pytest.mark.parametrize("flags", [["--dataset", "shapes"], ["--out", "x"], ["--seeds", "1,2"], ["--dry-run"]])
def test_what_belongs_to_a_new_run(semikit: Call, run: Path, flags: list[str]) -> None:
    answer = semikit("train", "seg", "--resume", run, *flags)
    assert answer.code == 2
    assert f"--resume takes data and recipe from the run; leave out {flags[0]}." in answer.err
