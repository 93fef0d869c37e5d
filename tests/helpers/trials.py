"""Hostile cases, each one command in a child process that is watched: crash, hang, fault, or what is left behind.

A case is drawn from (seed, kind, number) alone, so every one can be repeated by itself: SEMIKIT_FUZZ=KIND:NUMBER.
SEMIKIT_FUZZ_SHARE=0.1 tries the first tenth.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import math
import os
import resource
import select
import shutil
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from semikit.cli import app
from semikit.cli.app import run
from semikit.core.rng import rng_for

SEED = 6
LIMIT = 60.0
"""Seconds of a case after which it counts as hanging: the machine may be busy."""
ROOM = 4 << 30
"""Bytes of memory that a case may ask for."""
LARGEST_FILE = 1 << 30


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Trial:
    """One command, and what lies in its folder afterwards whole or not at all."""

    arguments: Sequence[object]
    outputs: Sequence[Path] = ()
    whole: Callable[[Path], bool] = field(default=lambda path: True)
    """Whether an output that is there is complete."""


Make = Callable[[np.random.Generator, Path], Trial]
"""Lays hostile input into an empty folder, draws it from the generator."""


def called(*arguments: object) -> Answer:
    """Runs one command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(item) for item in arguments])
    return Answer(code, out.getvalue(), err.getvalue())


def refused(*arguments: object) -> str:
    """Runs a command that must end with exit code 2 and one message, which is returned."""
    answer = called(*arguments)
    assert answer.code == 2, answer
    assert _one_message(answer.err), answer.err
    assert "Traceback" not in answer.err
    return answer.err.removeprefix("error: ").strip()


def tried(kind: str, make: Make, count: int, folder: Path) -> Counter[str]:
    """Every case of a kind in turn; returns how often each exit code came.

    Raises:
        AssertionError: names the cases that ended otherwise than with success or one message.
    """
    numbers = list(range(math.ceil(count * float(os.environ.get("SEMIKIT_FUZZ_SHARE", "1")))))
    only, _, chosen = os.environ.get("SEMIKIT_FUZZ", "").partition(":")
    if only:
        numbers = [int(chosen)] if only == kind else []
    ends, wrong = Counter[str](), []
    for number, code, fault in _outcomes(kind, make, numbers, folder):
        ends[str(code)] += 1
        if fault:
            wrong.append(f"SEMIKIT_FUZZ={kind}:{number} {fault}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(numbers)} cases of {kind} (seed {SEED}):", *wrong[:40]])
    return ends


def _outcomes(kind: str, make: Make, numbers: list[int], folder: Path) -> Iterator[tuple[int, int, str]]:
    """(number, exit code, what was wrong) of every case; where the child ends early, another takes over."""
    waiting = list(numbers)
    while waiting:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: those of torch sleep
            child, answers = _forked(partial(_child, kind, make, tuple(waiting), folder))
        for line in _lines(answers, child):
            told = json.loads(line)
            assert waiting.pop(0) == told["number"]
            yield told["number"], told["code"], told["fault"]
        _, status = os.waitpid(child, 0)
        if waiting:
            number, end = waiting.pop(0), os.waitstatus_to_exitcode(status)
            name = "hang" if end == -signal.SIGKILL else f"crash ({end})"
            yield number, end, f"{name}\n{(folder / 'said').read_text(errors='replace')[-1500:]}"


def _forked(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """Process and pipe of a child that does the work and tells lines."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    try:
        work(lambda line: (os.write(writing, line.encode() + b"\n"), None)[1])
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(0)


def _lines(pipe: int, child: int) -> Iterator[str]:
    """Lines until the child ends; one that says nothing for too long is killed."""
    rest = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], LIMIT)
        chunk = os.read(pipe, 1 << 16) if ready else b""
        if not chunk:
            if not ready:
                os.kill(child, signal.SIGKILL)
            os.close(pipe)
            return
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in whole)


def _child(kind: str, make: Make, numbers: Sequence[int], folder: Path, tell: Callable[[str], None]) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") if _LINUX else 0
    if _LINUX:
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, resource.RLIM_INFINITY))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    said = (folder / "said").open("w+", buffering=1)
    os.dup2(said.fileno(), 2)  # of libraries too
    faulthandler.enable(said)
    box = folder / "around" / "box"
    for number in numbers:
        shutil.rmtree(box.parent, ignore_errors=True)
        box.mkdir(parents=True)
        os.chdir(box)
        said.seek(0)
        said.truncate()
        faulthandler.dump_traceback_later(LIMIT - 5, file=said)
        code, fault = _case(kind, make, number, box, said)
        faulthandler.cancel_dump_traceback_later()
        tell(json.dumps({"number": number, "code": code, "fault": fault}))


_LINUX = sys.platform == "linux"


def _case(kind: str, make: Make, number: int, box: Path, said: Any) -> tuple[int, str]:
    trial = make(rng_for(SEED, kind, number), box)
    traces: list[str] = []
    with _traced(traces), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = run([str(item) for item in trial.arguments])
    said.flush()
    said.seek(0)
    fault = fault_of(code, said.read(), trial, box)
    return code, f"{fault}\n{''.join(traces)[-2500:]}" if fault else ""


@contextlib.contextmanager
def _traced(traces: list[str]) -> Iterator[None]:
    """Keeps the traceback of what a command ends with."""
    tell = app._tell

    def told(error: Exception) -> int:
        traces.extend(traceback.format_exception(error))
        return tell(error)

    app._tell = told
    try:
        yield
    finally:
        app._tell = tell


def fault_of(code: int, err: str, trial: Trial, box: Path) -> str:
    """What is wrong with how a command ended; empty where nothing is."""
    if code not in (0, 2, 3):
        return f"exit {code}: {err[-1500:]}"
    if "Traceback" in err or (code and not _one_message(err)):
        return f"exit {code} and not one message: {err[-1500:]}"
    outside = sorted(path.name for path in box.parent.iterdir() if path != box)
    if outside or (box / "escaped").exists():
        return f"written outside, or code was run: {outside}"
    for path in trial.outputs:
        inside = path.rglob("*") if path.is_dir() else [path]
        left = [str(item) for item in inside if item.name.endswith((".tmp", ".part"))]
        if left:
            return f"left behind: {left}"
        if path.exists() and not trial.whole(path):
            return f"half-written: {path}"
    return ""


def _one_message(err: str) -> bool:
    """Whether nothing but one message was said."""
    words = ("error: ", "stopped: ", "Usage: ")
    return err.startswith(words) and sum(err.count(f"\n{word}") for word in words) == 0
