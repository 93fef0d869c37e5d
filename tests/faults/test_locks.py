from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semikit.errors import InputError
from semikit.run.lock import LOCK, refuse_another, sole_writer
from tests.helpers.equality import differences

Tried = Callable[..., None]


def test_the_second_run_is_refused(many_runs: Any, whole: Any, tried: Tried) -> None:
    """With the same --out, and with --resume."""
    folder = many_runs.new()
    first = many_runs.server.start(*many_runs.command, "--iterations", "100000", "--save-every", "1", "--out", folder)
    end = time.monotonic() + 60
    while not (folder / "weights/last.ckpt").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    for arguments in ([*many_runs.command, "--out", folder], ["train", "seg", "--resume", folder]):
        ended = many_runs.server.run(*arguments)
        assert ended.code == 2, ended
        assert f"{folder} is in use by process {first} on {socket.gethostname()} since 2" in ended.out
        assert f"delete {folder / LOCK} and try again" in ended.out
        tried("second run in a folder in use: exit 2, the first is named")
    assert many_runs.server.wait(first, 0) is None
    many_runs.server.kill(first)
    many_runs.server.wait(first)
    assert (folder / LOCK).exists(), "a lock file of a killed process"
    again = many_runs.server.start("train", "seg", "--resume", folder, "--quiet")
    assert many_runs.server.wait(again, 3.0) is None, "it keeps nobody out"
    many_runs.server.kill(again)
    many_runs.server.wait(again)
    tried("stale lock file after kill -9: the run is resumed at once")


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.long)])
def test_of_two_that_start_together_one_trains(many_runs: Any, whole: Any, tried: Tried, times: int) -> None:
    for _ in range(times):
        folder = many_runs.new()
        pids = [many_runs.server.start(*many_runs.command, "--out", folder) for _ in range(2)]
        ended = [many_runs.server.wait(pid) for pid in pids]
        assert sorted(each.code for each in ended) == [0, 2], ended
        assert not differences(many_runs.outcome(folder), whole.outcome)
        tried("two runs started at once with one --out: one trains undisturbed, the other exits 2")


def test_of_two_that_resume_together_one_goes_on(many_runs: Any, whole: Any, tried: Tried) -> None:
    folder = many_runs.new()
    assert many_runs.server.run(*many_runs.command, "--out", folder, half=["last", 2]).code == -9
    pids = [many_runs.go_on(folder) for _ in range(2)]
    ended = [many_runs.server.wait(pid) for pid in pids]
    assert sorted(each.code for each in ended) == [0, 2], ended
    assert not differences(many_runs.outcome(folder), whole.outcome)
    tried("two --resume of one run at once: one goes on undisturbed, the other exits 2")


def test_two_without_out_get_folders_of_their_own(many_runs: Any, tried: Tried) -> None:
    pids = [many_runs.server.start(*many_runs.command, "--iterations", "1") for _ in range(3)]
    assert [many_runs.server.wait(pid).code for pid in pids] == [0, 0, 0]
    made = sorted(path.name for path in (many_runs.server.folder / "runs/seg").iterdir())
    assert made == ["data-unimatch_v2", "data-unimatch_v2-2", "data-unimatch_v2-3"]
    tried("three runs racing for one default name: three folders")


def test_a_lock_leaves_nothing(tmp_path: Path) -> None:
    with sole_writer(tmp_path) as notice:
        assert notice is None
        assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()
        with pytest.raises(InputError, match=f"in use by process {os.getpid()}"):
            refuse_another(tmp_path)
    assert list(tmp_path.iterdir()) == []
    refuse_another(tmp_path)


def test_what_a_killed_writer_left_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    for name in (".results.csv.1.tmp", "weights/.last.ckpt.77.tmp", "weights/last.ckpt", "images.tmp"):
        (tmp_path / name).touch()
    with sole_writer(tmp_path):
        left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == [LOCK, "images.tmp", "weights/last.ckpt"]


def test_a_disk_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with sole_writer(tmp_path) as notice:
        assert notice is not None
        assert "has no file locks" in notice


def test_no_folder_to_lock(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write to .*No such file"), sole_writer(tmp_path / "none"):
        raise AssertionError


def test_a_child_does_not_hold_its_parent_s_lock(tmp_path: Path) -> None:
    """Loader workers are such children; they may live on for a moment when the run is killed."""
    code = f"""
import os, signal, time
from pathlib import Path
from semikit.run.lock import sole_writer
with sole_writer(Path({str(tmp_path)!r})):
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.stdout.close()
    assert process.wait(20) == -9
    limit = time.monotonic() + 10  # on a busy machine the child has not run yet
    while True:
        try:
            with sole_writer(tmp_path) as notice:
                assert notice is None
            return
        except InputError:
            assert time.monotonic() < limit
            time.sleep(0.05)
