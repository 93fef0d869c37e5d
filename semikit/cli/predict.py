"""`semikit predict`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from semikit.cli import options as o
from semikit.cli.progress import progress_bar
from semikit.errors import InputError


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, a weights file, or a released checkpoint (.pth).")],
    sources: Annotated[
        list[str],
        typer.Argument(
            help="seg: an image, a folder, or a pattern in quotes. cd: two images or two folders, before and after.",
            metavar="SOURCE [SOURCE_B]",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="seg, and cd of folders: a folder. cd of two images: a file, or a folder for NAME.tif."
        ),
    ],
    confidence: Annotated[bool | None, typer.Option("--confidence", help="Also write the confidence.")] = None,
    overlay: Annotated[bool | None, typer.Option("--overlay", help="Also lay the classes over the images.")] = None,
    probability: Annotated[
        bool | None, typer.Option("--probability", help="cd: also write the probability of change, in percent.")
    ] = None,
    polygons: Annotated[
        Path | None,
        typer.Option(help="cd: also write the changes as polygons (.geojson, .gpkg); of folders, a folder."),
    ] = None,
    min_area: Annotated[
        float | None, typer.Option(help="cd: leave out smaller polygons, square metres (pixels without CRS).")
    ] = None,
    simplify: Annotated[
        float | None, typer.Option(help="cd: tolerance of simpler outlines, metres (pixels without CRS).")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="cd: side of the windows, pixels (default: the training crop).")
    ] = None,
    overlap: Annotated[int | None, typer.Option(help="cd: by how much they overlap (default: a quarter).")] = None,
    device: o.Device = None,
    precision: o.Precision = None,
    quiet: o.QuietFlag = False,
) -> None:
    """Predict images: maps of classes, at the images' own size, name and place.

    semikit predict RUN before.tif after.tif -o change.tif --polygons change.gpkg
    """
    if not run.exists():
        raise InputError(f"{run} does not exist. Give a run folder or a weights file.")
    flags = {
        "confidence": confidence,
        "overlay": overlay,
        "probability": probability,
        "polygons": polygons,
        "min_area": min_area,
        "simplify": simplify,
        "tile": tile,
        "overlap": overlap,
    }
    from semikit.core.task import Inference
    from semikit.registry import TASKS
    from semikit.run import load as trained
    from semikit.training.device import autocast, choose_device

    network, metadata = trained.load_network(run)
    task = TASKS.get(metadata["task"])
    options = _options(task, metadata["task"], {name: value for name, value in flags.items() if value is not None})
    where = choose_device(device or "auto")
    inference = Inference(where, autocast(where, precision or "fp32"))
    with progress_bar(quiet) as progress:
        done = task.predict(network, metadata, sources, out, options, inference, progress)
    if not quiet:
        console = Console()
        for notice in done.notices:
            console.print(f"note: {notice}", soft_wrap=True, highlight=False, markup=False)
        told = f"{done.count} image{'s' if done.count != 1 else ''} predicted into {out}"
        console.print(told, soft_wrap=True, highlight=False, markup=False)


def _options(task: Any, name: str, given: Mapping[str, Any]) -> Any:
    """What the task shall write besides the classes.

    Raises:
        InputError: for a flag the task does not have, or a value it does not take.
    """
    from semikit.settings.messages import validate

    strange = [f"--{flag.replace('_', '-')}" for flag in given if flag not in task.Predict.model_fields]
    if strange:
        known = ", ".join(f"--{flag.replace('_', '-')}" for flag in task.Predict.model_fields)
        raise InputError(f"a run of {name} has no {', '.join(strange)}; it has {known}. Leave it out.")
    return validate(task.Predict, given, "predict")
