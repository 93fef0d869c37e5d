"""Runs in several processes, as a person starts them, with what can happen to one of them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from semikit.training.checkpoint import LAST, read_checkpoint, read_last
from tests.helpers import icons, photos
from tests.helpers.processes import PATIENCE, Server

pytestmark = pytest.mark.timeout(900)


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


def ended(server: Server, pid: int, code: int) -> str:
    found = server.ended(pid)
    assert found.code == code, found.out
    assert "Traceback" not in found.out, found.out
    return found.out


def together(server: Server, code: int, *arguments: object, environment: dict[str, str] | None = None) -> str:
    """What two processes write that end alike."""
    found = server.run_together(2, *arguments, environment=environment)
    assert [process.code for process in found] == [code, code], found
    out = "".join(process.out for process in found)
    assert "Traceback" not in out, out
    return out


def test_two_processes_train_what_one_does(photo_data: Path, tmp_path: Path, server: Server) -> None:
    length = ["--iterations", "4", "--eval-every", "2", "optimizer.name=sgd"]
    assert server.run(*flags(photo_data, tmp_path / "1", *length)).code == 0
    out = together(server, 0, *flags(photo_data, tmp_path / "2", *length))
    assert "4 iterations of 2 + 2 images = 2 processes of 1 + 1" in " ".join(out.replace("│", " ").split())
    assert out.count("best mIoU") == 1
    one, two = (json.loads((tmp_path / f"{count}" / "results.json").read_text()) for count in (1, 2))
    assert (one["processes"], two["processes"]) == (1, 2)
    for key in ("student", "teacher", "test"):
        assert two[key]["mIoU"] == pytest.approx(one[key]["mIoU"], abs=0.5), key
    states = [read_checkpoint(tmp_path / f"{count}" / "weights" / LAST) for count in (1, 2)]
    torch.testing.assert_close(states[1]["method"], states[0]["method"], rtol=2e-4, atol=2e-5)
    assert sorted(path.name for path in (tmp_path / "2").iterdir()) == sorted(
        path.name if not path.name.startswith("events") else next((tmp_path / "2").glob("events*")).name
        for path in (tmp_path / "1").iterdir()
    )


def launched(server: Server, data: Path, folder: Path) -> int:
    """A run without end in two processes, after its first checkpoint."""
    length = ["--iterations", "5000", "--eval-every", "5000", "--save-every", "2"]
    launcher = server.start(*flags(data, folder, *length), "--gpus", "2")
    server.wait_for(folder / "weights" / LAST, launcher)
    return launcher


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_and_it_goes_on(
    photo_data: Path, tmp_path: Path, server: Server, rank: int
) -> None:
    folder = tmp_path / "run"
    launcher = launched(server, photo_data, folder)
    os.kill(process_of(rank, folder), signal.SIGKILL)
    assert f"process {rank} of 2 was killed by signal 9" in ended(server, launcher, 3)
    before = read_last(folder / "weights")[0]["step"]
    ended(server, server.start("train", "seg", "--resume", folder, "train.iterations=5000", "--workers", "x"), 2)
    alone = server.start("train", "seg", "--resume", folder)
    limit = time.monotonic() + PATIENCE
    while read_last(folder / "weights")[0]["step"] <= before:
        assert server.wait(alone, 0.05) is None
        assert time.monotonic() < limit
    server.kill(alone, signal.SIGINT)
    ended(server, alone, 130)


@pytest.mark.long
def test_ctrl_c_saves(photo_data: Path, tmp_path: Path, server: Server) -> None:
    folder = tmp_path / "run"
    launcher = launched(server, photo_data, folder)
    os.killpg(launcher, signal.SIGINT)
    out = ended(server, launcher, 130)
    step = read_checkpoint(folder / "weights" / LAST)["step"]
    assert f"interrupted at iteration {step}; saved" in out


def test_started_anew_by_torchrun_they_go_on(photo_data: Path, tmp_path: Path, server: Server) -> None:
    """With the environment of torchrun: the first process is killed, and both are started again as they were."""
    command, saved = [*flags(photo_data, tmp_path, "--iterations", "4", "--save-every", "1")], {"half": ["last", 3]}
    found = server.run_together(2, *command, plans={0: saved}, environment={"TORCHELASTIC_MAX_RESTARTS": "1"})
    assert (found[0].code, found[1].code) == (-9, 3), found
    anew = {"TORCHELASTIC_MAX_RESTARTS": "1", "TORCHELASTIC_RESTART_COUNT": "1"}
    together(server, 0, *command, environment=anew)
    assert json.loads((tmp_path / "results.json").read_text())["iterations"] == 4
    assert "going on at iteration 2" in (tmp_path / "log.txt").read_text()


@pytest.mark.long
def test_torchrun_restarts_go_on(photo_data: Path, tmp_path: Path, server: Server) -> None:
    folder = tmp_path / "run"
    length = ["--iterations", "30", "--eval-every", "30", "--save-every", "2", "--device", "cpu"]
    torchrun = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1", "-m", "semikit"]
    agent = server.start("-m", "torch.distributed.run", *torchrun, *flags(photo_data, folder, *length))
    server.wait_for(folder / "weights" / LAST, agent)
    os.kill(process_of(1, folder), signal.SIGKILL)
    assert server.ended(agent).code == 0
    assert json.loads((folder / "results.json").read_text())["iterations"] == 30
    assert "going on at iteration" in (folder / "log.txt").read_text()


def test_a_batch_that_cannot_be_shared_is_told_once(photo_data: Path, tmp_path: Path, server: Server) -> None:
    found = server.run_together(3, *flags(photo_data, tmp_path / "a", "--iterations", "2"))
    assert [process.code for process in found] == [2, 2, 2], found
    assert "".join(process.out for process in found).count("cannot be shared evenly by 3 processes") == 1
    assert not (tmp_path / "a").exists()


def test_a_folder_that_is_taken_is_told_once(photo_data: Path, tmp_path: Path, server: Server) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    out = together(server, 2, *flags(photo_data, tmp_path, "--iterations", "2"))
    assert out.count("is not empty") == 1
    assert out.count("error:") == 1


def test_classes_are_chosen_on_test(icon_data: Path, tmp_path: Path, server: Server) -> None:
    """Pictures are of val and drawn by the first process alone, while scores are of test and of all."""
    flags = [*icons.FLAGS, "--labels", "6", "--iterations", "2", "--eval-every", "1", "--protocol", "paper"]
    together(server, 0, "train", "cls", "--data", icon_data, *flags, "--out", tmp_path / "a")
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["best"]["split"] == "test"
    assert (tmp_path / "a" / "images" / "confusion.png").exists()


def test_a_bad_file_of_any_process_is_told(tmp_path: Path, server: Server) -> None:
    """The unlabelled image goes bad after the data were looked through: unlabelled ones are not opened before."""
    data = photos.write(tmp_path / "data")
    bad = tmp_path / "data/train/images/train7.png"
    bad.write_bytes(bad.read_bytes()[:200])
    out = together(server, 0, *flags(data, tmp_path / "a", "--iterations", "4", "--eval-every", "4"))
    assert "unreadable file 1 of at most 10" in out
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert [Path(name).name for name in results["bad_files"]] == ["train7.png"]
