"""`semikit export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from semikit.cli import options as o
from semikit.files import shell_word
from semikit.run.folder import existing_run

if TYPE_CHECKING:
    from semikit.run.export import Exported


def export(
    run: Annotated[
        Path, typer.Argument(help="A run folder (or: last), a weights file, or a released checkpoint (.pth).")
    ],
    format: Annotated[str, typer.Option(help="onnx | torch (torch.export, .pt2)")] = "onnx",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file (default: weights/best.onnx or best.pt2 of the run).")
    ] = None,
    input: Annotated[
        str,
        typer.Option(
            help="What the file takes: float (values 0..1, normalised inside) | uint8 (0..255, the same) | normalised "
            "(as the network sees them: you normalise)."
        ),
    ] = "float",
    softmax: Annotated[bool, typer.Option("--softmax", help="Probabilities come out instead of logits.")] = False,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Weights and computation of 16 bits; in and out stay 32.")
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(help="seg, cd: side of all images, pixels (default: any size where the network allows)."),
    ] = None,
    tool: Annotated[
        str | None,
        typer.Option("--for", metavar="x-anylabeling", help="cls: also write the .yaml that this program loads."),
    ] = None,
    quiet: o.QuietFlag = False,
) -> None:
    """Write a trained network for other programs: ONNX or torch.export, compared with the original before it is kept.

    semikit export RUN && semikit predict RUN/weights/best.onnx IMAGES -o out
    """
    existing_run(run)  # before anything heavy is imported
    from semikit import api

    done = api.export(run, format=format, out=out, input=input, softmax=softmax, fp16=fp16, size=size, tool=tool)
    if quiet:
        return
    console = Console()
    for line in _lines(done):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _lines(done: Exported) -> list[str]:
    from semikit.inference.exported import INPUTS
    from semikit.registry import TASKS

    face, metadata = done.interface, done.metadata
    dates, pixels = TASKS.get(metadata["task"]).dates[0], "crop" in metadata
    kind = "uint8" if face.input == "uint8" else "float32"
    values = {"float": "0..1, normalised inside", "uint8": "0..255, normalised inside", "normalised": "normalised"}
    sides = "height, width" if face.size is None else ", ".join(map(str, face.size))
    free = "batch" if face.size is not None else "batch, height and width"
    rule = "" if face.size is not None or face.multiple == 1 else f", sides a multiple of {face.multiple}"
    classes, channels = len(metadata["class_names"]), len(metadata["mean"])
    how = "probabilities" if face.fp16 or face.softmax else "logits"
    where = "validation" if done.real else "made"
    return [
        f"wrote {done.path} ({done.path.stat().st_size / 1e6:.1f} MB): {metadata['task']}, {classes} classes",
        f"input   {' and '.join(INPUTS[dates])}: {kind} (batch, {channels}, {sides}), {values[face.input]}",
        f"output  {face.output}: float32 (batch, {classes}{f', {sides}' if pixels else ''})",
        f"dynamic {free}{rule}",
        f"largest difference {done.difference:.1e} of {how} to torch on three {where} images; equal labels "
        f"{done.equal:.2%}",
        *(f"note: {notice}" for notice in done.notices),
        *([f"next: semikit predict {shell_word(done.path)} {TASKS.get(metadata['task']).example}"]
          if done.path.suffix == ".onnx" else []),
    ]  # fmt: skip
