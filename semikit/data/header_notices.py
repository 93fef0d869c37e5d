"""What the headers of images say that their user should know: turned masks, files of several images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from semikit.data.check import Part
from semikit.data.formats.images import is_raster, orientation_of_mask, read_info
from semikit.data.formats.orientation import Orientation
from semikit.errors import FileFault, some


def header_notices(parts: Sequence[Part], orientation: Orientation) -> list[str]:
    """Notices about images that were opened; reads headers only.

    Raises:
        FileFault: a header cannot be read.
    """
    files = {path: None for part in parts for index in part.indices for path in part.source.files(index)}
    masks = (part.source.target_file(index) for part in parts if part.masks for index in part.indices)
    files |= {path: None for path in masks if path is not None}
    return [*parts_notices(files), *_turned_notices(parts, orientation)]


def parts_notices(files: Iterable[Path]) -> list[str]:
    """At most one: about files that hold several images, of which only the first is read. Files that cannot be read are
    passed over.
    """
    with ThreadPoolExecutor() as threads:
        several = [found for found in threads.map(_several, files) if found is not None]
    if not several:
        return []
    names = some([f"{path} ({count})" for path, count in several])
    remedy = "Split a file whose other images count"
    if any(is_raster(path) for path, _ in several):
        remedy += ", or take one of them out by its name: gdal_translate GTIFF_DIR:2:FILE.tif SECOND.tif"
    return [f"{len(several)} files hold several images, of which only the first is read: {names}. {remedy}"]


def _several(path: Path) -> tuple[Path, int] | None:
    try:
        count = read_info(path).parts
    except FileFault:
        return None
    return (path, count) if count > 1 else None


def _turned_notices(parts: Sequence[Part], orientation: Orientation) -> list[str]:
    if orientation != "auto":
        return []
    turned = [
        f"{part.name}: {part.source.names[index]}"
        for part in parts
        if part.masks
        for index in part.indices
        for image, mask in [(part.source.files(index)[:1], part.source.target_file(index))]
        if image and mask is not None and orientation_of_mask(mask, image[0], orientation) > 1
    ]
    if not turned:
        return []
    return [
        f"{len(turned)} masks fit their photo as it is stored and not as it is shown (EXIF orientation) and are turned "
        f"with it: {some(turned)}. Should they lie otherwise, say `orientation: viewer` or `stored` in the data YAML"
    ]
