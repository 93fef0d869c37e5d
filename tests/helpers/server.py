"""A process that has imported everything once and forks a child for every command; it is told what to do on stdin.

    {"start": {"arguments": [...], "folder": DIR, "out": FILE, "environment": {...}, "plan": {...}}} -> {"pid": N}
    {"wait": N, "seconds": S} -> {"code": exit code, minus the signal, or null: it still runs}
    {"kill": N, "signal": S} -> {}

The arguments are those of `semikit`, or of another module after "-m". A plan says what befalls the child: `line`
[FILE, LINE, n] kills it before the n-th execution of a line; `half` [NAME, n] when the n-th file is half written;
`error` [NAME, n, errno] lets a function fail from its n-th call; `clock` [S] sets `time.time` back at its third call;
`record` FILE writes how often each line ran. `memory` FILE writes by how many MiB the peak of memory grew.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

# ruff: noqa: F401
import matplotlib.backends.backend_agg
import matplotlib.figure
import rasterio
import torch
import torch.utils.tensorboard
import torchmetrics
from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, TiffImagePlugin

from semikit import files
from semikit.cli import app
from semikit.data import manifest
from semikit.inference import pictures
from semikit.methods import unimatch_v2
from semikit.models import segmenter
from semikit.run import folder as run_folder
from semikit.run import lifecycle as run
from semikit.run import lock
from semikit.tasks import cls, seg
from semikit.training import checkpoint, tracking
from tests.helpers import shortcuts

MODULES = (files, checkpoint, tracking, manifest, lock, run_folder)
TRACED = {module.__file__: Path(module.__file__ or "").name for module in MODULES}
FUNCTIONS = {
    (Path(function.__code__.co_filename).name, function.__name__)
    for function in (run.start_run, run._write_begin, run._train, pictures.save_png)
}


def traced(frame: FrameType) -> str | None:
    name = frame.f_code.co_filename
    if name in TRACED:
        return TRACED[name]
    short = Path(name).name
    return short if "semikit" in name and (short, frame.f_code.co_name) in FUNCTIONS else None


def watch_lines(seen: Callable[[str, int], None]) -> None:
    def inside(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            seen(traced(frame) or "", frame.f_lineno)
        return inside

    sys.settrace(lambda frame, event, argument: inside if traced(frame) else None)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half_written(write: Callable[[Path], Any], path: Path) -> None:
    whole = path.with_name("whole")
    write(whole)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    whole.unlink()
    die()


def kill_at(file: str, line: int, number: int) -> None:
    count = 0

    def seen(where: str, at: int) -> None:
        nonlocal count
        count += (where, at) == (file, line)
        if count == number:
            die()

    watch_lines(seen)


def kill_half_way(what: str, number: int) -> None:
    """Write half a file at the n-th call, then end."""
    owner, name, place = {"last": (torch, "save", 1), "best": (checkpoint, "write_tensors", 1)}[what]
    plain, count = getattr(owner, name), 0

    def half(*arguments: Any, **options: Any) -> None:
        nonlocal count
        count += 1
        if count != number:
            plain(*arguments, **options)
            return
        path = Path(arguments[place])
        plain(*arguments[:place], path.with_name("whole"), **options)
        path.write_bytes(path.with_name("whole").read_bytes()[: path.with_name("whole").stat().st_size // 2])
        path.with_name("whole").unlink()
        die()

    setattr(owner, name, half)


def set_clock_back(seconds: float) -> None:
    plain, count = time.time, 0

    def earlier() -> float:
        nonlocal count
        count += 1
        return plain() - (seconds if count > 2 else 0)

    time.time = earlier


def fail_at(name: str, number: int, fault: int) -> None:
    """From the n-th call on a function raises OSError."""
    owner: Any = {"fsync": os, "replace": Path}[name]
    plain, count = getattr(owner, name), 0

    def failing(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count >= number:
            raise OSError(fault, os.strerror(fault))
        return plain(*arguments)

    setattr(owner, name, failing)


PLANS: dict[str, Callable[..., None]] = {
    "line": kill_at,
    "half": kill_half_way,
    "clock": set_clock_back,
    "error": fail_at,
}


def prepare(plan: dict[str, Any]) -> Callable[[], object]:
    """Arrange what befalls this process; what is returned is called at its end."""
    counts: Counter[str] = Counter()
    if "memory" in plan:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return lambda: Path(plan["memory"]).write_text(
            str((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
        )
    for name, arguments in plan.items():
        if name == "record":
            watch_lines(lambda file, line: counts.update([f"{file}:{line}"]))
        else:
            PLANS[name](*arguments)
    return lambda: Path(plan["record"]).write_text(json.dumps(counts)) if "record" in plan else None


def start(arguments: list[str], folder: str, out: str, environment: dict[str, str], plan: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    os.setsid()
    torch.set_num_threads(1)  # a forked process makes torch's pool anew: not in two threads of the engine at once
    os.chdir(folder)
    os.environ |= environment
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for target in (1, 2):
        os.dup2(descriptor, target)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    code = 99
    try:
        finished = prepare(plan)
        code = run_module(arguments[1:]) if arguments[0] == "-m" else app.run(arguments)
        finished()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def run_module(arguments: list[str]) -> int:
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    return 0


def wait(pid: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.002)


def main() -> None:
    torch.set_num_threads(1)
    shortcuts.take()
    threads = len(list(Path("/proc/self/task").iterdir()))
    print(json.dumps({"threads": threads}), flush=True)
    running: set[int] = set()
    for line in sys.stdin:
        message = json.loads(line)
        answer: dict[str, Any] = {}
        if "start" in message:
            answer["pid"] = start(**message["start"])
            running.add(answer["pid"])
        elif "wait" in message:
            answer["code"] = wait(message["wait"], message["seconds"])
            if answer["code"] is not None:
                running.discard(message["wait"])
        elif "kill" in message:
            os.kill(message["kill"], message["signal"])
        print(json.dumps(answer), flush=True)
    for child in running:
        os.killpg(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
    os._exit(0)  # to take down all that was imported takes seconds
