"""`semikit predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from semikit.cli import options as o
from semikit.errors import InputError


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, a weights file, or a released checkpoint (.pth).")],
    source: Annotated[str, typer.Argument(help="An image, a folder of images, or a pattern in quotes.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    confidence: Annotated[bool, typer.Option("--confidence", help="Also write the confidence as gray PNGs.")] = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also lay the classes over the images.")] = False,
    device: o.Device = None,
    precision: o.Precision = None,
    quiet: o.QuietFlag = False,
) -> None:
    """Predict images: class-id PNGs with a palette, at their own size and name."""
    if not run.exists():
        raise InputError(f"{run} does not exist. Give a run folder or a weights file.")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; -o takes a folder.")
    from semikit import build
    from semikit.core.task import Inference, Wants
    from semikit.registry import TASKS
    from semikit.training.device import autocast, choose_device

    network, metadata = build.load_network(run)
    where = choose_device(device or "auto")
    inference = Inference(where, autocast(where, precision or "fp32"))
    wants = Wants(overlay=overlay, confidence=confidence)
    count = TASKS.get(metadata["task"]).predict(network, metadata, source, out, wants, inference)
    if not quiet:
        told = f"{count} image{'s' if count != 1 else ''} predicted into {out}"
        Console().print(told, soft_wrap=True, highlight=False, markup=False)
