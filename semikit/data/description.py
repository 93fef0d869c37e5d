"""What the images of a data set are, from their headers: sizes, bands, type and range of values, place on the map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import hypot
from pathlib import Path
from statistics import median

from semikit.data.formats.images import ImageInfo, is_raster, read_grid, read_info
from semikit.data.formats.rescale import Scale
from semikit.data.samples import Samples, spread
from semikit.errors import some
from semikit.raster.band_names import is_reversed, names_of, plain
from semikit.raster.grid import Grid
from semikit.raster.reading import Bands

_READ = 32
"""Images of which headers are read, spread over those that are labelled."""


def describe(
    source: Samples,
    indices: Sequence[int],
    channels: int,
    scale: Scale | None,
    upright: bool = False,
    names: Sequence[str] = (),
    held: tuple[float, float] | None = None,
) -> Mapping[str, str]:
    """Facts about images by their name: "images", "values" and, of rasters with a place, "map".

    `channels` are those in use, which are called by `names` where these are known, `scale` the range of stored values
    that becomes 0..255, `upright` whether photos are turned as viewers do, `held` the lowest and highest values, if
    known. At most 32 headers are read.

    Raises:
        FileFault: a header cannot be read.
    """
    chosen = spread(indices, _READ)
    files = [path for index in chosen for path in source.files(index)[:1]]
    infos = _infos(source, chosen)
    rasters = [info.raster for info in infos if info.raster is not None]
    counts = [raster.bands for raster in rasters if raster.bands > channels]
    bands = f"{channels} of {_span(counts)} bands" if counts else f"{channels} bands"
    bands += f" ({', '.join(names)})" if names else ""
    parts = [f"{_sides(_sizes(infos, upright))} pixels", bands, " and ".join(sorted({info.dtype for info in infos}))]
    nodata = {f"{raster.nodata:g}" for raster in rasters if raster.nodata is not None}
    parts += [f"nodata {_named(nodata)}"] if nodata else []
    more = f" (of {len(chosen)} of {len(indices)} labelled images)" if len(chosen) < len(indices) else ""
    values = "0 to 255, as stored" if scale is None else f"{scale.text} become 0 to 255, what lies outside is cut"
    stored = "" if held is None else f" · stored are {held[0]:g} to {held[1]:g}"
    facts = {"images": " · ".join(parts) + more, "values": values + stored}
    grids = [grid for path in files if is_raster(path) and (grid := read_grid(path)).placed]
    return {**facts, "map": _place(grids, len(files))} if grids else facts


def band_names(source: Samples, indices: Sequence[int], bands: Bands | None) -> dict[tuple[str, ...], Path]:
    """What rasters call the bands in use, by their descriptions, each with the first that does. At most 32 are opened.

    Raises:
        FileFault: a header cannot be read.
    """
    found: dict[tuple[str, ...], Path] = {}
    for index in spread(indices, _READ):
        for path in filter(is_raster, source.files(index)):
            if (names := names_of(path, bands)) is not None:
                found.setdefault(tuple(map(plain, names)), path)
    return found


def differing_bands(found: Mapping[tuple[str, ...], Path]) -> str:
    """Which rasters have other bands, or in another order, and what to do."""
    said = "; ".join(f"{path}: {', '.join(names)}" for names, path in list(found.items())[:3])
    return f"the bands of the rasters differ ({said}; bands: in the data YAML takes them by name)"


def bands_notice(found: Mapping[tuple[str, ...], Path], order_given: bool) -> str | None:
    """Where rasters have their bands in several orders; where bands lie as blue, green, red: how they come into the
    order that pictures and most weights take them in, unless it was given.
    """
    if len({tuple(sorted(names)) for names in found}) < len(found):
        return f"{differing_bands(found)}, and are read as if they did not"
    names = next(iter(found), ())
    if order_given or not is_reversed(names):
        return None
    order = [3, 2, 1, *range(4, len(names) + 1)]
    return (
        f"the first bands, {', '.join(names[:3])}, are blue, green and red, and are shown, and taken by weights of "
        f"photographs, as red, green and blue; bands: {order} in the data YAML gives them in that order"
    )


def typical_side(source: Samples, indices: Sequence[int], upright: bool = False) -> int:
    """Median of the shorter sides of images, pixels; at most 32 headers are read.

    Raises:
        FileFault: a header cannot be read.
    """
    return round(median(map(min, _sizes(_infos(source, spread(indices, _READ)), upright))))


def _infos(source: Samples, chosen: Sequence[int]) -> list[ImageInfo]:
    """The headers of images; of those in memory, which are alike, that of the first."""
    files = [path for index in chosen for path in source.files(index)[:1]]
    if files:
        return [read_info(path) for path in files]
    shape = source.image(chosen[0])[0].shape
    return [ImageInfo((shape[-3], shape[-2]), "uint8")]


def _sizes(infos: Sequence[ImageInfo], upright: bool) -> list[tuple[int, int]]:
    return [info.shown if upright else info.size for info in infos]


def _sides(sizes: Sequence[tuple[int, int]]) -> str:
    """Width x height of images (H, W), or the least and the most of both."""
    heights, widths = zip(*sizes, strict=True)
    return f"{_span(widths)} x {_span(heights)}"


def _span(sides: Sequence[int]) -> str:
    return " to ".join(str(side) for side in sorted({min(sides), max(sides)}))


def _place(grids: Sequence[Grid], files: int) -> str:
    """Reference systems and sizes of a pixel."""
    without = f" · {files - len(grids)} of {files} have no place" if len(grids) < files else ""
    return f"{_named(grid.name for grid in grids)} · pixels of {_named(map(_pixel, grids))}{without}"


def _named(names: Iterable[str]) -> str:
    return some(sorted(set(names)))


def _pixel(grid: Grid) -> str:
    """Width and height of a pixel in the unit of the map; of degrees also in metres, at the middle."""
    a, b, _, d, e, _ = tuple(grid.transform)[:6]
    sides = f"{hypot(a, d):.4g}", f"{hypot(b, e):.4g}"
    if not grid.crs.is_geographic:
        return f"{_by(*sides)} {grid.crs.linear_units}"
    from pyproj import Geod

    left, bottom, right, top = grid.bounds
    x, y = (left + right) / 2, (bottom + top) / 2
    metres = (Geod(ellps="WGS84").inv(x, y, x + across, y + down)[2] for across, down in ((a, d), (b, e)))
    return f"{_by(*sides)} degrees (about {_by(*(f'{side:.{0 if side >= 100 else 1}f}' for side in metres))} m)"


def _by(width: str, height: str) -> str:
    return " x ".join(dict.fromkeys((width, height)))
