"""Which files come of a scene, and how maps are written into them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Protocol, Self, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BeforeValidator, Field, model_validator

from semikit.data.formats.images import files_of
from semikit.data.palette import Palette
from semikit.errors import FileFault, InputError
from semikit.files import OUTPUT, make_folder, write_atomically, write_table
from semikit.inference.ensemble import Tta
from semikit.inference.pictures import class_map, save_png
from semikit.inference.transition_table import transition_rows
from semikit.inference.windows import ValueSettings
from semikit.raster.cog import BESIDE, MapFile, class_tags
from semikit.raster.grid import Grid
from semikit.raster.polygons import NODATA
from semikit.raster.region import Region
from semikit.raster.style import qml
from semikit.raster.vectors import SUFFIXES, beside, check_destination
from semikit.settings.base import Location, one_or_many

MAPS, PICTURES = (".tif", ".tiff"), (".png",)
SCRATCH = "shares"
"""What a folder for files that do not stay is called, with a dot before it and letters of chance after it."""
CLASSES = "classes"
_EXTRA = ("confidence", "probability", "overlay")
_AREAS = ("class", "name", "pixels", "area_m2", "share")
_BY_FORMAT = {"tif": MAPS, "png": PICTURES}


def _thresholds(raw: Any) -> Any:
    """Of what Python gives: a number, a text, a mapping of classes, or several."""
    return tuple(f"{name}={share}" for name, share in raw.items()) if isinstance(raw, Mapping) else one_or_many(raw)


@final
class MapPredict(ValueSettings):
    """What prediction writes besides the classes, and how windows cover a raster."""

    confidence: bool = False
    """The probability of the predicted class, NAME-confidence: in percent, in a PNG 0..255 for 0..1."""
    probability: bool = False
    """The probability of every class, of change detection that something changed, NAME-probability, as `confidence`."""
    probability_of: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = ()
    """The probability of these classes alone, a band for each, in the order given."""
    qml: bool = False
    """A style of QGIS with names and colours of the classes, NAME.qml beside the map."""
    overlay: bool = False
    """The classes laid over the image (changes over the second date), NAME-overlay."""
    legend: bool = False
    """A picture of the classes with their colours, legend.png in the folder of the maps (of a named map
    NAME-legend.png)."""
    format: Literal["tif", "png"] | None = None
    """GeoTIFF or PNG; null: by the place of the image, or by the name that is given."""
    polygons: Location | None = None
    """A file for the classes as polygons (.geojson, .gpkg, .shp, .fgb); of several images, a folder."""
    polygons_format: Literal["geojson", "gpkg", "shp", "fgb"] | None = None
    """What polygons of several images are written as; null: geojson."""
    areas: bool = False
    """A table of areas by class, areas.csv."""
    aoi: Location | None = None
    """A file of polygons: only windows that touch them are predicted, and elsewhere there is nodata; areas are those of
    each of its features."""
    threshold: Annotated[tuple[Annotated[float, Field(strict=False)] | str, ...], BeforeValidator(_thresholds)] = ()
    """P or CLASS=P: the probability from which pixels are of a class, also where another is more probable; P alone, of
    change, that something changed, of segmentation what the most probable class needs, else there is nodata."""
    min_confidence: float = Field(0.0, ge=0, le=1)
    """Pixels whose class is less probable get none: they are nodata."""
    min_area: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Areas of one class that are smaller take the class around them, of change they become unchanged; square metres
    (pixels without CRS)."""
    simplify: float = Field(0.0, ge=0, allow_inf_nan=False)
    """How far a simpler outline may be from the pixels', metres (pixels without CRS)."""
    tile: int | None = Field(None, ge=8)
    """Side of the windows that a raster is covered with, pixels; null: the training crop."""
    overlap: int | None = Field(None, ge=0)
    """By how many pixels they overlap; null: a quarter of their side."""
    tta: Tta = "none"
    """Predict each image several times and average (test-time augmentation). flip: as it is and mirrored left to right,
    rasters (GeoTIFF; of change all) also top to bottom and both; flip+scale: each of these at 0.75, 1 and 1.25 times
    its size."""
    resume: bool = False
    """Go on with a prediction of several images that stopped: those that are done are verified and kept."""
    fail_fast: bool = False
    """Stop at the first image that cannot be read."""

    @model_validator(mode="after")
    def _of_polygons(self) -> Self:
        for name in ("simplify", "polygons_format"):
            if self.polygons is None and getattr(self, name):
                raise ValueError(f"{name} is of polygons; give --polygons too, or leave it out")
        return self


class Sink(Protocol):
    """Takes an image region by region."""

    def write(self, region: Region, values: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None) -> None:
        """Values (h, w) or (h, w, bands), and where they are valid (h, w)."""
        ...


class ClassSink(Sink, Protocol):
    """Takes classes region by region, and gives them back."""

    def read(self, region: Region) -> NDArray[np.uint8]:
        """Classes (h, w), 255 where there is no value."""
        ...


@final
@dataclass(frozen=True)
class Legend:
    """The classes of a map: names, colours (K, 3), and the one that is not outlined."""

    names: tuple[str, ...]
    colours: Palette
    background: int | None
    threshold: float | None = None
    """Of change: the probability from which it is mapped, where one is set."""

    def tags(self) -> dict[str, str]:
        """As texts in a file."""
        colours = {f"COLOUR_{k}": ",".join(map(str, colour)) for k, colour in enumerate(self.colours.tolist())}
        background = {} if self.background is None else {"BACKGROUND": "0"}
        threshold = {} if self.threshold is None else {"THRESHOLD": str(self.threshold)}
        return {**class_tags(self.names), **colours, **background, **threshold}


@final
@dataclass(frozen=True, slots=True)
class Outputs:
    """The files of one scene: the classes, what else is wanted by its name, and the polygons."""

    classes: Path
    extra: Mapping[str, Path]
    polygons: Path | None
    style: Path | None = None

    def all(self) -> list[Path]:
        """Every file."""
        every = (self.classes, *self.extra.values(), self.polygons, self.style)
        return [path for path in every if path is not None]

    def former(self) -> list[Path]:
        """What may be left of an earlier prediction: every file, and what GDAL keeps beside a map."""
        parts = [] if self.polygons is None else beside(self.polygons)
        return [*self.all(), self.classes.with_name(f"{self.classes.name}{BESIDE[0]}"), *parts]

    def open(
        self, stack: ExitStack, grid: Grid, legend: Legend, bands: Sequence[str]
    ) -> tuple[ClassSink, dict[str, Sink]]:
        """The classes, and all other files but the polygons by their name, to be written; `bands` are those of the
        probability. `stack` finishes them, or removes them when something fails.
        """
        self.classes.parent.mkdir(parents=True, exist_ok=True)
        classes = stack.enter_context(class_file(self.classes, grid, legend))
        sinks: dict[str, Sink] = {}
        for name, path in self.extra.items():
            if name == "overlay":
                sinks[name] = stack.enter_context(_overlay(path, grid))
            else:
                shown = bands if name == "probability" else (name,)
                sinks[name] = stack.enter_context(share_file(path, grid, shown, legend))
        return classes, sinks


def class_file(path: Path, grid: Grid, legend: Legend) -> AbstractContextManager[ClassSink]:
    """A file of class numbers."""
    if _is_picture(path):
        return Picture(path, grid.size, legend.colours, empty=NODATA)
    return MapFile(
        path,
        grid,
        nodata=NODATA,
        colours=legend.colours,
        tags=legend.tags(),
        descriptions=("class",),
        categories=legend.names,
    )


def _overlay(path: Path, grid: Grid) -> AbstractContextManager[Sink]:
    if _is_picture(path):
        return Picture(path, grid.size, bands=3)
    return MapFile(path, grid, bands=3, rgb=True, nodata=None, average=True)


def share_file(
    path: Path, grid: Grid, bands: Sequence[str], legend: Legend | None = None
) -> AbstractContextManager[Sink]:
    """A file of probabilities: percent with nodata in a GeoTIFF, which says so and names the classes, gray in a PNG."""
    if _is_picture(path):
        return Picture(path, grid.size)
    known = {} if legend is None else legend.tags()
    tags = {"UNIT": "percent", "VALUES": f"0 to 100 percent; {NODATA}: no data", **known}
    return MapFile(path, grid, bands=len(bands), nodata=NODATA, tags=tags, average=True, descriptions=bands)


def stored_share(share: NDArray[np.floating[Any]], path: Path | None) -> NDArray[np.uint8]:
    """Probabilities 0..1 as a file holds them: 0..255 in a picture, else percent."""
    full = 255 if path is not None and _is_picture(path) else 100
    return (share * full).round().clip(0, full).astype(np.uint8)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES


def outputs_of(name: str, out: Path, options: MapPredict, *, many: bool, is_map: bool, bands: Sequence[str]) -> Outputs:
    """The files that come of a scene. `out` is a folder where it is one of `many`, and where it is one or has no
    suffix. By default a GeoTIFF is written where `is_map`.

    Raises:
        InputError: a suffix that nothing is written to, a file for many; polygons or areas of a picture.
    """
    if many and out.suffix.lower() in (*MAPS, *PICTURES) and not out.is_dir():
        raise InputError(f"-o {out}: of several images it takes a folder, and a folder's name has no such suffix.")
    suffix = _BY_FORMAT[options.format][0] if options.format else MAPS[0] if is_map else PICTURES[0]
    classes = out if named_file(out, many) else out / f"{name}{suffix}"
    allowed = _BY_FORMAT[options.format] if options.format else MAPS if is_map else (*PICTURES, *MAPS)
    if classes.suffix.lower() not in allowed:
        place = " --format png writes a picture without a place." if is_map and not options.format else ""
        raise InputError(
            f"-o {classes}: no map is written as {classes.suffix}. Allowed here: {', '.join(allowed)}; a name "
            f"without suffix is a folder.{place}"
        )
    wanted = [kind for kind in _EXTRA if getattr(options, kind) or (kind == "probability" and options.probability_of)]
    extra = {kind: classes.with_name(f"{classes.stem}-{kind}{classes.suffix}") for kind in wanted}
    if "probability" in extra and len(bands) > 1:  # a band for each class, which no picture has
        extra["probability"] = extra["probability"].with_suffix(MAPS[0] if _is_picture(classes) else classes.suffix)
    polygons = _polygons(name, options, many)
    if _is_picture(classes) and (polygons is not None or options.areas):
        flag = "--areas" if polygons is None else f"--polygons {polygons}"
        raise InputError(
            f"{flag}: they are drawn from a GeoTIFF, and {classes.name} is a picture; give -o a name that ends in "
            ".tif, or --format tif."
        )
    return Outputs(classes, extra, polygons, classes.with_suffix(".qml") if options.qml else None)


def named_file(out: Path, many: bool) -> bool:
    """Whether `out` is the file of the classes, not a folder."""
    return not many and not out.is_dir() and bool(out.suffix)


def _polygons(name: str, options: MapPredict, many: bool) -> Path | None:
    """The file of a scene's polygons."""
    given, kind = options.polygons, options.polygons_format
    if given is None:
        return None
    if not many:
        if given.suffix.lower() not in SUFFIXES:
            raise InputError(f"--polygons {given}: polygons are written as {', '.join(SUFFIXES)}.")
        if kind is not None:
            raise InputError(
                f"--polygons-format {kind} is for several images; of one the name says it: --polygons {given}. Leave "
                "one of them out."
            )
        return given
    if given.suffix:
        raise InputError(
            f"--polygons {given}: of several images it takes a folder, for one file an image; --polygons-format "
            "geojson|gpkg|shp|fgb chooses which."
        )
    return given / f"{name}.{kind or 'geojson'}"


def refuse_overwriting(outputs: Mapping[str, Outputs], images: Sequence[Path]) -> None:
    """Raise where an output would take the place of an image, or of another output.

    Raises:
        InputError: names the file; also one that a virtual raster refers to.
    """
    sources = {os.path.realpath(part) for path in images for part in files_behind(path)}
    owner: dict[str, str] = {}
    for name, one in outputs.items():
        for path in one.all():
            real = os.path.realpath(path)
            if real in sources:
                raise InputError(
                    f"{path} is one of the images to predict; it would be overwritten. Choose another name for it (-o)."
                )
            if (other := owner.setdefault(real, name)) != name:
                raise InputError(
                    f"two outputs would be {path}, of the images {other} and {name}. Rename one image, predict it "
                    "alone, or leave out what is written beside the classes."
                )


def files_behind(path: Path) -> list[Path]:
    """The files an image is read from; of one that cannot be read itself."""
    try:
        return files_of(path)
    except FileFault:
        return [path]


def make_room(outputs: Sequence[Outputs]) -> None:
    """Make the folders of polygons.

    Raises:
        DataError: a folder that cannot be made or written, a vector file that is in use.
    """
    for one in outputs:
        if one.polygons is not None:
            make_folder(one.polygons.parent)
            check_destination(one.polygons, one.classes)


def table_beside(path: Path) -> Path:
    """The table of areas of a file."""
    return path.with_name(f"{path.stem}-areas.csv")


def write_areas(path: Path, rows: Sequence[Sequence[object]], features: bool) -> None:
    """The table of areas: of each map and class the pixels, square metres (empty without CRS) and share of all classes;
    of each of the `features` of an area of interest, if there is one. Where the classes are transitions, a table of
    them too, transitions.csv beside areas.csv.

    Raises:
        RunError: the disk is full.
    """
    head = ("file", *(("feature", "feature_name") if features else ()))
    write_table(path, [(*head, *_AREAS), *rows])
    if table := transition_rows(rows, head):
        write_table(path.with_name(f"{path.stem.removesuffix('areas')}transitions.csv"), table)


def write_style(path: Path, legend: Legend) -> None:
    """The style of a map of classes for QGIS.

    Raises:
        RunError: the disk is full.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(qml(legend.names, legend.colours), encoding="utf-8")

    write_atomically(path, write, remedy=OUTPUT, durable=False)


@final
class Picture:
    """A PNG, written when all of it is there: with `colours` (K, 3) class numbers, else gray or RGB. What is not valid
    is `empty`.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], colours: Palette | None = None, bands: int = 1, empty: int = 0
    ) -> None:
        self.path, self.colours, self.empty = path, colours, np.uint8(empty)
        self.values = np.full((*size, bands), empty, dtype=np.uint8)

    def __enter__(self) -> Self:
        return self

    def write(self, region: Region, values: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None) -> None:
        """Keep values (h, w) or (h, w, bands)."""
        bands = values[..., None] if values.ndim == 2 else values
        self.values[region.slices] = bands if valid is None else np.where(valid[..., None], bands, self.empty)

    def read(self, region: Region) -> NDArray[np.uint8]:
        """The first of the bands (h, w), as it is kept."""
        return self.values[region.slices][..., 0]

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
