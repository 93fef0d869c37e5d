"""The folder of masks that a conversion writes: each says what it was made from, so that it can be kept or redone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from PIL import Image, PngImagePlugin

from semikit.data.conversion.labels import IGNORED_COLOUR, Bytes, Drawing, Numbers, Size
from semikit.data.conversion.map_polygons import OnMap
from semikit.data.formats.images import faults_of, image_size, is_raster, read_mask
from semikit.data.palette import Palette
from semikit.errors import DataError, FileFault, some
from semikit.files import OUTPUT, write_atomically
from semikit.raster.cog import MapFile, read_tags
from semikit.raster.region import tiles

_KEY = "semikit-labels"
"""Text in a PNG: what it was made from, and what it held."""
_TILE = 2048


@final
class Written(NamedTuple):
    """What became of one mask: whether it is new, and whether a pixel of a new one is in no area."""

    new: bool
    uncovered: bool = False


@final
class MaskStore:
    """Masks of class numbers, with a palette, below `folder`: PNG files, of rasters with a place GeoTIFFs; those that
    were changed by hand are not replaced.
    """

    def __init__(self, folder: Path, numbers: Numbers, colours: Palette) -> None:
        self.folder, self.numbers = folder, numbers
        self.colours = colours.copy()
        self.colours[255] = IGNORED_COLOUR

    def place(self, part: str, name: str, suffix: str) -> Path:
        """Where the mask of an image lies."""
        return self.folder / part / f"{name}{suffix}"

    def clear(self) -> None:
        """Take away the unfinished files that a killed conversion left."""
        for path in self.folder.rglob(".*.tmp"):
            path.unlink()

    def foreign(self, places: Sequence[Path], before: Sequence[str] | None) -> list[Path]:
        """The files where masks are to be written that do not say what they were made from, as editors drop that.

        `before` are the classes of a former conversion, if there was one.

        Raises:
            DataError: there was none, or its classes had other numbers; names three files.
        """
        found = [place for place in places if place.exists() and not _record(place)]
        if found and (before is None or list(before) != list(self.numbers.classes)):
            why = "" if before is None else f" (they may hold the numbers of {', '.join(before)})"
            raise DataError(
                f"{len(found)} files in {self.folder} were not written by this command{why} and are not replaced: "
                f"{some([str(place) for place in found])}. Choose another -o, or take them away."
            )
        return found

    def write(self, place: Path, drawing: Drawing, size: Size) -> Written:
        """Write one mask that is not there or not right any more.

        Raises:
            DataError: it has to be replaced, and was changed by hand.
            FileFault: the labels do not fit the image.
        """
        made_from = hashlib.sha256(f"{size} {drawing.digest(self.numbers)}".encode()).hexdigest()
        if place.exists():
            before, held = _record(place)
            if before == made_from:
                return Written(new=False)
            if held != _content(place):
                raise DataError(
                    f"{place} was changed after it was written, and its labels changed too. Take it away to have it "
                    "drawn again, or choose another -o."
                )
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(drawing, OnMap):
            return Written(True, self._save_map(place, drawing, made_from))
        mask = drawing.drawn(size, self.numbers)
        self._save(place, mask, made_from)
        return Written(True, self._uncovers(mask))

    def _uncovers(self, values: Bytes) -> bool:
        """Whether a pixel is in no area."""
        return bool((values == self.numbers.uncovered).any())

    def stale(self, places: Sequence[Path]) -> list[str]:
        """A notice about masks of former conversions that no label stands for any more."""
        now = {place.absolute() for place in places}
        former = (path for path in sorted(self.folder.rglob("*.*")) if path.absolute() not in now)
        left = [str(path) for path in former if path.suffix in (".png", ".tif") and _record(path)]
        if not left:
            return []
        return [f"{len(left)} masks of a former conversion belong to no label now; take them away: {some(left)}"]

    def _save(self, place: Path, mask: Bytes, made_from: str) -> None:
        image = Image.fromarray(mask)
        image.putpalette(self.colours.tobytes())
        text = PngImagePlugin.PngInfo()
        text.add_text(_KEY, f"{made_from} {hashlib.sha256(mask.tobytes()).hexdigest()}")
        write_atomically(place, lambda path: image.save(path, format="PNG", pnginfo=text), remedy=OUTPUT, durable=False)

    def _save_map(self, place: Path, drawing: OnMap, made_from: str) -> bool:
        """Write a raster by regions; returns whether a pixel is in no area."""
        digest, uncovered = hashlib.sha256(), False
        with MapFile(place, drawing.grid, nodata=None, colours=self.colours) as file:
            for region in tiles(drawing.grid.size, _TILE):
                values = drawing.window(region, self.numbers)
                uncovered |= self._uncovers(values)
                digest.update(values.tobytes())
                file.write(region, values)
            file.tag(_KEY, f"{made_from} {digest.hexdigest()}")
        return uncovered


def _record(place: Path) -> list[str]:
    """What a mask was made from and what it held; nothing where it is not one of these."""
    try:
        with faults_of(place):
            found = read_tags(place).get(_KEY, "") if is_raster(place) else _text(place)
    except FileFault:
        return []
    return found.split() if len(found.split()) == 2 else []


def _text(place: Path) -> str:
    with Image.open(place) as image:
        return str(image.info.get(_KEY, ""))


def _content(place: Path) -> str:
    """A digest of its values now."""
    digest = hashlib.sha256()
    for region in tiles(image_size(place), _TILE) if is_raster(place) else [None]:
        digest.update(np.ascontiguousarray(read_mask(place, region), dtype=np.uint8).tobytes())
    return digest.hexdigest()
