"""What a step of each method costs beside one of FixMatch: processor time, and memory.

    python -m benchmarks.methods [--tasks seg,cd,cls] [--methods cps,u2pl] [--steps 6] [--json FILE]

Built-in images, random weights, one thread: pixels with efficientnet-lite0 and DPT at 96 pixels, 4 + 4 images; classes
with wrn-28-2 at 32 pixels, 16 + 32 images. Every method runs in a process of its own that was forked when all was
imported: memory is the most that was in use above what the process began with. Times are processor time of all steps
after the first two, views and labels included. Methods of several runs (stpp) are left out. Prints a table for
docs/methods.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Sequence
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from semikit.registry import METHODS
from semikit.run import build, recipes
from semikit.run.compose import asked
from semikit.run.config import resolve
from semikit.training.reporter import Reporter

BASE, WARMUP = "fixmatch", 2
_PIXELS = {
    "encoder": "efficientnet-lite0", "decoder": "dpt", "crop": 96, "batch": 4, "settings": {"train.ratio": 1},
}  # fmt: skip
GIVEN: dict[str, tuple[str, dict[str, Any]]] = {
    "seg": ("shapes", _PIXELS),
    "cd": ("shapes-cd", _PIXELS),
    "cls": ("shapes-cls", {"encoder": "wrn-28-2", "batch": 16, "settings": {"train.ratio": 2}}),
}
"""Task -> built-in images, and what is asked for."""


def of_one_run(names: Sequence[str], task: str) -> list[str]:
    """Those of the methods that are for a task and take one run."""
    once = [name for name in names if not METHODS.get(name).rounds(METHODS.get(name).Config())]
    return [name for name in once if task in METHODS.facts(name)["Tasks"].split(", ")]


def cost_of(steps: int, **given: Any) -> tuple[float, float]:
    """Processor seconds a step and MiB, measured in a process of its own; `given` are keywords of `semikit.train`."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(given, steps, theirs))
    child.start()
    theirs.close()
    try:
        found: tuple[float, float] = ours.recv()
    except EOFError:
        raise RuntimeError(f"{given['method']} of {given['task']} failed; its message is above") from None
    finally:
        child.join()
    return found


def _measure(given: dict[str, Any], steps: int, answer: Connection) -> None:
    raw = recipes.merge(asked(**given)[0], {"model": {"weights": "none"}})
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = build.build_run(resolve(raw), Path("-"), Reporter(), begins=True)
    run.trainer.method.train()
    raws = list(islice(run.task.batches(range(WARMUP + steps), 0, False), WARMUP + steps))
    for number, batch in enumerate(raws):
        if number == WARMUP:
            begun = time.process_time()
        labeled, unlabeled = run.task.views(batch, number, run.device)
        run.trainer.stepper(labeled, unlabeled, number)
    seconds = (time.process_time() - begun) / steps
    answer.send((seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began) / 1024))


def table(found: dict[str, dict[str, tuple[float, float]]]) -> str:
    """In Markdown: times and memory as multiples of FixMatch's."""
    tasks = [task for task in GIVEN if task in found]
    head = [f"{task}, {what}" for task in tasks for what in ("time", "memory")]
    lines = ["| method | " + " | ".join(head) + " |", "|---|" + "---:|" * len(head)]
    for method in sorted({name for costs in found.values() for name in costs}):
        cells = []
        for task in tasks:
            own, base = found[task].get(method), found[task][BASE]
            cells += [f"{a / b:.2f}" for a, b in zip(own, base, strict=True)] if own else ["", ""]
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(GIVEN))
    parser.add_argument("--methods", default=",".join(METHODS.names()))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for task in given.tasks.split(","):
        dataset, more = GIVEN[task]
        alike = {"task": task, "dataset": dataset, "device": "cpu", **more}
        names = of_one_run(sorted({BASE, *given.methods.split(",")}), task)
        found[task] = {name: cost_of(given.steps, method=name, **alike) for name in names}
    print(table(found))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
