"""Options several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Dataset = Annotated[str | None, typer.Option(help="A known data set by name (semikit list datasets).")]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Your own images, described by a YAML file, or a folder (seg: train/images, train/masks …; cd: train/A, "
        "train/B …; cls: train/CLASS …, or a table of files and labels)."
    ),
]
Root = Annotated[Path | None, typer.Option(help="Folder that relative paths of the data begin at.")]
Simplify = Annotated[
    float | None,
    typer.Option(help="Simpler outlines, by about so many metres (pixels without CRS); neighbours share them."),
]
Tta = Annotated[
    str | None,
    typer.Option(
        help="Average over mirrored images: none | flip | flip+scale (also 0.75 and 1.25 times their size; seg, cd). "
        "Photos are mirrored left to right, GeoTIFFs and rasters of change also top to bottom. Takes 2 to 12 times as "
        "long."
    ),
]
Ensemble = Annotated[
    list[Path] | None,
    typer.Option(
        help="Another run whose probabilities are averaged with those of RUN, of another seed for example; repeatable.",
        metavar="RUN",
    ),
]
Fold = Annotated[int | None, typer.Option(min=0, help="Which fold validates, from 0 (data with folds: 5).")]
Device = Annotated[str | None, typer.Option(help="auto | cpu | cuda | mps; a GPU by its number: 1 | cuda:1")]
Precision = Annotated[str | None, typer.Option(help="auto | fp32 | tf32 | bf16 | fp16")]
QuietFlag = Annotated[bool, typer.Option("--quiet", help="Print results only.")]
