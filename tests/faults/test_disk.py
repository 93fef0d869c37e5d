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


def full_at(trials: Any, whole: Any, disk: Disk, size: int, tried: Tried) -> None:
    folder = disk(f"size={size}") / "run"
    ended = trials.server.run(*trials.command, "--out", folder)
    assert ended.code == 3, (size, ended)
    assert told_once(ended.out), ended.out
    assert "No space left on device" in ended.out or "(0.0 MiB free on its disk)" in ended.out, ended.out
    if folder.exists():
        all_whole(folder)
    disk("size=100m")
    trials.to_the_end(folder, whole)
    shutil.rmtree(folder)
    tried("disk full (a real one) at different sizes: exit 3, one message, nothing half written, resumed")


def test_a_full_disk(trials: Any, whole: Any, disk: Disk, tried: Tried) -> None:
    """So full that the second checkpoint does not fit beside the first."""
    weights = whole.folder / "weights"
    full_at(trials, whole, disk, used(whole.folder) - (weights / LAST).stat().st_size, tried)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_disk_full_at_any_size(trials: Any, whole: Any, disk: Disk, tried: Tried) -> None:
    most = used(whole.folder) + (whole.folder / "weights" / LAST).stat().st_size
    for size in range(4096, most - 4096, max(4096, most // 40 // 4096 * 4096)):
        full_at(trials, whole, disk, size, tried)


def test_a_folder_that_becomes_read_only(trials: Any, whole: Any, tried: Tried) -> None:
    """Not even root may write to an immutable folder."""
    folder = trials.new()
    pid = trials.server.start(*trials.command, "--iterations", "100000", "--save-every", "2", "--out", folder)
    while not (folder / "weights" / PREVIOUS).exists():
        assert trials.server.wait(pid, 0.05) is None
    changed = subprocess.run(["chattr", "+i", str(folder / "weights")], capture_output=True, text=True, check=False)
    try:
        if changed.returncode:
            trials.server.kill(pid)
            trials.server.wait(pid)
            pytest.skip(f"no folder can be made immutable here: {changed.stderr.strip()}")
        ended = trials.server.wait(pid)
    finally:
        subprocess.run(["chattr", "-i", str(folder / "weights")], capture_output=True, check=False)
    assert ended.code == 3, ended
    assert told_once(ended.out), ended.out
    assert "Operation not permitted" in ended.out
    all_whole(folder)
    step = read_checkpoint(folder / "weights" / LAST)["step"]
    again = trials.server.start("train", "seg", "--resume", folder, "--quiet")
    while read_last(folder / "weights")[0]["step"] <= step:
        assert trials.server.wait(again, 0.05) is None
    trials.server.kill(again)
    trials.server.wait(again)
    tried("folder becoming read-only (a real one) in the middle of a run: exit 3, one message, resumed")


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize(("name", "number"), [("fsync", 5), ("replace", 4)])
def test_a_write_that_fails(trials: Any, whole: Any, tried: Tried, name: str, number: int, fault: int) -> None:
    failing(trials, whole, name, number, fault, tried)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_write_that_fails(trials: Any, whole: Any, tried: Tried) -> None:
    for name in ("fsync", "replace"):
        for number in range(1, 100):
            fault = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)[number % 4]
            if not failing(trials, whole, name, number, fault, tried):
                break
        assert number > 10


def failing(trials: Any, whole: Any, name: str, number: int, fault: int, tried: Tried) -> bool:
    """Whether a run met the n-th call at all; then it ended as it should, and could be resumed."""
    folder = trials.new()
    ended = trials.server.run(*trials.command, "--out", folder, error=[name, number, fault])
    if ended.code == 0:
        return False
    assert ended.code == 3, (name, number, ended)
    assert told_once(ended.out), ended.out
    assert os.strerror(fault) in ended.out
    if folder.exists():
        all_whole(folder)
    trials.to_the_end(folder, whole)
    tried(f"{name} failing (injected: no space, quota, read-only, no permission, I/O error): exit 3, resumed")
    return True
