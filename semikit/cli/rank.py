"""`semikit rank`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from semikit.cli import options as o
from semikit.errors import InputError
from semikit.run.folder import existing_run


def rank(
    places: Annotated[
        list[str],
        typer.Argument(
            help="A run folder (or: last; not with --cold), and a folder of images or a pattern in quotes; cd: two.",
            metavar="[RUN] SOURCE [SOURCE_B]",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder with what is needed to label them.")],
    n: Annotated[int, typer.Option("-n", help="Images to choose.")] = 50,
    by: Annotated[
        str, typer.Option(help="Uncertainty: margin (of the two most probable classes) | entropy | disagreement.")
    ] = "margin",
    rare: Annotated[bool, typer.Option("--rare", help="Images with rare predicted classes weigh more.")] = False,
    confidence: Annotated[float, typer.Option(help="What is less probable stays without a label (0 to 1).")] = 0.9,
    autolabel: Annotated[bool, typer.Option("--autolabel", help="Also label all of SOURCE, autolabel/.")] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the chosen images; else they are links.")] = False,
    cold: Annotated[
        bool, typer.Option("--cold", help="Before there is a label: the most typical image of each of N kinds.")
    ] = False,
    encoder: Annotated[
        str | None,
        typer.Option(help="--cold: what compares images, dinov2-small (the default, where it is here) for example."),
    ] = None,
    device: o.Device = None,
    quiet: o.QuietFlag = False,
) -> None:
    """Which images to label next, with labels to correct: those a run is unsure of and that differ from each other.

    semikit rank runs/mine photos -n 50 -o next
    """
    if not cold and len(places) < 2:
        raise InputError(f"give a run and its images, or images alone with --cold; got {places[0]}.")
    run = None if cold else existing_run(places[0])  # before anything heavy is imported
    from semikit.cli.output import progress_bar
    from semikit.run.rank import rank as choose

    with progress_bar(quiet) as progress:
        ranked, notices = choose(
            run, *places[0 if cold else 1 :], n=n, out=out, by=by, rare=rare, confidence=confidence,
            autolabel=autolabel, links=not copy, encoder=encoder, device=device or "auto", progress=progress,
        )  # fmt: skip
    console = Console()
    for notice in notices:
        console.print(f"note: {notice}", soft_wrap=True, highlight=False, markup=False)
    text = f"{len(ranked)} images to label in {out}: ranking.csv, sheet.png"
    console.print(text, soft_wrap=True, highlight=False, markup=False)
