"""`semikit audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from semikit.cli import options as o
from semikit.run.folder import existing_run

_SHOWN = 12
"""Classes that are printed."""


def audit(
    run: Annotated[Path, typer.Argument(help="A run folder (or: last).", metavar="RUN")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder, or an unfinished audit.")] = Path("audit"),
    n: Annotated[int, typer.Option("-n", help="Images that are drawn; the table has all.")] = 50,
    folds: Annotated[
        int | None, typer.Option(help="Train so many networks as RUN was, each without a part of the labels.")
    ] = None,
    data: o.Data = None,
    device: o.Device = None,
    quiet: o.QuietFlag = False,
) -> None:
    """Which labels are likely wrong: labelled images that the network contradicts with confidence, the worst first.

    semikit audit runs/mine -o audit

    semikit audit runs/mine --folds 3 -o audit     (each image is asked of a network that has not seen its label)

    semikit audit runs/mine --data new.yaml        (labels that the run has not learned from)
    """
    existing_run(run)  # before anything heavy is imported
    from semikit.cli.console import make_reporter
    from semikit.cli.output import progress_bar, show_table
    from semikit.run.audit import audit as ask
    from semikit.training.reporter import Reporter

    console = Console()
    with progress_bar(quiet or folds is not None) as progress:  # trainings have bars of their own
        tables, notices = ask(
            run, out=out, n=n, folds=folds, data=data, device=device, progress=progress,
            reporter=lambda: Reporter() if quiet else make_reporter(console, quiet),
        )  # fmt: skip
    for notice in notices:
        console.print(f"note: {notice}", soft_wrap=True, highlight=False, markup=False)
    rows = [(row["class"], f"{row['wrong']:.1%}", row["instead"]) for row in tables["noise"] if row["wrong"]]
    if rows and not quiet:
        show_table(("class", "labels that are wrong, estimated", "most of them are"), rows[:_SHOWN])
    count = {name: len(found) for name, found in tables.items()}
    text = f"labelled images with a label to check: {count['audit']}"
    text += (
        f"; pictures that are there twice with different labels: {count['duplicates']}" if count["duplicates"] else ""
    )
    text += f"; pairs whose dates are shifted: {count['shifts']}" if count["shifts"] else ""
    console.print(f"{text}; in {out}", soft_wrap=True, highlight=False, markup=False)
