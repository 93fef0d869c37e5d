"""What rasters call their bands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from semikit.raster.reading import Bands, band_numbers, rasterio_for

_BLUE_GREEN_RED = ({"B2", "BLUE"}, {"B3", "GREEN"}, {"B4", "RED"})
"""Of Sentinel-2 and Landsat 8 and 9, or in words."""


def names_of(path: Path, bands: Bands | None) -> tuple[str, ...] | None:
    """The names (up to a comma) of the bands that are read, all but alpha by default; None where one has none.

    Raises:
        FileFault: a band that it does not have.
    """
    with rasterio_for(path).open(path) as file:
        shown = [k for k, kind in zip(file.indexes, file.colorinterp, strict=True) if kind.name != "alpha"]
        chosen = band_numbers(path, bands, file.descriptions) if bands else shown
        names = tuple((file.descriptions[k - 1] or "").partition(",")[0] for k in chosen)
    return names if all(names) else None


def plain(name: str) -> str:
    """A name by which bands of several programs are compared: B02 and B2, B8a and B8A."""
    return re.sub(r"(?<=\D)0+(?=\d)", "", name.upper())


def is_reversed(names: Sequence[str]) -> bool:
    """Whether the first three bands, by `plain` names, are blue, green and red, shown as red, green and blue."""
    return len(names) >= 3 and all(name in known for name, known in zip(names, _BLUE_GREEN_RED, strict=False))
