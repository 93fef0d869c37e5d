"""Runs in several processes, as a person starts them, with what can happen to one of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from semikit.training.checkpoint import LAST, read_checkpoint, read_last
from tests.helpers import icons, photos

Start = Callable[..., subprocess.Popen[str]]
Wait = Callable[[Path, subprocess.Popen[str]], None]
PATIENCE = 300.0

pytestmark = pytest.mark.timeout(900)


def end(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    out, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, told
    assert "Traceback" not in told, told
    return out, told


def process_of(rank: int, folder: Path) -> int:
    """The process number of a rank of the run in `folder`."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if str(folder).encode() in words and f"RANK={rank}".encode() in environment:
            return int(entry.name)
    raise AssertionError(f"no process {rank} of {folder}")


def flags(data: Path, folder: Path, *more: str) -> list[str | Path]:
    own = ["--labels", "4", "train.group=2", "--out", folder, *more]
    return ["train", "seg", "--data", data, *photos.FLAGS, *own]


def test_two_processes_train_what_one_does(photo_data: Path, tmp_path: Path, started: Start) -> None:
    length = ["--iterations", "4", "--eval-every", "2", "optimizer.name=sgd"]
    runs = {
        count: started("semikit", *flags(photo_data, tmp_path / f"{count}", *length), "--gpus", str(count))
        for count in (1, 2)
    }
    told = [end(process, 0)[0] for process in runs.values()]
    assert "4 iterations of 2 + 2 images = 2 processes of 1 + 1" in " ".join(told[1].replace("│", " ").split())
    assert told[1].count("best mIoU") == 1
    one, two = (json.loads((tmp_path / f"{count}" / "results.json").read_text()) for count in runs)
    assert (one["processes"], two["processes"]) == (1, 2)
    for key in ("student", "teacher", "test"):
        assert two[key]["mIoU"] == pytest.approx(one[key]["mIoU"], abs=0.5), key
    states = [read_checkpoint(tmp_path / f"{count}" / "weights" / LAST) for count in runs]
    torch.testing.assert_close(states[1]["method"], states[0]["method"], rtol=2e-4, atol=2e-5)
    assert sorted(path.name for path in (tmp_path / "2").iterdir()) == sorted(
        path.name if not path.name.startswith("events") else next((tmp_path / "2").glob("events*")).name
        for path in (tmp_path / "1").iterdir()
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run(
    photo_data: Path, tmp_path: Path, started: Start, wait_for: Wait, rank: int
) -> None:
    folder = tmp_path / "run"
    length = ["--iterations", "5000", "--eval-every", "5000", "--save-every", "2"]
    process = started("semikit", *flags(photo_data, folder, *length), "--gpus", "2")
    wait_for(folder / "weights" / LAST, process)
    os.kill(process_of(rank, folder), signal.SIGKILL)
    _, told = end(process, 3)
    assert f"process {rank} of 2 was killed by signal 9" in told
    before = read_last(folder / "weights")[0]["step"]
    _, told = end(started("semikit", "train", "seg", "--resume", folder, "train.iterations=5000", "--workers", "x"), 2)
    process = started("semikit", "train", "seg", "--resume", folder)
    after = folder / "weights" / "after"
    (folder / "weights" / LAST).rename(after)
    after.rename(folder / "weights" / LAST)
    limit = time.monotonic() + PATIENCE
    while read_last(folder / "weights")[0]["step"] <= before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    end(process, 130)


def test_ctrl_c_saves(photo_data: Path, tmp_path: Path, started: Start, wait_for: Wait) -> None:
    folder = tmp_path / "run"
    length = ["--iterations", "5000", "--eval-every", "5000", "--save-every", "2"]
    process = started("semikit", *flags(photo_data, folder, *length), "--gpus", "2")
    wait_for(folder / "weights" / LAST, process)
    os.killpg(process.pid, signal.SIGINT)
    _, told = end(process, 130)
    step = read_checkpoint(folder / "weights" / LAST)["step"]
    assert f"interrupted at iteration {step}; saved" in told


def test_torchrun_restarts_go_on(photo_data: Path, tmp_path: Path, started: Start, wait_for: Wait) -> None:
    folder = tmp_path / "run"
    length = ["--iterations", "60", "--eval-every", "60", "--save-every", "2", "--device", "cpu"]
    torchrun = [
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
        "-m",
        "semikit",
    ]
    process = started(*torchrun, *flags(photo_data, folder, *length))
    wait_for(folder / "weights" / LAST, process)
    os.kill(process_of(1, folder), signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert json.loads((folder / "results.json").read_text())["iterations"] == 60
    log = (folder / "log.txt").read_text()
    assert "going on at iteration" in log


def test_wrong_input_is_told_once(photo_data: Path, tmp_path: Path, started: Start) -> None:
    wrong = started("semikit", *flags(photo_data, tmp_path / "a", "--iterations", "2", "--gpus", "3"))
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    taken = started("semikit", *flags(photo_data, full, "--iterations", "2", "--gpus", "2"))
    _, told = end(wrong, 2)
    assert told.count("cannot be shared evenly by 3 processes") == 1
    assert not (tmp_path / "a").exists()
    _, told = end(taken, 2)
    assert told.count("is not empty") == 1
    assert told.count("error:") == 1


def test_classes_are_chosen_on_test(icon_data: Path, tmp_path: Path, started: Start) -> None:
    """Pictures are of val and drawn by the first process alone, while scores are of test and of all."""
    flags = [*icons.FLAGS, "--labels", "6", "--iterations", "2", "--eval-every", "1", "--protocol", "paper"]
    end(started("semikit", "train", "cls", "--data", icon_data, *flags, "--out", tmp_path / "a", "--gpus", "2"), 0)
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["best"]["split"] == "test"
    assert (tmp_path / "a" / "images" / "confusion.png").exists()


def test_a_bad_file_of_any_process_is_told(tmp_path: Path, started: Start) -> None:
    """The unlabelled image goes bad after the data were looked through: unlabelled ones are not opened before."""
    data = photos.write(tmp_path / "data")
    bad = tmp_path / "data/train/images/train7.png"
    bad.write_bytes(bad.read_bytes()[:200])
    length = ["--iterations", "4", "--eval-every", "4"]
    out, _ = end(started("semikit", *flags(data, tmp_path / "a", *length), "--gpus", "2"), 0)
    assert "unreadable file 1 of at most 10" in out
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert [Path(name).name for name in results["bad_files"]] == ["train7.png"]
