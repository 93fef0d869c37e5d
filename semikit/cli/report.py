"""`semikit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from semikit.cli import options as o
from semikit.run.folder import existing_run


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders (or: last), also those of several seeds.", metavar="RUN...")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page, an .html file.")] = Path("report.html"),
    images: Annotated[int, typer.Option(help="Validation images that are shown, at most; 0: none.")] = 48,
    data: o.Data = None,
    root: o.Root = None,
    device: o.Device = None,
    quiet: o.QuietFlag = False,
) -> None:
    """One page about a run, or about several side by side: scores, curves, classes, confusion, calibration,
    pseudo-labels, images. It needs no network, and can be sent and printed.

    semikit report runs/mine runs/mine-supervised -o report.html
    """
    for run in runs:  # before anything heavy is imported
        existing_run(run)
    from semikit import api
    from semikit.cli.output import progress_bar

    with progress_bar(quiet) as progress:
        missing = api.report(runs, out=out, images=images, data=data, root=root, device=device, progress=progress)
    console = Console()
    for text in missing:
        console.print(f"note: {text}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"{out} ({out.stat().st_size / 2**20:.1f} MiB)", soft_wrap=True, highlight=False, markup=False)
