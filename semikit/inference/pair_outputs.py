"""Which pairs are predicted, and which files come of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semikit.data.folders import TYPES, is_image, list_distinct
from semikit.data.formats.images import files_of, is_raster
from semikit.data.image_pairs import paired_files
from semikit.data.palette import Palette
from semikit.data.unused_files import Unused, unread
from semikit.errors import FileFault, InputError
from semikit.files import OUTPUT, make_folder
from semikit.inference.pictures import class_map, save_png
from semikit.raster.cog import MapFile, class_tags
from semikit.raster.grid import Grid
from semikit.raster.polygons import NODATA
from semikit.raster.region import Region
from semikit.raster.vectors import SUFFIXES, check_destination

MAPS, PICTURES = (".tif", ".tiff"), (".png",)
_EXTRA = ("confidence", "probability", "overlay")


class Sink(Protocol):
    """Takes an image region by region."""

    def write(self, region: Region, values: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None) -> None:
        """Values (h, w) or (h, w, 3), and where they are valid (h, w)."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Outputs:
    """The files of one pair: the classes, what else is wanted by its name, and the polygons."""

    classes: Path
    extra: Mapping[str, Path]
    polygons: Path | None

    def all(self) -> list[Path]:
        """Every file."""
        return [path for path in (self.classes, *self.extra.values(), self.polygons) if path is not None]

    def open(self, stack: ExitStack, grid: Grid, colours: Palette, class_names: Sequence[str]) -> dict[str, Sink]:
        """All files but the polygons, to be written; `stack` finishes them, or removes them when something fails."""
        used = colours[: len(class_names)]
        sinks: dict[str, Sink] = {}
        for name, path in {"classes": self.classes, **self.extra}.items():
            palette = used if name == "classes" else None
            if path.suffix.lower() in PICTURES:
                sinks[name] = stack.enter_context(_Picture(path, grid.size, palette, 3 if name == "overlay" else 1))
            elif name == "overlay":
                sinks[name] = stack.enter_context(MapFile(path, grid, bands=3, nodata=None, average=True))
            else:
                tags = class_tags(class_names) if name == "classes" else {"UNIT": "percent"}
                sinks[name] = stack.enter_context(
                    MapFile(path, grid, nodata=NODATA, colours=palette, tags=tags, average=palette is None)
                )
        return sinks


def find_pairs(sources: Sequence[str]) -> tuple[dict[str, tuple[Path, Path]], list[Unused], list[FileFault]]:
    """Name -> the files of both dates, for two files or two folders; what folders hold that is not read; and images of
    folders that are in no pair: without a partner, or of a name that another has.

    Raises:
        InputError: not two sources, a missing one, a file and a folder, no pair of both dates.
    """
    if len(sources) != 2:
        raise InputError(
            "a change-detection run predicts pairs: give two files or two folders, the earlier date first, "
            f"not {len(sources)}."
        )
    before, after = map(Path, sources)
    for source, path in zip(sources, (before, after), strict=True):
        if not (source and path.exists()):
            raise InputError(f"{source or 'an empty SOURCE'} does not exist. Give two files or two folders.")
    if before.is_dir() != after.is_dir():
        raise InputError(f"{before} and {after}: one is a folder. Give two files or two folders.")
    if before.is_dir():
        first, second = (list_distinct(folder, key) for folder, key in ((before, "SOURCE"), (after, "SOURCE_B")))
        pairs, alone = paired_files(first, second)
        left = [*unread(first, "SOURCE"), *unread(second, "SOURCE_B")]
        return pairs, left, [*first.refused, *second.refused, *alone]
    for path in (before, after):
        if not (path.is_file() and is_image(path.name)):
            raise InputError(
                f"{path} is {'no image' if path.is_file() else 'a pipe or a device'}. Known types: {TYPES}."
            )
    return {before.stem: (before, after)}, [], []


def outputs_of(name: str, files: tuple[Path, Path], out: Path, options: Any, *, folders: bool) -> Outputs:
    """The files that come of a pair. `out` is a folder where `folders` were given, and where it is
    one or has no suffix.

    Raises:
        InputError: a suffix that nothing is written to, a folder that is none.
    """
    rasters = all(map(is_raster, files))
    suffix = MAPS[0] if rasters else PICTURES[0]
    single = not folders and not out.is_dir() and bool(out.suffix)
    classes = out if single else out / f"{name}{suffix}"
    allowed = MAPS if rasters else (*PICTURES, *MAPS)
    if classes.suffix.lower() not in allowed:
        raise InputError(f"-o {classes}: no map is written as {classes.suffix}. Allowed here: {', '.join(allowed)}.")
    if folders and out.is_file():
        raise InputError(f"{out} is a file; of two folders, -o takes a folder.")
    extra = {
        kind: classes.with_name(f"{classes.stem}-{kind}{classes.suffix}") for kind in _EXTRA if getattr(options, kind)
    }
    polygons = _polygons(name, options.polygons, folders)
    if polygons is not None and classes.suffix.lower() not in MAPS:
        raise InputError(f"--polygons {polygons}: they are drawn from a GeoTIFF; give -o a name that ends in .tif.")
    return Outputs(classes, extra, polygons)


def _polygons(name: str, given: Path | None, folders: bool) -> Path | None:
    """The file of a pair's polygons."""
    if given is None:
        return None
    if not folders:
        if given.suffix.lower() not in SUFFIXES:
            raise InputError(f"--polygons {given}: polygons are written as {', '.join(SUFFIXES)}.")
        return given
    if given.suffix:
        raise InputError(f"--polygons {given}: of folders of pairs it takes a folder, for one .geojson a pair.")
    return given / f"{name}.geojson"


def refuse_overwriting(outputs: Sequence[Outputs], images: Sequence[Path]) -> None:
    """Raise where an output would take the place of an image, or of another output.

    Raises:
        InputError: names the file; also one that a virtual raster refers to.
    """
    files = [path for one in outputs for path in one.all()]
    sources = {os.path.realpath(part) for path in images for part in _behind(path)}
    for path in files:
        if os.path.realpath(path) in sources:
            raise InputError(f"{path} is one of the images to predict; it would be overwritten. Choose another name.")
    twice = [path for path, count in Counter(os.path.realpath(path) for path in files).items() if count > 1]
    if twice:
        raise InputError(f"two outputs would be {twice[0]}; choose other names for -o and --polygons.")


def _behind(path: Path) -> list[Path]:
    """The files an image is read from; of one that cannot be read itself."""
    try:
        return files_of(path)
    except FileFault:
        return [path]


def make_room(outputs: Sequence[Outputs]) -> None:
    """Make the folders of all outputs.

    Raises:
        DataError: a folder that cannot be made or written, a vector file that is in use.
    """
    for folder in dict.fromkeys(path.parent for one in outputs for path in one.all()):
        make_folder(folder)
    for one in outputs:
        if one.polygons is not None:
            check_destination(one.polygons, one.classes)


@final
class _Picture:
    """A PNG, written when all of it is there."""

    def __init__(self, path: Path, size: tuple[int, int], colours: Palette | None, bands: int) -> None:
        self.path, self.colours = path, colours
        self.values = np.full((*size, bands), NODATA if bands == 1 else 0, dtype=np.uint8)

    def __enter__(self) -> Self:
        return self

    def write(self, region: Region, values: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None) -> None:
        """Keep values (h, w) or (h, w, 3), nodata where not valid."""
        bands = values[..., None] if values.ndim == 2 else values
        self.values[region.slices] = bands if valid is None else np.where(valid[..., None], bands, np.uint8(NODATA))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            save_png(self._image(), self.path, OUTPUT)

    def _image(self) -> Image.Image:
        if self.colours is None:
            return Image.fromarray(self.values.squeeze(-1) if self.values.shape[-1] == 1 else self.values)
        padded = np.zeros((256, 3), dtype=np.uint8)
        padded[: len(self.colours)] = self.colours
        return class_map(self.values[..., 0], padded)
