"""`semikit polygons`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from semikit.cli import options as o


def polygons(
    source: Annotated[
        str,
        typer.Argument(help="A GeoTIFF that predict wrote: NAME-probability.tif, or a map of classes.", metavar="MAP"),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="NAME.gpkg, .geojson, .shp or .fgb.")],
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="P|CLASS=P", help="Of probabilities: a class, of change any, from this one on (0 to 1)."),
    ] = None,
    min_area: Annotated[
        float | None,
        typer.Option(
            help="Smaller areas take the class around them, changes become unchanged; square metres (pixels without "
            "CRS)."
        ),
    ] = None,
    simplify: o.Simplify = None,
    aoi: Annotated[
        Path | None, typer.Option(help="A file of polygons: nothing outside of them counts; --areas are those of each.")
    ] = None,
    areas: Annotated[
        bool, typer.Option("--areas", help="Also write a table of areas by class, NAME-areas.csv.")
    ] = False,
    map: Annotated[
        Path | None, typer.Option(help="Also write the map of classes that they are drawn from, NAME.tif.")
    ] = None,
    quiet: o.QuietFlag = False,
) -> None:
    """Polygons and areas of a map that was predicted before, with other thresholds or sizes.

    semikit polygons change-probability.tif -o change.gpkg --threshold 0.3 --min-area 50
    """
    from semikit import api

    notices = api.polygons(
        source, out=out, threshold=threshold or (), min_area=min_area or 0.0, simplify=simplify or 0.0, aoi=aoi,
        areas=areas, map=map,
    )  # fmt: skip
    if not quiet:
        for notice in notices:
            Console().print(f"note: {notice}", soft_wrap=True, highlight=False, markup=False)
