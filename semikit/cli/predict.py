"""`semikit predict`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from semikit import api
from semikit.cli import options as o
from semikit.cli.output import progress_bar, says_the_end
from semikit.errors import INTERRUPTED, InputError, RunError
from semikit.files import shell_word
from semikit.run.folder import existing_run, new_output

if TYPE_CHECKING:
    from semikit.core.task import Predicted


def predict(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run folder (or: last), a weights file, or a released checkpoint.")],
    sources: Annotated[
        list[str],
        typer.Argument(
            help="seg, cls: images, folders, patterns. cd: exactly two images, folders or patterns in quotes, before "
            "and after. One may be on a server or in an archive: https://host/scene.tif, /vsizip/scenes.zip/a.tif.",
            metavar="SOURCE...",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A folder; of one image or pair also a file, NAME.tif or NAME.png. cls: NAME.csv. Default: "
            "runs/predict/RUN, -2, -3 …",
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            metavar="4,3,2", help="Which bands of these images are the model's, in its order: numbers from 1, or names."
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(metavar="MIN,MAX", help="The range of values of these images, where it is not that of training."),
    ] = None,
    confidence: Annotated[bool | None, typer.Option("--confidence", help="Also write the confidence.")] = None,
    overlay: Annotated[bool | None, typer.Option("--overlay", help="Also lay the classes over the images.")] = None,
    probability: Annotated[
        bool | None,
        typer.Option("--probability", help="Also write the probability of every class; cd: of change, in percent."),
    ] = None,
    probability_of: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="seg, cd: also write the probability of this class alone; repeatable."),
    ] = None,
    qml: Annotated[
        bool | None, typer.Option("--qml", help="seg, cd: also write a QGIS style beside the map, NAME.qml.")
    ] = None,
    legend: Annotated[
        bool | None, typer.Option("--legend", help="seg, cd: also draw the classes and their colours, legend.png.")
    ] = None,
    polygons: Annotated[
        Path | None,
        typer.Option(
            help="seg, cd: also write polygons of the classes (.geojson, .gpkg, .shp, .fgb); of several, a folder."
        ),
    ] = None,
    polygons_format: Annotated[
        str | None, typer.Option(help="Of several: geojson (the default), gpkg, shp or fgb.")
    ] = None,
    areas: Annotated[
        bool | None,
        typer.Option(
            "--areas",
            help="seg, cd: also write a table of areas by class, areas.csv; where classes lead from -> to also "
            "transitions.csv.",
        ),
    ] = None,
    aoi: Annotated[
        Path | None,
        typer.Option(
            help="seg, cd: a file of polygons; only what lies in them is predicted, elsewhere there is nodata, and "
            "--areas are those of each."
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="P|CLASS=P",
            help="seg, cd: a class, of change any, from this probability on (0 to 1), not the most probable one alone.",
        ),
    ] = None,
    min_confidence: Annotated[
        float | None, typer.Option(help="seg, cd: pixels whose class is less probable are nodata (0 to 1).")
    ] = None,
    min_area: Annotated[
        float | None,
        typer.Option(
            help="seg, cd: smaller areas take the class around them, changes become unchanged; square metres (pixels "
            "without CRS)."
        ),
    ] = None,
    simplify: o.Simplify = None,
    format: Annotated[
        str | None, typer.Option(help="seg, cd: tif or png (default: GeoTIFF where the image has a place on the map).")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="seg, cd: side of the windows, pixels (default: the training crop).")
    ] = None,
    overlap: Annotated[int | None, typer.Option(help="seg, cd: by how much they overlap (default: a quarter).")] = None,
    tta: o.Tta = None,
    ensemble: o.Ensemble = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume",
            help="seg, cd: go on with a prediction of many files that stopped: those that are done and unchanged are "
            "kept.",
        ),
    ] = None,
    fail_fast: Annotated[
        bool | None, typer.Option("--fail-fast", help="Stop at the first file that cannot be read.")
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes of this machine, one a GPU (torchrun), that share the images or a large one."
        ),
    ] = None,
    device: o.Device = None,
    precision: o.Precision = None,
    quiet: o.QuietFlag = False,
) -> None:
    """Predict images with a run of segmentation (seg: maps of classes), change detection (cd: maps of change between
    two dates) or classification (cls: a table of classes). Maps have the images' own size, name and place.

    seg: semikit predict RUN scenes/*.tif -o maps --overlay

    cd: semikit predict RUN before.tif after.tif -o change.tif --polygons change.gpkg

    cls: semikit predict RUN photos -o classes.csv --probability
    """
    run, *_ = [existing_run(one) for one in (run, *(ensemble or ()))]  # before anything heavy is imported
    arguments, said = list(context.obj), out is not None
    if out is None:
        out = _place(run, bool(resume))
        arguments += ["-o", str(out)]
    flags = {
        "bands": bands,
        "scale": scale,
        "confidence": confidence,
        "overlay": overlay,
        "probability": probability,
        "probability_of": tuple(probability_of) if probability_of else None,
        "qml": qml,
        "legend": legend,
        "polygons": polygons,
        "polygons_format": polygons_format,
        "areas": areas,
        "aoi": aoi,
        "format": format,
        "threshold": tuple(threshold) if threshold else None,
        "min_confidence": min_confidence,
        "min_area": min_area,
        "simplify": simplify,
        "tile": tile,
        "overlap": overlap,
        "tta": tta,
        "resume": resume,
        "fail_fast": fail_fast,
    }
    if gpus is not None and gpus > 1:
        with _going_on(out, said):
            _in_processes(gpus, device, arguments)
        return
    from semikit.distributed.groups import joined
    from semikit.distributed.together import ending_together, place

    options = {name: value for name, value in flags.items() if value is not None}
    with (
        _going_on(out, said),
        joined(device or "auto"),
        ending_together(),
        progress_bar(quiet or place()[0] > 0) as progress,
    ):
        first = place()[0] == 0  # which is known only while the processes are joined
        done = api.predict(
            run, *sources, out=out, ensemble=ensemble or (), device=device or "auto", precision=precision or "fp32",
            progress=progress, **options,
        )  # fmt: skip
    if first:
        _say(done, out, quiet)


def _say(done: Predicted, out: Path, quiet: bool) -> None:
    """What a prediction came to; when `quiet` only where files could not be read."""
    if quiet and not done.failed:
        return
    console = Console(stderr=quiet)
    for notice in done.notices:
        console.print(f"note: {notice}", soft_wrap=True, highlight=False, markup=False)
    line = f"{done.count} image{'s' if done.count != 1 else ''} predicted into {out}"
    console.print(line, soft_wrap=True, highlight=False, markup=False)


def _place(run: Path, resume: bool) -> Path:
    """Where the results go that no -o says."""
    if resume or "RANK" in os.environ:
        raise InputError(f"{'--resume' if resume else 'torchrun'} goes with -o, which says where the results are.")
    return new_output(run)


def _in_processes(gpus: int, device: str | None, arguments: Sequence[str]) -> None:
    """The same command in several processes of this machine."""
    from semikit.run.launch import check_launch, launch, without_gpus

    check_launch(gpus, {"train": {"device": device}})
    if code := launch(gpus, without_gpus(arguments), remedy="Try fewer processes."):
        raise typer.Exit(code)


@contextmanager
def _going_on(out: Path, said: bool) -> Iterator[None]:
    """Says how a prediction of many files that stops is gone on with; `said`: -o was given."""
    try:
        yield
    except (KeyboardInterrupt, RunError, typer.Exit) as error:
        from semikit.inference.journal import JOURNAL

        stopped = getattr(error, "exit_code", INTERRUPTED) in (INTERRUPTED, RunError.exit_code)
        if stopped and says_the_end() and (out / JOURNAL).is_file():
            where = "" if said else f"-o {shell_word(out)} "
            text = f"what is predicted is kept; the same command with {where}--resume goes on"
            Console(stderr=True).print(text, highlight=False)
        raise
