"""`semikit demo`: labelled-only against semi-supervised, on generated images."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from semikit.cli import options as o
from semikit.cli.train import parse_seeds
from semikit.errors import InputError, unknown
from semikit.run import recipes
from semikit.run.compose import compose, flag_overrides

METHODS = {"labelled-only": "supervised", "semi-supervised": "unimatch_v2"}
DEMOS = {"seg": ("shapes", "shapes"), "cd": ("shapes-cd", "scenes"), "cls": ("shapes-cls", "shapes")}
"""Task -> its built-in data set, and the field of the section `data` that describes it."""


def demo(
    task: Annotated[str, typer.Argument(help="seg | cd | cls")] = "seg",
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value …", metavar="[KEY=VALUE]...")] = None,
    seeds: Annotated[str, typer.Option(help="Several pairs of runs, mean and std: 0,1,2")] = "0",
    labels: Annotated[str | None, typer.Option(help="Number of labelled images (default: the recipe's).")] = None,
    iterations: Annotated[int | None, typer.Option(help="Optimiser steps of each run.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for both runs (default: runs/demo).")] = None,
    device: o.Device = None,
    quiet: o.QuietFlag = False,
) -> None:
    """Train labelled-only and UniMatch V2 on built-in images and compare them.

    Both get the same network, labelled images, optimiser steps and labelled images per step. Nothing is downloaded.
    """
    if task not in DEMOS:
        raise unknown("demo", task, DEMOS)
    numbers = parse_seeds(seeds)
    flags = flag_overrides({"labels": labels, "iterations": iterations, "device": device})
    above = recipes.merge(flags, _for_both(overrides or [], task))
    raw = compose(task, dataset=DEMOS[task][0], above=above)
    from semikit.run.folder import new_folder

    metric = _check(raw, numbers[0])
    console = Console()
    folder = new_folder({**raw, "method": {"name": task}, "task": "demo", "name": "shapes"}, out)
    results = _train_all(raw, folder, numbers, console, quiet)
    _tell(metric, results, console)
    for line in _compare(folder, numbers[0]):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _for_both(overrides: Sequence[str], task: str) -> dict[str, Any]:
    """What was given as key=value, unless it is what the two sides or the pairs differ in."""
    chosen = ("method.", "method=", "train.seed=", f"data.{DEMOS[task][1]}.seed=")
    own = [item for item in overrides if item.startswith(chosen)]
    if own:
        raise InputError(
            f"the demo chooses methods and seeds itself; leave out {', '.join(own)}. "
            "Settings of a method go to methods.unimatch_v2.KEY=VALUE, seeds to --seeds."
        )
    return recipes.parse_overrides(overrides)


def _check(raw: Mapping[str, Any], seed: int) -> str:
    """Build the data of both sides once, so that neither is refused after the other was trained; the metric's name."""
    from semikit.run.build import build_task
    from semikit.run.config import resolve

    return {build_task(resolve(_one_side(raw, side, seed))).metric for side in METHODS}.pop()


def _one_side(raw: Mapping[str, Any], side: str, seed: int) -> dict[str, Any]:
    data = {DEMOS[raw["task"]][1]: {"seed": seed}}
    above = {"method": {"name": METHODS[side]}, "train": {"seed": seed}, "data": data}
    return recipes.merge(raw, above)


def _train_all(
    raw: Mapping[str, Any], folder: Path, seeds: Sequence[int], console: Console, quiet: bool
) -> dict[str, list[float]]:
    """Test score of each side's best for each seed; run folders are folder/seed-N/SIDE."""
    from semikit.cli.console import make_reporter
    from semikit.run.folder import remove_empty
    from semikit.run.lifecycle import start_run

    values: dict[str, list[float]] = {side: [] for side in METHODS}
    for seed in seeds:
        for side in METHODS:
            child = run_folder(folder, seed, side)
            child.mkdir(parents=True)
            console.print(f"{side} (seed {seed})", style="bold")
            try:
                result = start_run(_one_side(raw, side, seed), child, lambda: make_reporter(console, quiet))
            finally:
                remove_empty(child.parent)
                remove_empty(folder)
            values[side].append(float(result["test"][result["metric"]]))
    return values


def run_folder(folder: Path, seed: int, side: str) -> Path:
    """Where the run of a side lies."""
    return folder / f"seed-{seed}" / side


def _compare(folder: Path, seed: int) -> list[str]:
    """Write comparison.png (image, truth, both sides) and samples; returns what was written and what to type next."""
    from semikit.inference.pictures import save_png
    from semikit.run.build import build_task, inference_of
    from semikit.run.load import load_network
    from semikit.run.resume import read_run_config
    from semikit.training.device import choose_device

    runs = {side: run_folder(folder, seed, side) for side in METHODS}
    config = read_run_config(runs["labelled-only"], {})
    networks = {side: load_network(path)[0] for side, path in runs.items()}
    task: Any = build_task(config)
    path = folder / "comparison.png"
    inference = inference_of(config, choose_device("cpu"))
    save_png(task.evaluation.comparison(networks, task.learned.val, inference), path)
    lines = [f"picture:     {path}", f"run folders: {folder}"]
    samples = task.samples(folder / "sample")
    if samples:
        given = " ".join(map(str, samples))
        lines.append(f"try:         semikit predict {runs['semi-supervised']} {given} -o {folder}/change.tif --overlay")
    return [*lines, f"next:        semikit train {config.task} --data YOUR.yaml --labels 1/8 --dry-run"]


def _tell(metric: str, results: Mapping[str, Sequence[float]], console: Console) -> None:
    table = Table(title=f"{metric} on the test images", title_justify="left", box=None, header_style="bold")
    for column in ("", "mean", "std", "seeds"):
        table.add_column(column, justify="left" if not column else "right")
    for side, values in results.items():
        spread = f"{statistics.stdev(values):.1f}" if len(values) > 1 else "-"
        table.add_row(side, f"{statistics.mean(values):.1f}", spread, ", ".join(f"{value:.1f}" for value in values))
    console.print(table)
    few, semi = (statistics.mean(results[side]) for side in METHODS)
    console.print(f"difference: {semi - few:+.1f} points", highlight=False)
