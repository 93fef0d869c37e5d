"""`semikit demo`: labelled-only against semi-supervised, on generated images or on one's own photographs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer
from rich.console import Console
from rich.table import Table

from semikit.cli import options as o
from semikit.cli.train import parse_seeds
from semikit.errors import InputError, unknown
from semikit.files import shell_word
from semikit.run import recipes
from semikit.run.compose import compose, flag_overrides

if TYPE_CHECKING:
    from semikit.cli.demo_photos import Photos

METHODS = {"labelled-only": "supervised", "semi-supervised": "unimatch_v2"}
DEMOS = {"seg": ("shapes", "shapes"), "cd": ("shapes-cd", "scenes"), "cls": ("shapes-cls", "shapes")}
"""Task -> its built-in data set, and the field of the section `data` that describes it."""


@final
@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a side came to: the score of its best in percent, optimiser steps, seconds they took."""

    metric: str
    score: float
    steps: int
    seconds: float


def demo(
    task: Annotated[str, typer.Argument(help="seg | cd | cls")] = "seg",
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value …", metavar="[KEY=VALUE]...")] = None,
    photos: Annotated[
        Path | None,
        typer.Option(help="Your own images with masks in place of the built-in ones (seg): a folder or a data YAML."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Several pairs of runs, mean and std: 0,1,2")] = "0",
    labels: Annotated[
        str | None,
        typer.Option(help="Number of labelled images (default: the recipe's; with --photos a sixteenth)."),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Optimiser steps of each run (default: the recipe's; 1000 with --photos).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for both runs (default: runs/demo/NAME).")] = None,
    device: o.Device = None,
    quiet: o.QuietFlag = False,
) -> None:
    """Train labelled-only and UniMatch V2 on built-in images, or on your own with --photos, and compare them.

    Both get the same network, labelled images, optimiser steps and labelled images per step, and take minutes on a CPU.
    Photographs are read at a small size, by a small network with ImageNet weights from the extra "lite" of semikit.
    Nothing is downloaded, unless for another model.encoder.
    """
    if task not in DEMOS:
        raise unknown("demo", task, DEMOS)
    if photos is not None and task != "seg":
        raise InputError(f"--photos is for images with masks: semikit demo seg --photos {shell_word(photos)}")
    numbers = parse_seeds(seeds)
    flags = flag_overrides({"labels": labels, "iterations": iterations, "device": device})
    above = recipes.merge(flags, _for_both(overrides or [], task))
    console = Console()
    own = None if photos is None else _own(photos, above, numbers)
    configs = {seed: _built_in(task, above, seed) for seed in numbers} if own is None else {}
    if own is None:
        _check(configs[numbers[0]])
    folder = _new_folder(task, "shapes" if own is None else own.name, out)
    try:
        if own is not None:
            configs, notices = own.copied(folder)
            for notice in () if quiet else notices:
                console.print(f"note: {notice}", soft_wrap=True, highlight=False, markup=False)
        results = _train_all(configs, folder, console, quiet)
    finally:
        if own is not None:
            own.clear_unused(folder)
    _tell(results, console)
    for line in _compare(folder, numbers[0], own):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _own(photos: Path, above: Mapping[str, Any], seeds: Sequence[int]) -> Photos:
    from semikit.cli.demo_photos import own_photos

    return own_photos(photos, above, seeds)


def _new_folder(task: str, name: str, out: Path | None) -> Path:
    from semikit.run.folder import new_folder

    return new_folder({"task": "demo", "name": name, "method": {"name": task}}, out)


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


def _built_in(task: str, above: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The configuration of both sides on generated images, but for the method."""
    name, field = DEMOS[task]
    raw = compose(task, dataset=name, above=above)
    return recipes.merge(raw, {"train": {"seed": seed}, "data": {field: {"seed": seed}}})


def _check(raw: Mapping[str, Any]) -> None:
    """Build the data of both sides once, so that neither is refused after the other was trained."""
    from semikit.run.build import build_task
    from semikit.run.config import resolve

    for side in METHODS:
        build_task(resolve(_one_side(raw, side)))


def _one_side(raw: Mapping[str, Any], side: str) -> dict[str, Any]:
    return recipes.merge(raw, {"method": {"name": METHODS[side]}})


def _train_all(
    configs: Mapping[int, Mapping[str, Any]], folder: Path, console: Console, quiet: bool
) -> dict[str, list[Result]]:
    """What each side came to for each seed of `configs`; run folders are folder/seed-N/SIDE."""
    from semikit.cli.console import make_reporter
    from semikit.run.folder import remove_empty
    from semikit.run.lifecycle import start_run

    results: dict[str, list[Result]] = {side: [] for side in METHODS}
    for seed, raw in configs.items():
        for side in METHODS:
            child = run_folder(folder, seed, side)
            child.mkdir(parents=True)
            console.print(f"{side} (seed {seed})", style="bold")
            try:
                found = start_run(_one_side(raw, side), child, lambda: make_reporter(console, quiet))
            finally:
                remove_empty(child.parent)
                remove_empty(folder)
            score = float(found["test"][found["metric"]])
            results[side].append(Result(found["metric"], score, found["iterations"], found["seconds"]))
    return results


def run_folder(folder: Path, seed: int, side: str) -> Path:
    """Where the run of a side lies."""
    return folder / f"seed-{seed}" / side


def _compare(folder: Path, seed: int, own: Photos | None) -> list[str]:
    """Write comparison.png (image, truth, both sides) and samples; returns what was written and what to type next."""
    from semikit.inference.pictures import save_png
    from semikit.run.build import build_task
    from semikit.run.load import load_network
    from semikit.run.resume import read_run_config
    from semikit.training.device import choose_device, inference_on

    runs = {side: run_folder(folder, seed, side) for side in METHODS}
    config = read_run_config(runs["labelled-only"], {})
    loaded = {side: load_network(path) for side, path in runs.items()}
    networks = {side: network for side, (network, _) in loaded.items()}
    thresholds = {side: metadata["best"].get("threshold") for side, (_, metadata) in loaded.items()}
    task: Any = build_task(config)
    path = folder / "comparison.png"
    inference = inference_on(choose_device("cpu"), config.train.precision)
    evaluation, source = task.evaluation, task.learned.val
    if own is not None:
        evaluation, source = replace(evaluation, palette=own.parts.palette), task.learned.test
    chosen = {"thresholds": thresholds} if any(thresholds.values()) else {}  # of change alone
    save_png(evaluation.comparison(networks, source, inference, **chosen), path)
    lines = [f"picture:     {path}", f"run folders: {folder}"]
    if own is not None:
        return [*lines, *own.next_lines(folder, runs["semi-supervised"])]
    samples = task.samples(folder / "sample")
    if samples:
        given = " ".join(map(shell_word, samples))
        run, out = shell_word(runs["semi-supervised"]), shell_word(folder / "change.tif")
        lines.append(f"try:         semikit predict {run} {given} -o {out} --overlay")
    return [*lines, f"next:        semikit train {config.task} --data YOUR.yaml --labels 1/8 --dry-run"]


def _tell(results: Mapping[str, Sequence[Result]], console: Console) -> None:
    """The table: scores over the seeds, and how long each side trained."""
    first = next(iter(results.values()))
    table = Table(title=f"{first[0].metric} on the test images", title_justify="left", box=None, header_style="bold")
    for column in ("", "mean", "std", "seeds", "steps", "minutes"):
        table.add_column(column, justify="left" if not column else "right")
    means = []
    for side, runs in results.items():
        scores = [run.score for run in runs]
        means.append(statistics.mean(scores))
        spread = f"{statistics.stdev(scores):.1f}" if len(scores) > 1 else "-"
        minutes = statistics.mean(run.seconds for run in runs) / 60
        seeds = ", ".join(f"{score:.1f}" for score in scores)
        table.add_row(side, f"{means[-1]:.1f}", spread, seeds, str(runs[0].steps), f"{minutes:.1f}")
    console.print(table)
    few, semi = means
    caution = "" if len(first) > 1 else " (one pair of runs says little: --seeds 0,1,2)"
    console.print(f"difference: {semi - few:+z.1f} points{caution}", highlight=False)
