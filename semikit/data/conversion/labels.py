"""What every label format is read into: the areas of each image, and how they become a mask.

A pixel has the class of the area in which its centre lies, the later area of two; coordinates are (column, row), and
0, 0 is the corner of the first pixel, not its centre.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.formats.colours import Colour
from semikit.errors import ConfigError, DataError, FileFault, SemikitError, some
from semikit.raster.burning import burn

IGNORED = 255
"""What does not count, in masks that are written here."""
IGNORED_COLOUR = (224, 224, 192)
"""Its colour there, that of Pascal VOC."""
BACKGROUND = "background"
PART = Literal["train", "val", "test"]

Bytes = NDArray[np.uint8]
Points = NDArray[np.float64]
Size = tuple[int, int]

_BACKGROUNDS = ("background", "_background_", "__background__")
_MOST = 255
_LONG = 120


@final
@dataclass(frozen=True, slots=True)
class Rings:
    """Closed outlines (N, 2), whose union is the area; what overlaps within one of them is a hole.

    Raises:
        ValueError: coordinates that are no finite numbers.
    """

    rings: tuple[Points, ...]

    def __post_init__(self) -> None:
        _refuse_endless(*self.rings)

    def area(self) -> float:
        """Square pixels, overlaps of its outlines counted twice."""
        return float(sum(abs(_shoelace(ring)) for ring in self.rings))

    def bytes(self) -> bytes:
        """What it is known by."""
        return b"|".join(ring.tobytes() for ring in self.rings)


@final
@dataclass(frozen=True, slots=True)
class Pixels:
    """Pixels (h, w) bool whose first one lies at (`top`, `left`)."""

    mask: NDArray[np.bool_]
    top: int = 0
    left: int = 0

    def area(self) -> float:
        """Pixels."""
        return float(self.mask.sum())

    def bytes(self) -> bytes:
        """What it is known by."""
        return f"{self.mask.shape} {self.top} {self.left} ".encode() + np.packbits(self.mask).tobytes()


@final
@dataclass(frozen=True, slots=True)
class Disc:
    """The pixels whose centres lie at most `radius` away from (`x`, `y`).

    Raises:
        ValueError: numbers that are not finite.
    """

    x: float
    y: float
    radius: float

    def __post_init__(self) -> None:
        _refuse_endless(np.array([self.x, self.y, self.radius]))

    def area(self) -> float:
        """Square pixels."""
        return np.pi * self.radius**2

    def bytes(self) -> bytes:
        """What it is known by."""
        return f"{self.x} {self.y} {self.radius}".encode()

    def within(self, size: Size) -> Pixels:
        """Its pixels in an image of `size` (H, W)."""
        sides = [(self.y, size[0]), (self.x, size[1])]
        (top, bottom), (left, right) = (
            (int(np.clip(middle - self.radius - 1, 0, most)), int(np.clip(middle + self.radius + 1, 0, most)))
            for middle, most in sides
        )
        rows, columns = np.mgrid[top:bottom, left:right] + 0.5
        return Pixels((rows - self.y) ** 2 + (columns - self.x) ** 2 <= self.radius**2, top, left)


Outline = Rings | Pixels | Disc


@final
@dataclass(frozen=True, slots=True)
class Area:
    """One labelled area of an image; `label` None: its pixels do not count."""

    label: str | None
    outline: Outline


def rectangle(x: float, y: float, width: float, height: float) -> Rings:
    """An upright rectangle from its corner."""
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return Rings((np.array(corners, dtype=np.float64),))


def smaller_on_top(areas: Sequence[Area]) -> tuple[Area, ...]:
    """Areas in the order of their size, the largest first; what does not count lies below all of them."""
    return tuple(sorted(areas, key=lambda area: (area.label is not None, -area.outline.area())))


@final
@dataclass(frozen=True, slots=True)
class Numbers:
    """Which value of a mask stands for which label.

    `uncovered` is the value of pixels in no area, a class or 255; labels that are no class become 255.
    """

    classes: tuple[str, ...]
    uncovered: int

    def of(self, label: str | None) -> int:
        """The value of a label."""
        return self.classes.index(label) if label in self.classes else IGNORED

    def text(self) -> str:
        """What masks depend on, beside the areas."""
        return f"{self.classes} {self.uncovered}"


def numbered(labels: Sequence[str], classes: Sequence[str] | None, background: str) -> Numbers:
    """The classes of masks: those given, else the background and the labels in their order.

    `background` is the class of pixels in no area, or "ignore" where they do not count. A label that is called
    background is that class.

    Raises:
        ConfigError: `classes` without the background; less than two classes, or more than 255.
    """
    if classes is not None:
        names = tuple(classes)
        own = next((name for name in names if name == background or _is_background(name, background)), None)
        if own is None and background != "ignore":
            raise ConfigError(
                f"--classes has no class {background!r}, which pixels in no area would be. Say which one they are, "
                f"--background NAME (of {', '.join(names)}), or that they do not count, --background ignore."
            )
    else:
        own = next((name for name in labels if name == background or _is_background(name, background)), background)
        rest = [name for name in labels if name != own]
        names = tuple(dict.fromkeys(rest if background == "ignore" else [own, *rest]))
    if not 2 <= len(names) <= _MOST:
        raise ConfigError(
            f"{len(names)} classes ({some(names)}): masks have 2 to {_MOST} of them. Choose them with --classes."
        )
    return Numbers(names, IGNORED if background == "ignore" or own is None else names.index(own))


def _is_background(name: str, background: str) -> bool:
    return background == BACKGROUND and name.casefold() in _BACKGROUNDS


class Drawing(ABC):
    """What a mask is made from."""

    suffix: ClassVar[str] = ".png"
    """Of the mask's file."""

    @abstractmethod
    def digest(self, numbers: Numbers) -> str:
        """The same as long as the mask is."""

    @abstractmethod
    def drawn(self, size: Size, numbers: Numbers) -> Bytes:
        """The mask (H, W) of an image of this size.

        Raises:
            FileFault: it does not fit, or cannot be read.
        """


@final
@dataclass(frozen=True, slots=True)
class Areas(Drawing):
    """Areas of an image, the lowest first; `relative`: corners are shares of width and height, not pixels."""

    areas: tuple[Area, ...]
    relative: bool = False

    def digest(self, numbers: Numbers) -> str:
        """Of outlines, their values and their order."""
        made = hashlib.sha256(f"{numbers.text()} {self.relative}".encode())
        for area in self.areas:
            made.update(f"{numbers.of(area.label)}:".encode() + area.outline.bytes())
        return made.hexdigest()

    def drawn(self, size: Size, numbers: Numbers) -> Bytes:
        """Outlines are filled, pixels set; what lies outside of the image is cut off."""
        mask = np.full(size, numbers.uncovered, dtype=np.uint8)
        for kind, run in groupby(self.areas, key=lambda area: type(area.outline)):
            if kind is Rings:
                burn(mask, _polygons(run, numbers, np.array([size[1], size[0]] if self.relative else [1.0, 1.0])))
            else:
                for area in run:
                    _paint(mask, area, numbers)
        return mask


def _polygons(run: Iterator[Area], numbers: Numbers, scale: Points) -> Iterator[tuple[Mapping[str, object], int]]:
    for area in run:
        assert isinstance(area.outline, Rings)
        for ring in area.outline.rings:
            closed = np.vstack([ring, ring[:1]]) * scale
            yield {"type": "Polygon", "coordinates": [closed.tolist()]}, numbers.of(area.label)


def _paint(mask: Bytes, area: Area, numbers: Numbers) -> None:
    assert not isinstance(area.outline, Rings)
    shape = area.outline.within((mask.shape[0], mask.shape[1])) if isinstance(area.outline, Disc) else area.outline
    pixels, top, left = shape.mask, shape.top, shape.left
    inside = pixels[max(0, -top) : max(0, mask.shape[0] - top), max(0, -left) : max(0, mask.shape[1] - left)]
    window = mask[max(0, top) :, max(0, left) :][: inside.shape[0], : inside.shape[1]]
    window[inside] = numbers.of(area.label)


@final
@dataclass(frozen=True, slots=True)
class LabeledImage:
    """One image of a label file: its name there, its part, its size (H, W) as the labels say it (None: they do not),
    what its mask is made from, the file that says so, and the image's own where it lies beside that.
    """

    name: str
    drawing: Drawing
    where: Path
    part: PART = "train"
    size: Size | None = None
    file: Path | None = None

    @property
    def areas(self) -> tuple[Area, ...]:
        """Those that its mask is made from; none where it is made otherwise."""
        return self.drawing.areas if isinstance(self.drawing, Areas) else ()


@final
@dataclass(frozen=True)
class LabelSet:
    """All that was read of labels.

    `labels` are the names of the classes, in the order of the format; `folders` says where the images of a part lie,
    where the format does, `colours` what classes are drawn with. `rule` tells how overlaps are resolved, `notices` are
    for the user.
    """

    format: str
    labels: tuple[str, ...]
    images: Sequence[LabeledImage]
    rule: str
    folders: Mapping[str, Path] = field(default_factory=dict)
    notices: Sequence[str] = ()
    colours: Mapping[str, Colour] = field(default_factory=dict)


def beside(where: Path, name: str) -> Path | None:
    """The image that the label file `where` calls `name`: at that path, or in the folder of the file or its images/, by
    the last part of a path of another machine.
    """
    given = name.replace("\\", "/")
    tries = [where.parent / inner / path for path in (given, given.rpartition("/")[2]) for inner in ("", "images")]
    found = next((path for path in tries if path.is_file()), None)
    return None if found is None else Path(os.path.normpath(found.absolute()))


def folders_of(images: Iterable[LabeledImage]) -> dict[str, Path]:
    """The folder of the images of each part that lie beside their labels, that in which their names begin."""
    places: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        if image.file is not None:
            inner = Path(image.name.replace("\\", "/")).parts
            within = image.file.parts[-len(inner) :] == inner
            places[image.part].append(image.file.parents[len(inner) - 1] if within else image.file.parent)
    return {part: Path(os.path.commonpath(paths)) for part, paths in places.items()}


def part_named(text: str) -> PART:
    """The part that the name of a file or folder speaks of: val where it holds val or valid, test, else train."""
    words = set("".join(c if c.isalpha() else " " for c in text.casefold()).split())
    if words & {"val", "valid", "validation", "dev"}:
        return "val"
    return "test" if words & {"test", "testing"} else "train"


def points(raw: object) -> Points | None:
    """Corners (N, 2) from [[x, y], …] or [x, y, x, y, …]; None where they enclose nothing or are no numbers."""
    try:
        values = np.array(raw, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if values.ndim == 1 and values.size % 2 == 0:
        values = values.reshape(-1, 2)
    fits = values.ndim == 2 and values.shape[1] == 2 and len(values) >= 3
    return values if fits and bool(np.isfinite(values).all()) else None


@contextmanager
def damage_of(kind: str, where: Path | str, remedy: str) -> Iterator[None]:
    """What comes of values that are not as a format has them, as one error that names the file.

    Raises:
        FileFault: of this kind.
    """
    try:
        yield
    except SemikitError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, RecursionError) as error:
        text = " ".join(str(error).split())[:_LONG]
        raise FileFault(kind, where, f"{type(error).__name__}: {text}", remedy) from None


def refuse_nothing(images: Sequence[LabeledImage], source: Path, what: str) -> None:
    """Raise where a source holds no label.

    Raises:
        DataError: says what was looked for.
    """
    if not images:
        raise DataError(f"{source}: no {what} was found. Give the file or folder that holds the labels.")


def _refuse_endless(*values: Points) -> None:
    if not all(np.isfinite(part).all() for part in values):
        raise ValueError("coordinates that are no finite numbers")


def _shoelace(ring: Points) -> float:
    x, y = ring.T
    return float((x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def left_out(places: Sequence[str]) -> list[str]:
    """The notice about shapes that cover no area."""
    if not places:
        return []
    return [f"{len(places)} shapes cover no area (lines, points, fewer than three corners), left out: {some(places)}"]
