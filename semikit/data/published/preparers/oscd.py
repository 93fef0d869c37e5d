"""OSCD: the 13 bands of Sentinel-2 that each date of a city has, all on one grid, become one GeoTIFF.

As published: imgs_1_rect/ and imgs_2_rect/ of each city, and its cm/cm.png among the labels for training or the test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from semikit.data.formats.images import faults_of
from semikit.data.published.catalogue import DATES, LABEL, Published
from semikit.data.published.inputs import Found, Inputs, Progress
from semikit.data.published.preparers import Job, Plan, Preparer
from semikit.data.published.preparers._folders import job_of, pairs_by_part, target_of, trios_of
from semikit.errors import DataError, some
from semikit.raster.reading import rasterio_for

BANDS = (*(f"B{number:02}" for number in range(1, 9)), "B8A", *(f"B{number:02}" for number in range(9, 13)))
_BAND = rf"([^/\s]+)/imgs_([12])_rect/(?:[^/]*_)?({'|'.join(BANDS)})\.tif"
_MASK = r"[^/]*(Train|Test) Labels/([^/\s]+)/cm/cm\.png"
_LAID = rf"({'|'.join((*DATES, LABEL))})/(train|test)/([^/\s]+)\.(?:tif|png)"

Bands = Mapping[str, Found]
"""Band -> its file."""


def plan(inputs: Inputs, published: Published, progress: Progress) -> Plan:
    """Cities for training and for the test.

    Raises:
        DataError: cities of which a band or the mask is missing.
    """
    bands: dict[tuple[str, str], dict[str, Found]] = defaultdict(dict)
    for match, found in inputs.find(_BAND):
        bands[match[1], DATES[int(match[2]) - 1]].setdefault(match[3], found)
    trios = trios_of((match[1].lower(), LABEL, match[2], found) for match, found in inputs.find(_MASK))
    laid = ((match, found) for match, found in inputs.find(_LAID) if found.place.root)
    trios = trios_of(((match[2], match[1], match[3], found) for match, found in laid), trios)
    waiting: dict[str, Bands] = {}
    missing = []
    for name, trio in trios.items():
        for date in DATES:
            target, given = target_of(name, date, ".tif"), bands.get((name.partition("/")[2], date), {})
            if target in inputs.in_place:
                continue
            if lacking := [band for band in BANDS if band not in given]:
                missing.append(f"{name} {date}: {', '.join(lacking)}")
            waiting[target] = given
        missing += [] if LABEL in trio.files else [f"{name}: cm.png"]
    if missing:
        raise DataError(f"{len(missing)} images or masks are not whole: {some(missing)}. Give all three archives.")
    jobs: list[Job] = [job_of(name, LABEL, trio.files[LABEL]) for name, trio in trios.items()]
    return Plan(
        pairs_by_part(trios, ".tif"),
        jobs,
        f"{len(trios)} cities as published",
        after=_stacking(inputs, waiting) if waiting else None,
        after_bytes=sum(found.size for given in waiting.values() for found in given.values()),
    )


def _stacking(inputs: Inputs, waiting: Mapping[str, Bands]) -> Callable[[Progress], None]:
    def after(progress: Progress) -> None:
        owner = {found: (target, band) for target, given in waiting.items() for band, found in given.items()}
        read: dict[str, dict[str, bytes]] = defaultdict(dict)
        done = 0
        for found, data in inputs.read(owner):
            target, band = owner[found]
            read[target][band] = data
            if len(read[target]) == len(BANDS):
                _write(inputs.root / target, read.pop(target))
                done += 1
                progress("stacking bands", done, len(waiting))

    return after


def _write(path: Path, contents: Mapping[str, bytes]) -> None:
    """One file of 13 bands with the grid of the first, whole or not at all.

    Raises:
        FileFault: a band that cannot be read, or of another size.
    """
    rasterio: Any = rasterio_for(path)
    temporary = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with faults_of(path):
        layers: list[Any] = []
        place: dict[str, Any] = {}
        for band in BANDS:
            with rasterio.MemoryFile(contents[band]) as memory, memory.open() as file:
                layers.append(file.read(1))
                place = place or {"crs": file.crs, "transform": file.transform}
        height, width = layers[0].shape
        form = {"driver": "GTiff", "height": height, "width": width, "count": len(BANDS), "dtype": layers[0].dtype}
        with rasterio.open(temporary, "w", compress="deflate", tiled=True, **form, **place) as file:
            for number, layer in enumerate(layers, start=1):
                file.write(layer, number)
            file.descriptions = BANDS
    temporary.replace(path)


plugin = Preparer(
    "CITY/imgs_{1,2}_rect/*B01.tif to B12.tif, and CITY/cm/cm.png below Train Labels/ and Test Labels/ (the three "
    "archives of Onera Satellite Change Detection)",
    plan,
)
