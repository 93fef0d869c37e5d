"""All that has to be seen on a GPU, in one call of at most nine minutes: smoke trains, speeds, agreement of precisions.

    python -m benchmarks.accelerator --out build/accelerator                       # on a GPU
    python -m benchmarks.accelerator --out build/accelerator --device cpu --tiny   # to try it, some minutes

From the repository's folder, with semikit installed; nothing is fetched (random weights). SEMIKIT_TEST_DATA names the
folder that holds camvid/ and cifar10/, without which their parts are left out. Each part is a process of its own with
its own limit of time; what fails or is too slow is recorded, and the next part begins. What tells most comes first.
OUT/report.json and OUT/report.md are written anew after each part, OUT/PART.txt holds what it printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, final

from semikit.errors import SemikitError

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
SEMIKIT = (PYTHON, "-m", "semikit")
GRACE = 15.0
"""Seconds in which a part that was stopped may save what it has."""
Numbers = dict[str, float]

VIT = "model.encoder_args={depth: 2, embed_dim: 48, num_heads: 2, img_size: 28}"
TINY_PIXELS = (VIT, "model.decoder_channels=8", "model.decoder_widths=[8, 8, 16, 16]", "--crop", "28", "--batch", "2")
TINY_CLASSES = ("--encoder", "resnet10t", "--crop", "32", "--batch", "2", "optimizer.layer_decay=null")
TASKS = {"seg": "shapes", "cd": "shapes-cd", "cls": "shapes-cls"}
"""The built-in data set of each task."""
AIMS: tuple[tuple[str, str, str, Callable[[float], bool]], ...] = (
    ("DINOv2-B 8 + 8 at 518, ms a step", "compiled step", "ms", lambda ms: ms <= 75),
    ("the same, share of the peak, %", "compiled step", "share of peak, %", lambda share: share >= 40),
    ("the same against the naive form", "compiled step", "naive / semikit", lambda ratio: ratio >= 8),
    ("WRN-28-2 64 + 448, ms a step", "wrn step", "ms", lambda ms: ms <= 8),
    ("bf16 against fp32, points", "precisions", "difference", lambda points: points <= 0.1),
)
"""What is aimed at: its name, part and number, and whether that will do."""


@final
@dataclass(frozen=True)
class Part:
    """Commands one after the other, and what is read of their files. `timed`: it may run until its limit."""

    name: str
    commands: Sequence[Sequence[str]]
    limit: float
    read: Callable[[], Numbers] = dict
    timed: bool = False


@final
@dataclass
class Outcome:
    """How a part ended."""

    name: str
    ended: str
    seconds: float = 0.0
    numbers: Numbers = field(default_factory=dict)


def ended(process: subprocess.Popen[bytes], limit: float) -> int | None:
    """The exit code; None where it had to be stopped: first by SIGTERM, on which a run saves (a shell in the background
    lets nobody hear SIGINT), then with all it started.
    """
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def run_part(part: Part, folder: Path, left: float) -> Outcome:
    """Run one part within its limit and what is left of all time."""
    limit = min(part.limit, left)
    if limit < 1:
        return Outcome(part.name, "not run: no time left")
    begun, ending = time.monotonic(), "done"
    with (folder / f"{part.name.replace(' ', '-')}.txt").open("wb") as out:
        for command in part.commands:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True)
            code = ended(process, begun + limit - time.monotonic())
            if code is None and part.timed:
                ending = "done: stopped at its limit"
            elif code != 0:
                ending = f"failed: {'over its limit' if code is None else f'exit code {code}'}"
                break
    outcome = Outcome(part.name, ending, time.monotonic() - begun)
    try:
        outcome.numbers = part.read()
    except (OSError, ValueError, KeyError, IndexError) as error:
        if ending.startswith("done"):
            outcome.ended = f"failed: nothing to read ({error!r})"
    return outcome


def run_all(parts: Sequence[Part], folder: Path, seconds: float, about: dict[str, str]) -> list[Outcome]:
    """Run the parts in their order; the report is there after each."""
    folder.mkdir(parents=True, exist_ok=True)
    limit, outcomes = time.monotonic() + seconds, list[Outcome]()
    for part in parts:
        outcomes.append(run_part(part, folder, limit - time.monotonic()))
        found = {"about": about, "parts": [asdict(outcome) for outcome in outcomes]}
        (folder / "report.json").write_text(json.dumps(found, indent=2) + "\n")
        (folder / "report.md").write_text(report(outcomes, about))
        print(row(outcomes[-1]), flush=True)
    return outcomes


def row(outcome: Outcome) -> str:
    """A line of the table."""
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in outcome.numbers.items())
    return f"| {outcome.name} | {outcome.ended} | {outcome.seconds:.0f} | {numbers} |"


def report(outcomes: Sequence[Outcome], about: dict[str, str]) -> str:
    """In Markdown."""
    found = {outcome.name: outcome.numbers for outcome in outcomes}
    aims = []
    for text, part, name, good in AIMS:
        value = found.get(part, {}).get(name)
        verdict = "not measured" if value is None else "reached" if good(value) else "missed"
        aims.append(f"| {text} | {'' if value is None else f'{value:.4g}'} | {verdict} |")
    lines = [
        f"# On an accelerator, {date.today().isoformat()}", "", " · ".join(about.values()), "",
        "| aim | found | |", "|---|---:|---|", *aims, "",
        "| part | ended | s | found |", "|---|---|---:|---|", *map(row, outcomes),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text())


def step_numbers(path: Path) -> Numbers:
    """Of `benchmarks.step`."""
    step = next(value for name, value in read(path).items() if name.startswith("step"))
    speed, ratios = step["speed"], step["ratios"]
    numbers = {
        "ms": 1e3 * speed["seconds"],
        "TFLOP/s": speed["tflops"],
        "share of peak, %": 100 * speed["share_of_peak"],
        "memory, GiB": speed["memory"] / 2**30,
    }
    return numbers if ratios is None else numbers | {"naive / semikit": ratios["with_views"]["median"]}


def benchmark_numbers(path: Path) -> Numbers:
    """Of `semikit benchmark`."""
    step = read(path)["step"]
    waits = step["waits"] or {}
    return {
        "ms": 1e3 * step["seconds"],
        "share of peak, %": 100 * step["share_of_peak"],
        "memory, GiB": step["memory"] / 2**30,
        **{name: waits[name] for name in ("pageable", "to_host", "waits") if name in waits},
    }


def run_numbers(run: Path) -> Numbers:
    """Of the last evaluation of a run: iteration, score, rate."""
    with (run / "results.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    wanted = ("iteration", "loss", "images_per_second", "waiting")
    kept = {name: value for name, value in last.items() if name in wanted or name.startswith(("student_", "teacher_"))}
    return {name: float(value) for name, value in kept.items() if value}


def loader_numbers(path: Path) -> Numbers:
    """Of `semikit benchmark --loader`."""
    loader = read(path)["loader"]
    return {"images/s": loader["images_per_second"], "workers": loader["workers"]}


@final
class Plan:
    """The parts for a device; `tiny`: small networks and crops, two steps, nothing compiled."""

    def __init__(self, out: Path, device: str, tiny: bool, data: Path | None) -> None:
        self.out, self.device, self.tiny, self.data = out, device, tiny, data
        self.workers = "0" if tiny else str(min(16, os.cpu_count() or 1))
        self.compiled = () if tiny else ("--compile",)
        self.graphed = () if tiny else ("train.compile=reduce-overhead",)
        self.common = ("--device", device, "--precision", "bf16")
        pixels = TINY_PIXELS if tiny else ("--encoder", "dinov2-base", "--crop", "518", "--batch", "8")
        self.base = (*pixels, *self.common)

    def parts(self) -> Iterator[Part]:
        """In the order of what they tell."""
        yield from self._speeds()
        for task in TASKS:
            yield self._smoke(task, "eager", ())
        yield from self._real()
        yield self._precisions()
        for task in TASKS:
            yield self._smoke(task, "compiled", self.compiled)
        yield self._smoke("cls", "graphs", self.graphed)
        yield self._benchmark("graphs step", (*self.base, *self.graphed), 100)

    def _smoke(self, task: str, kind: str, flags: Sequence[str]) -> Part:
        run = self.out / f"{task}-{kind}"
        length = ("--iterations", "2" if self.tiny else "40", "--workers", self.workers)
        command = (*SEMIKIT, "train", task, "--dataset", TASKS[task], *self._network(task), *flags, *length)
        limit = 60 if kind == "eager" else 75
        return Part(f"{task} {kind}", [(*command, *self._to(run))], limit, lambda: run_numbers(run))

    def _to(self, run: Path) -> tuple[str, ...]:
        return (*self.common, "--out", str(run), "--quiet")

    def _network(self, task: str) -> tuple[str, ...]:
        if task == "cls":
            return (*(TINY_CLASSES if self.tiny else ("--encoder", "wrn-28-2")), "--weights", "none")
        small = TINY_PIXELS if self.tiny else ("--crop", "126", "--batch", "8")
        return ("--encoder", "dinov2-small", "--weights", "none", *small)

    def _speeds(self) -> Iterator[Part]:
        """Steps beside the naive form, and by parts."""
        file, short = self.out / "step.json", ("--repeats", "2") if self.tiny else ()
        step = (PYTHON, "-m", "benchmarks.step", "seg", *self.base, *short)
        compared = (*step, *self.compiled, "--against", "reference", "--json", str(file))
        yield Part("compiled step", [compared], 150, lambda: step_numbers(file))
        classes = ("--batch", "1" if self.tiny else "64", "train.ratio=7", *self.compiled, "--against", "reference")
        wrn = self.out / "wrn.json"
        command = (PYTHON, "-m", "benchmarks.step", "cls", *classes, *self.common, *short, "--json", str(wrn))
        yield Part("wrn step", [command], 90, lambda: step_numbers(wrn))
        yield self._benchmark("eager step", self.base, 45)

    def _benchmark(self, name: str, flags: Sequence[str], limit: float) -> Part:
        file = self.out / f"{name.replace(' ', '-')}.json"
        length = ("--steps", "2" if self.tiny else "20", "--json", str(file))
        return Part(name, [(*SEMIKIT, "benchmark", "seg", *flags, *length)], limit, lambda: benchmark_numbers(file))

    def _real(self) -> Iterator[Part]:
        """Photographs: the loader, and a run for as long as there is time."""
        if self.data is None:
            return
        camvid, file, run = str(ROOT / "benchmarks" / "camvid.yaml"), self.out / "loader.json", self.out / "camvid"
        pixels = TINY_PIXELS if self.tiny else ("--encoder", "dinov2-small", "--crop", "518", "--batch", "8")
        source = ("--data", camvid, "--labels", "46", "--workers", self.workers, *pixels)
        steps = ("--loader", "--steps", "2" if self.tiny else "40", "--json", str(file))
        yield Part("loader", [(*SEMIKIT, "benchmark", "seg", *source, *steps)], 45, lambda: loader_numbers(file))
        length = ("--iterations", "4" if self.tiny else "30000", "--eval-every", "2" if self.tiny else "250")
        command = (*SEMIKIT, "train", "seg", *source, "--weights", "none", *length, *self._to(run))
        yield Part("camvid", [command], 60, lambda: run_numbers(run), timed=True)
        cifar, run_of_classes = self.out / "cifar10", self.out / "cifar10-run"
        call = (
            "import sys, pathlib, benchmarks.photographs as p; p.prepare('cifar10', *map(pathlib.Path, sys.argv[1:]))"
        )
        made = (PYTHON, "-c", call, str(self.data), str(cifar))
        learn = ("--data", str(cifar), "--labels", "250", "--iterations", "2" if self.tiny else "200")
        options = (*self._network("cls"), "--workers", self.workers, *self._to(run_of_classes))
        yield Part(
            "cifar10", [made, (*SEMIKIT, "train", "cls", *learn, *options)], 75, lambda: run_numbers(run_of_classes)
        )

    def _precisions(self) -> Part:
        """Scores of one run in fp32 and in bf16."""
        run = self.out / ("seg-eager" if self.data is None else "camvid")
        files = {kind: self.out / f"scores-{kind}.json" for kind in ("fp32", "bf16")}
        common = (*SEMIKIT, "evaluate", str(run), "--device", self.device, "--quiet")
        commands = [(*common, "--precision", kind, "--json", str(file)) for kind, file in files.items()]

        def difference() -> Numbers:
            values = {kind: float(read(file)["value"]) for kind, file in files.items()}
            return {**values, "difference": abs(values["fp32"] - values["bf16"])}

        return Part("precisions", commands, 60, difference)


def about(device: str) -> dict[str, str]:
    """Where this runs: commit, versions, device."""
    import torch

    from semikit.training.device import choose_device, describe_device

    asked = ["git", "rev-parse", "--short", "HEAD"]
    there = shutil.which("git") is not None  # a copy of the folder may lie on a machine without it
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout if there else ""
    python = ".".join(map(str, sys.version_info[:3]))
    return {
        "commit": f"commit {commit.strip() or 'unknown'}",
        "python": f"Python {python}, torch {torch.__version__}, CUDA {torch.version.cuda}",
        "device": describe_device(choose_device(device)),
        "cores": f"{os.cpu_count()} cores",
    }


def main() -> int:
    """Run the parts; 1 where one failed, 2 where the device is not there."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=ROOT / "build" / "accelerator")
    options.add_argument("--device", default="cuda")
    options.add_argument("--tiny", action="store_true", help="small networks and crops, two steps, nothing compiled")
    options.add_argument("--seconds", type=float, default=530.0, help="for all parts together")
    options.add_argument("--only", help="names of parts, with commas between them")
    given = options.parse_args()
    real = os.environ.get("SEMIKIT_TEST_DATA")
    data = Path(real).resolve() if real else None
    if data is not None:
        os.environ["CAMVID"] = str(data / "camvid")
    os.environ["PYTHONPATH"] = str(ROOT)
    plan = Plan(given.out.resolve(), given.device, given.tiny, data)
    chosen = [part for part in plan.parts() if given.only is None or part.name in given.only.split(",")]
    if given.tiny:  # on whatever processor, however busy
        chosen = [replace(part, limit=8 * part.limit) for part in chosen]
    try:
        where = about(given.device)
    except SemikitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    outcomes = run_all(chosen, given.out, given.seconds, where)
    return int(any(not outcome.ended.startswith("done") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
