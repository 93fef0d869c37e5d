"""`semikit budget`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from semikit import api
from semikit.cli import options as o
from semikit.cli.output import show_table
from semikit.cli.train import parse_seeds, passed_on
from semikit.files import shell_word
from semikit.run.grid import grid_of, with_method


def budget(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="seg | cd | cls")],
    labels: Annotated[str, typer.Option(help="Numbers of labelled images: 23,46,92")],
    methods: Annotated[
        str | None,
        typer.Option(
            help="semikit list methods; NAME+lora: the encoder adapted by LoRA (default: supervised, unimatch_v2, and "
            "supervised+lora of a pretrained transformer)."
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Runs with labelled images of their own: 0,1,2")] = "0",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="New or to go on in: runs/budget/NAME")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Which runs and how long each takes; no more.")] = False,
    quiet: o.QuietFlag = False,
) -> None:
    """How many labels are enough: trains each method with each number of labels, and says what twice the labels would
    bring, and what the unlabelled images bring in labels. Any other flag of `semikit train`, and key=value, goes to
    every run. The same command goes on where it stopped; more labels, methods or seeds are added.

    semikit budget seg --data my.yaml --labels 12,23,46 --seeds 0,1,2 --iterations 2000
    """
    given: dict[str, Any] = passed_on([task, *context.args])
    given["labels"] = [int(part) if part.strip().isdigit() else part for part in labels.split(",")]
    names = None if methods is None else [name.strip() for name in methods.split(",")]
    given |= {"methods": names, "seeds": parse_seeds(seeds), "out": out}
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if dry_run:
        _plan(given, console)
        return
    from semikit.cli.console import Bars
    from semikit.training.reporter import Reporter

    bars = console.is_terminal and not quiet
    found = api.budget(
        **given,
        progress=lambda what, done, total: None if quiet else console.print(f"{done} of {total}: {what}"),
        reporter=lambda: Bars(console) if bars else Reporter(),
    )
    heads, *rows = (line.split(",") for line in (found.folder / "budget.csv").read_text().splitlines())
    show_table([f"{head} ({found.split})" if head == found.metric else head for head in heads], rows)
    folder = shell_word(found.folder)
    fits = [f"Fit of {method}: {found.metric} = {fit}." for method, fit in found.fits.items()]
    written = f"in {folder}: budget.png, budget.csv, budget.json"
    report = f"side by side: semikit report {folder}/*-* -o {folder}/report.html"
    console.print("\n".join([*found.sentences, *fits, written, report]))


def _plan(given: dict[str, Any], console: Console) -> None:
    """Which runs are missing, and how long one of each method takes; of runs in several processes how many steps."""
    folder, missing, total = grid_of(**given)
    alone = given.get("gpus", 1) == 1
    rest = {name: value for name, value in given.items() if name not in ("labels", "methods", "seeds", "out")}
    for method, left in {key[0]: [one for one in missing if one[0] == key[0]] for key in missing}.items():
        found = api.plan(**with_method(method, rest), labels=left[-1][1], seed=left[-1][2], time=alone)
        console.print(f"{method}: runs to train: {len(left)}, each {found.facts['time' if alone else 'length']}")
    console.print(f"{len(missing)} of {total} runs to train in {folder}. Nothing was trained or written.")
