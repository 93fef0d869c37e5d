from __future__ import annotations

import csv
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from semikit.training.checkpoint import BEST, LAST, PREVIOUS, read_best, read_checkpoint, read_last

Tried = Callable[..., None]
Disk = Callable[..., Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of so many bytes; called again it gets another size or becomes read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> Path:
        again = ("remount",) if os.path.ismount(folder) else ()
        command = ["mount", "-t", "tmpfs", "-o", ",".join([*again, *options]), "none", str(folder)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"mounting a disk of a stated size needs more rights: {made.stderr.strip()}")
        return folder

    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def told_once(out: str) -> bool:
    """One message, and no traceback."""
    return sum(line.startswith("error: ") for line in out.splitlines()) == 1 and "Traceback" not in out


def all_whole(folder: Path) -> None:
    """Every file of a run folder can be read, and none is half written."""
    assert not list(folder.rglob(".*.tmp"))
    for name in (LAST, PREVIOUS):
        if (folder / "weights" / name).exists():
            read_checkpoint(folder / "weights" / name)
    if (folder / "weights" / BEST).exists():
        read_best(folder / "weights" / BEST)
    for path in folder.rglob("*.png"):
        Image.open(path).load()
    if (folder / "results.csv").exists():
        rows = list(csv.reader((folder / "results.csv").read_text().splitlines()))
        assert len({len(row) for row in rows}) == 1


def used(folder: Path) -> int:
    """Bytes of a folder in whole pages."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def full_at(many_runs: Any, whole: Any, disk: Disk, size: int, tried: Tried) -> None:
    folder = disk(f"size={size}") / "run"
    ended = many_runs.server.run(*many_runs.command, "--out", folder)
    assert ended.code == 3, (size, ended)
    assert told_once(ended.out), ended.out
    assert "No space left on device" in ended.out or "(0.0 MiB free on its disk)" in ended.out, ended.out
    if folder.exists():
        all_whole(folder)
    disk("size=100m")
    many_runs.to_the_end(folder, whole)
    shutil.rmtree(folder)
    tried("disk full (a real one) at different sizes: exit 3, one message, nothing half written, resumed")


def test_a_full_disk(many_runs: Any, whole: Any, disk: Disk, tried: Tried) -> None:
    """So full that the second checkpoint does not fit beside the first."""
    weights = whole.folder / "weights"
    full_at(many_runs, whole, disk, used(whole.folder) - (weights / LAST).stat().st_size, tried)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_disk_full_at_any_size(many_runs: Any, whole: Any, disk: Disk, tried: Tried) -> None:
    most = used(whole.folder) + (whole.folder / "weights" / LAST).stat().st_size
    for size in range(4096, most - 4096, max(4096, most // 40 // 4096 * 4096)):
        full_at(many_runs, whole, disk, size, tried)


def test_a_folder_that_becomes_read_only(many_runs: Any, whole: Any, tried: Tried) -> None:
    """Not even root may write to an immutable folder."""
    folder = many_runs.new()
    pid = many_runs.server.start(*many_runs.command, "--iterations", "100000", "--save-every", "2", "--out", folder)
    while not (folder / "weights" / PREVIOUS).exists():
        assert many_runs.server.wait(pid, 0.05) is None
    changed = subprocess.run(["chattr", "+i", str(folder / "weights")], capture_output=True, text=True, check=False)
    try:
        if changed.returncode:
            many_runs.server.kill(pid)
            many_runs.server.wait(pid)
            pytest.skip(f"no folder can be made immutable here: {changed.stderr.strip()}")
        ended = many_runs.server.wait(pid)
    finally:
        subprocess.run(["chattr", "-i", str(folder / "weights")], capture_output=True, check=False)
    assert ended.code == 3, ended
    assert told_once(ended.out), ended.out
    assert "Operation not permitted" in ended.out
    all_whole(folder)
    step = read_checkpoint(folder / "weights" / LAST)["step"]
    again = many_runs.server.start("train", "seg", "--resume", folder, "--quiet")
    while read_last(folder / "weights")[0]["step"] <= step:
        assert many_runs.server.wait(again, 0.05) is None
    many_runs.server.kill(again)
    many_runs.server.wait(again)
    tried("folder becoming read-only (a real one) in the middle of a run: exit 3, one message, resumed")


@pytest.mark.parametrize(
    ("name", "number", "fault"),
    [("fsync", 5, errno.EIO), ("replace", 4, errno.EROFS)],
)
def test_a_write_that_fails(many_runs: Any, whole: Any, tried: Tried, name: str, number: int, fault: int) -> None:
    failing(many_runs, whole, name, number, fault, tried)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_write_that_fails(many_runs: Any, whole: Any, tried: Tried) -> None:
    for name in ("fsync", "replace"):
        for number in range(1, 100):
            fault = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)[number % 4]
            if not failing(many_runs, whole, name, number, fault, tried):
                break
        assert number > 10


def failing(many_runs: Any, whole: Any, name: str, number: int, fault: int, tried: Tried) -> bool:
    """Whether a run met the n-th call at all; then it ended as it should, and could be resumed."""
    folder = many_runs.new()
    ended = many_runs.server.run(*many_runs.command, "--out", folder, error=[name, number, fault])
    if ended.code == 0:
        return False
    assert ended.code == 3, (name, number, ended)
    assert told_once(ended.out), ended.out
    assert os.strerror(fault) in ended.out
    if folder.exists():
        all_whole(folder)
    many_runs.to_the_end(folder, whole)
    tried(f"{name} failing (injected: no space, quota, read-only, no permission, I/O error): exit 3, resumed")
    return True
