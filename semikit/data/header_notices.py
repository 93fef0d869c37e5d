"""What the headers of images say that their user should know: turned masks, several images, a place that is lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from semikit.data.check import Part
from semikit.data.formats.images import ImageInfo, is_raster, orientation_of_mask, read_info
from semikit.data.formats.orientation import Orientation
from semikit.errors import FileFault, some


def header_notices(parts: Sequence[Part], orientation: Orientation) -> list[str]:
    """Notices about images that were opened; reads headers only.

    Raises:
        FileFault: a header cannot be read.
    """
    files = {path: None for part in parts for index in part.indices for path in part.source.files(index)}
    masked = ((part.source, index) for part in parts if part.masks for index in part.indices)
    files |= {path: None for source, index in masked for path in source.target_files(index)}
    return [*file_notices(files), *_turned_notices(parts, orientation)]


def file_notices(files: Iterable[Path]) -> list[str]:
    """About files that hold several images, of which only the first is read, and about rasters whose place is not used.
    Files that cannot be read are passed over.
    """
    with ThreadPoolExecutor() as threads:
        infos = [(path, info) for path, info in threads.map(_info, files) if info is not None]
    several = [(path, info.parts) for path, info in infos if info.parts > 1]
    loose = [f"{path} ({info.raster.loose_place})" for path, info in infos if info.raster and info.raster.loose_place]
    return [*_several(several), *_loose(loose)]


def _several(several: Sequence[tuple[Path, int]]) -> list[str]:
    if not several:
        return []
    names = some([f"{path} ({count})" for path, count in several])
    remedy = "Split a file whose other images count"
    if any(is_raster(path) for path, _ in several):
        remedy += ", or take one of them out by its name: gdal_translate GTIFF_DIR:2:FILE.tif SECOND.tif"
    return [f"{len(several)} files hold several images, of which only the first is read: {names}. {remedy}"]


def _loose(loose: Sequence[str]) -> list[str]:
    if not loose:
        return []
    what = "are placed on the map by points or functions, which are not used; their pixels are taken as they are stored"
    return [f"{len(loose)} rasters {what}: {some(loose)}. Bring them onto a grid where it counts: gdalwarp IN OUT.tif"]


def _info(path: Path) -> tuple[Path, ImageInfo | None]:
    try:
        return path, read_info(path)
    except FileFault:
        return path, None


def _turned_notices(parts: Sequence[Part], orientation: Orientation) -> list[str]:
    if orientation != "auto":
        return []
    turned = [
        f"{part.name}: {part.source.names[index]}"
        for part in parts
        if part.masks
        for index in part.indices
        for image in part.source.files(index)[:1]
        if any(orientation_of_mask(mask, image, orientation) > 1 for mask in part.source.target_files(index))
    ]
    if not turned:
        return []
    return [
        f"{len(turned)} masks fit their photo as it is stored and not as it is shown (EXIF orientation) and are turned "
        f"with it: {some(turned)}. Should they lie otherwise, say `orientation: viewer` or `stored` in the data YAML"
    ]
