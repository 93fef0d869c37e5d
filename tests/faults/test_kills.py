from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semikit.core.rng import rng_for
from semikit.training.checkpoint import LAST, PREVIOUS, read_checkpoint
from semikit.training.tracking import read_rows
from tests.helpers.equality import differences

Tried = Callable[..., None]

SEED = 20261124
STEPS = 4


def test_what_is_compared_is_whole(whole: Any) -> None:
    assert whole.outcome["last"]["step"] == STEPS
    assert [row["iteration"] for row in whole.outcome["rows"]] == [2, 4]
    assert not [name for name in whole.outcome["names"] if "/." in f"/{name}"], "no lock, nothing half written"
    files = {line.split(":")[0] for line in whole.lines}
    assert files >= {
        "files.py",
        "checkpoint.py",
        "tracking.py",
        "manifest.py",
        "lock.py",
        "folder.py",
        "lifecycle.py",
        "pictures.py",
    }
    assert len(whole.lines) > 80


def killed_at_a_line(many_runs: Any, whole: Any, line: str, tried: Tried) -> None:
    file, number = line.split(":")
    count = 1 + int(rng_for(SEED, f"line/{line}").integers(whole.lines[line]))
    folder = many_runs.new()
    ended = many_runs.server.run(*many_runs.command, "--out", folder, line=[file, int(number), count])
    assert ended.code == -9, ended
    many_runs.to_the_end(folder, whole)
    tried("kill -9 before a line of what writes the run folder: the run ended as the uninterrupted one")


def killed_at_a_moment(many_runs: Any, whole: Any, number: int, tried: Tried) -> None:
    """Every third run is killed again after it was resumed."""
    rng, folder = rng_for(SEED, "moment", number), many_runs.new()
    ended = many_runs.server.killed_after(float(rng.uniform(0, whole.seconds)), *many_runs.command, "--out", folder)
    kills = int(ended.code == -9)
    if number % 3 == 0 and kills:
        pid = many_runs.go_on(folder)
        if many_runs.server.wait(pid, float(rng.uniform(0, whole.seconds))) is None:
            many_runs.server.kill(pid)
            assert many_runs.server.wait(pid).code == -9
            kills += 1
    many_runs.to_the_end(folder, whole)
    tried("kill -9 at a random moment: the run ended as the uninterrupted one", kills)


def test_kill_at_a_moment(many_runs: Any, whole: Any, tried: Tried) -> None:
    killed_at_a_moment(many_runs, whole, 0, tried)


@pytest.mark.long
@pytest.mark.parametrize("number", range(1, 50))
def test_kill_at_50_moments(many_runs: Any, whole: Any, tried: Tried, number: int) -> None:
    killed_at_a_moment(many_runs, whole, number, tried)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_kill_at_every_line_that_writes(many_runs: Any, whole: Any, tried: Tried) -> None:
    for line in sorted(whole.lines):
        killed_at_a_line(many_runs, whole, line, tried)


@pytest.mark.parametrize(
    ("what", "number"),
    [("last", 3), ("best", 2), *(pytest.param(what, 1, marks=pytest.mark.long) for what in ("last", "best"))],
)
def test_kill_with_a_file_half_written(many_runs: Any, whole: Any, tried: Tried, what: str, number: int) -> None:
    folder = many_runs.new()
    assert many_runs.server.run(*many_runs.command, "--out", folder, half=[what, number]).code == -9
    assert list((folder / "weights").glob(".*.tmp"))
    many_runs.to_the_end(folder, whole)
    tried(f"kill -9 with half of the {what} weights written: the run ended as the uninterrupted one")


def between_the_names(lines: dict[str, int]) -> str:
    """The line that gives the new checkpoint its name, when the former one has lost it."""
    import inspect

    from semikit import files

    source, first = inspect.getsourcelines(files.write_atomically)
    place = next(k for k, text in enumerate(source) if "temporary.replace(path)" in text)
    return f"files.py:{first + place}"


def test_after_a_damaged_checkpoint_no_kill_takes_the_good_one(many_runs: Any, whole: Any, tried: Tried) -> None:
    """The damaged file must not become the one before while the new one has no name yet."""
    folder = many_runs.new()
    assert many_runs.server.run(*many_runs.command, "--out", folder, half=["last", 4]).code == -9
    path = folder / "weights" / LAST
    assert read_checkpoint(path)["step"] == 3
    path.write_bytes(path.read_bytes()[:-100])
    file, number = between_the_names(whole.lines).split(":")
    pid = many_runs.go_on(folder, line=[file, int(number), 2])  # 1: results.csv
    assert many_runs.server.wait(pid).code == -9
    assert not path.exists()
    assert read_checkpoint(folder / "weights" / PREVIOUS)["step"] == 2
    damaged = folder / "weights/damaged.ckpt"
    assert damaged.exists()
    damaged.unlink()
    many_runs.to_the_end(folder, whole)
    tried("kill -9 after a damaged checkpoint, between two names: the good one was still there")


def test_killed_before_the_first_checkpoint(many_runs: Any, whole: Any) -> None:
    folder = many_runs.new()
    assert many_runs.server.run(*many_runs.command, "--out", folder, half=["last", 1]).code == -9
    assert not (folder / "weights" / LAST).exists()
    other = many_runs.server.run("train", "seg", "--resume", folder, "--seed", "5")
    assert other.code == 2
    assert "train.seed: 0 -> 5" in other.out
    ended = many_runs.server.run("train", "seg", "--resume", folder)
    assert ended.code == 0, ended.out
    assert "has no checkpoint yet: beginning again at iteration 0" in " ".join(ended.out.split())
    assert not differences(many_runs.outcome(folder), whole.outcome)


def test_workers_do_not_outlive_a_killed_run(many_runs: Any, photo_data: Path, tried: Tried) -> None:
    folder = many_runs.new()
    pid = many_runs.server.start(*many_runs.command, "--workers", "2", "--iterations", "100000", "--out", folder)
    end = time.monotonic() + 60
    while not (folder / "weights" / LAST).exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    workers = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert len(workers) == 2
    many_runs.server.kill(pid)
    many_runs.server.wait(pid)
    again = many_runs.server.start("train", "seg", "--resume", folder, "--workers", "0", "--quiet")
    end = time.monotonic() + 30
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < end, "workers outlive the run"
        time.sleep(0.1)
    assert many_runs.server.wait(again, 0) is None, "the workers of a killed run must not hold its lock"
    many_runs.server.kill(again)
    many_runs.server.wait(again)
    tried("kill -9 of a run with two workers: they ended by themselves, and the run could be resumed at once")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_clock_set_back_changes_nothing(many_runs: Any, whole: Any, tried: Tried) -> None:
    folder = many_runs.new()
    ended = many_runs.server.run(*many_runs.command, "--out", folder, clock=[86400.0])
    assert ended.code == 0, ended.out
    assert not differences(many_runs.outcome(folder), whole.outcome)
    results = json.loads((folder / "results.json").read_text())
    assert 0 < results["seconds"] < 3600
    assert results["images_per_second"] > 0
    assert all(row["images_per_second"] > 0 and 0 <= row["waiting"] <= 1 for row in read_rows(folder))
    tried("clock set back by a day in the middle of a run: same result, same speed told")


def test_a_clock_set_back_between_stop_and_resumption(many_runs: Any, whole: Any, tried: Tried) -> None:
    """Which checkpoint is newer is told by its name, not by its time."""
    folder = many_runs.new()
    assert many_runs.server.run(*many_runs.command, "--out", folder, half=["last", 4]).code == -9
    os.utime(folder / "weights" / LAST, (1.0, 1.0))
    many_runs.to_the_end(folder, whole)
    tried("clock set back between a kill and the resumption: same result")


def test_moments_are_spread_over_the_run() -> None:
    moments = [float(rng_for(SEED, "moment", number).uniform(0, 1)) for number in range(50)]
    assert np.histogram(moments, 5, (0, 1))[0].min() >= 4
