"""Whole trainings through the ordinary command line: wall-clock, images a second, and the share of waiting for data.

    python benchmarks/whole_runs.py --out runs/whole --workers 2 [--demo-iterations 200] [--runs seg,cd,cls,camvid]

The three demos (both sides of each) and 200 steps on CamVid (SEMIKIT_TEST_DATA names the folder that holds camvid/).
The first batch is told apart: it comes after the start of the worker processes, whatever the loader's speed. Writes
whole_runs.json and table.md below --out; the load averages beside the numbers say whether the machine was quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch import Tensor

from semikit.cli.app import run
from semikit.training.meter import Meter

CAMVID = [
    *("--preset", "small-from-scratch", "--labels", "1/8", "--crop", "144"),
    *("--batch", "4", "--iterations", "200", "train.group=4"),
]


def main() -> None:
    """Train, one run after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--demo-iterations", type=int, default=None)
    parser.add_argument("--runs", default="seg,cd,cls,camvid")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in given.runs.split(","):
        rows += measured(name, commands(name, given.workers, given.demo_iterations), given.out / name)
        (given.out / "whole_runs.json").write_text(json.dumps(rows, indent=2) + "\n")
        (given.out / "table.md").write_text(table(rows))
    print(table(rows))


def commands(name: str, workers: int, iterations: int | None) -> list[str]:
    """The arguments of `semikit` for a run, but for --out."""
    if name == "camvid":
        data = str(Path(__file__).parents[1] / "examples" / "camvid.yaml")
        return ["train", "seg", "--data", data, *CAMVID, "--workers", str(workers), "--device", "cpu"]
    length = [] if iterations is None else ["--iterations", str(iterations)]
    return ["demo", name, *length, "--device", "cpu", f"train.workers={workers}"]


def measured(name: str, arguments: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """A row for each training of a command, in the order they were made."""
    waits: dict[int, list[float]] = {}
    kept: list[Meter] = []  # or a later one might take its number
    add = Meter.add

    def recorded(meter: Meter, logs: Mapping[str, Tensor], waited: float) -> None:
        if id(meter) not in waits:
            kept.append(meter)
        waits.setdefault(id(meter), []).append(waited)
        add(meter, logs, waited)

    before, begun = os.getloadavg()[0], time.monotonic()
    with patch.object(Meter, "add", recorded):
        code = run([*arguments, "--out", str(folder), "--quiet"])
    if code:
        raise SystemExit(code)
    wall, load = time.monotonic() - begun, (before, os.getloadavg()[0])
    results = sorted(folder.rglob("results.json"), key=lambda path: path.stat().st_mtime)
    pairs = zip(results, waits.values(), strict=True)
    return [row(name, json.loads(path.read_text()), waited, wall, load) for path, waited in pairs]


def row(
    name: str, results: Mapping[str, Any], waits: Sequence[float], wall: float, load: tuple[float, float]
) -> dict[str, Any]:
    """Seconds of a run, what of them was waiting, and the load averages before and after its command."""
    first, rest = waits[0], sum(waits[1:])
    training = float(results["seconds"])
    return {
        "run": name,
        "method": results["method"],
        "iterations": results["iterations"],
        "command_wall_seconds": round(wall, 1),
        "training_seconds": training,
        "images_per_second": results["images_per_second"],
        "first_batch_seconds": round(first, 3),
        "waiting_seconds": round(rest, 3),
        "waiting_share": rest / max(training - first, 1e-9),
        "load_before": load[0],
        "load_after": load[1],
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| run | method | steps | wall of the command, s | training, s | images/s | first batch, s | waiting | load |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for r in rows:
        load = f"{r['load_before']:.1f} to {r['load_after']:.1f}"
        cells = [r["run"], r["method"], r["iterations"], r["command_wall_seconds"], r["training_seconds"]]
        cells += [r["images_per_second"], f"{r['first_batch_seconds']:.2f}", f"{100 * r['waiting_share']:.1f} %", load]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
