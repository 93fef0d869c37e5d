"""The user's own data as a YAML file: folders, classes, how mask values are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from semikit.data.foreign_yaml import in_own_keys
from semikit.data.formats.colours import Colour, from_hex, packed
from semikit.data.formats.mask_values import VALID, MaskValues
from semikit.data.formats.orientation import Orientation
from semikit.data.formats.rescale import Scale
from semikit.data.shards.pool_spec import Shards
from semikit.errors import ConfigError, some
from semikit.files import at_home, no_such_file
from semikit.settings.base import BandList, Location, Settings
from semikit.settings.messages import validate
from semikit.settings.yaml_text import expand, parse

_PARTS = ("train", "unlabeled", "val", "test", "group")

TABLES = frozenset({".csv", ".tsv", ".txt"})
"""Suffixes of tables and lists; anything else is a folder."""

PART_FOLDERS: Mapping[str, Sequence[str]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
    "unlabeled": ("unlabeled", "unlabelled"),
}
"""Part -> what its folder may be called where a folder is given in place of a YAML."""

Share = Annotated[float, Field(gt=0, lt=1)]
"""A part of the images of train that have a mask or label, held out of it."""

DEFAULT_SHARE = 0.2
"""Held out of a folder that has no part to validate on."""

FEWEST_CLASSES = 2
"""Of images with masks."""

_Part = Annotated[int, Field(ge=0, le=255)]
RGB = Annotated[tuple[_Part, _Part, _Part], BeforeValidator(from_hex)]

S = TypeVar("S", bound=Settings)


def class_names(raw: Any) -> Any:
    """Names in the order of the class numbers, from a list or from {number: name}."""
    if not isinstance(raw, Mapping):
        return raw
    numbered = _with_whole_keys(raw)
    if all(isinstance(key, int) for key in numbered) and sorted(numbered) != list(range(len(numbered))):
        mapping = ", ".join(f"{value}: {number}" for number, value in enumerate(sorted(numbered)))
        raise ValueError(
            f"classes must be numbered 0 to {len(numbered) - 1}, got {sorted(numbered)}. Number them so, "
            f"and say which mask value is which class: mapping: {{{mapping}}}"
        )
    return tuple(numbered[key] for key in sorted(numbered, key=str if _mixed(numbered) else None))


def _mixed(keys: Mapping[Any, Any]) -> bool:
    if all(isinstance(key, int) for key in keys):
        return False
    raise ValueError(f"classes must be a list of names or {{number: name}}, got the keys {list(keys)}")


def _with_whole_keys(raw: Any) -> Any:
    """Keys like "255" as numbers: JSON, and thus a configuration that was written out, has only text keys."""
    if not isinstance(raw, Mapping):
        return raw
    return {int(key) if isinstance(key, str) and re.fullmatch(r"-?\d+", key) else key: raw[key] for key in raw}


def share_or_folder(raw: Any) -> Literal["share", "folder"]:
    """Which is meant by `val` or `test`: a number is a share of train."""
    return "share" if isinstance(raw, (int, float)) else "folder"


def _group(raw: Any) -> Any:
    """A table by its suffix, else the text of a pattern, which has to be one."""
    if not isinstance(raw, str):
        return raw
    if Path(raw).suffix.lower() in TABLES:
        return Path(raw)
    if "{" not in raw:
        try:
            re.compile(raw)
        except re.error as error:
            raise ValueError(f"{raw!r} is no regular expression: {error}") from None
    elif not re.fullmatch(r"([^{}]|\{(stem|folder)(:\d+)?\})*", raw):
        raise ValueError(f"{raw!r} may hold {{stem}}, {{stem:6}} (its first 6 characters), {{folder}} and {{folder:6}}")
    return raw


class SplitSpec(Settings):
    """Where the images that are scored come from."""

    folds: int | None = Field(None, ge=2, le=1000)
    """Cross validation: val is the fold that --fold names, counted from 0, of the images of train with a mask."""
    group: Annotated[str | Location | None, BeforeValidator(_group)] = None
    """Images held out together: a pattern of the name ({stem:6}, {folder}), a regular expression, a CSV file,group."""
    val: Settings | float | None = None
    """Images the best model is chosen on."""
    test: Settings | float | None = None
    """Images for the final score."""
    folder: Location | None = None
    """The folder that was given in place of a description; what lies in it and is no part is named."""
    allow_overlap: bool = False
    """Whether a picture that is learned from may be scored on too, under one name or another."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.folds is not None and self.val is not None:
            raise ValueError(f"folds: {self.folds} and val both say which images validate; keep one")
        if self.group is not None and self.folds is None and not isinstance(self.val or self.test, float):
            raise ValueError("group is for images that are held out of train; it needs val: 0.2, test: 0.2 or folds: 5")
        return self


class ClassSpec(SplitSpec):
    """What descriptions of data sets share: classes, and how values of masks and rasters are read."""

    unlabeled: tuple[Settings, ...] = ()
    """More images to learn from, without masks."""

    classes: Annotated[tuple[str, ...], BeforeValidator(class_names), Field(min_length=FEWEST_CLASSES, max_length=255)]
    """Names of the classes 0..K-1, as a list or as {number: name}; 255 is what does not count in maps."""
    ignore: tuple[int, ...] = ()
    """Mask values that do not count."""
    mapping: Annotated[dict[int, int], BeforeValidator(_with_whole_keys), Field(default_factory=dict)]
    """Mask value -> class; values not named here are class numbers."""
    colors: dict[str, RGB] | None = None
    """Class -> its colour (R, G, B), of which masks in colour are read and all pictures drawn; of all classes. Without
    `classes` they are those named here, in this order."""
    ignore_colors: tuple[RGB, ...] = ()
    """Colours of masks that do not count."""
    bands: BandList | None = None
    """Which bands of a raster, in this order, counted from 1 or by their names; default all but an alpha band."""
    scale: Scale | None = None
    """Range of raster values that becomes 0..255; default 8 bit as stored, else percentiles 2 to 98 of a sample."""
    orientation: Orientation = "auto"
    """On what masks of turned photos (EXIF) were drawn: viewer, the photo as programs show it; stored, its pixels as
    stored, and nothing is turned; auto: whichever size fits."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if twice:
            raise ValueError(f"class names must differ, got twice: {', '.join(twice)}")
        both = sorted(set(self.ignore) & set(self.mapping))
        if both:
            raise ValueError(f"mask values {both} are in both 'ignore' and 'mapping'; keep them in one")
        beyond = sorted(value for value in self.mapping.values() if not 0 <= value < len(self.classes))
        if beyond:
            raise ValueError(f"'mapping' leads to class {beyond[0]}, but the classes are 0 to {len(self.classes) - 1}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _classes_of_colours(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("colors"), dict) and raw.get("classes") is None:
            return {**raw, "classes": [str(name) for name in raw["colors"]]}
        return raw

    @model_validator(mode="after")
    def _each_its_colour(self) -> Self:
        if self.colors is None:
            if self.ignore_colors:
                raise ValueError("'ignore_colors' is read with 'colors'; say there which colour is which class")
            return self
        missing = [name for name in self.classes if name not in self.colors]
        strange = [name for name in self.colors if name not in self.classes]
        if missing or strange:
            what = f"no colour for {', '.join(missing)}" if missing else f"{', '.join(strange)} is no class"
            known = some(self.classes, 10)
            raise ValueError(f"'colors' names each class with its colour: {what}. The classes are {known}")
        given = [*self.colors.values(), *self.ignore_colors]
        twice = sorted({colour for colour in given if given.count(colour) > 1})
        if twice:
            raise ValueError(f"colours must differ, got twice: {list(twice[0])}")
        return self

    @field_validator("val")
    @classmethod
    def _validated(cls, val: Any, info: ValidationInfo) -> Any:
        if val is None and info.data.get("folds") is None:
            raise ValueError(
                "missing; give images with masks that the best model is chosen on, a share of train (val: 0.2), or "
                "cross validation in its place (folds: 5, with --fold 0 to --fold 4)"
            )
        return val

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.classes)

    @property
    def values(self) -> MaskValues:
        """How mask values become classes."""
        return MaskValues(self.num_classes, self.ignore, tuple(sorted(self.mapping.items())), colours=self._colours)

    @property
    def unstored(self) -> frozenset[int]:
        """Classes that need no mask value."""
        return frozenset()

    @property
    def _colours(self) -> tuple[tuple[int, int, str], ...]:
        if self.colors is None:
            return ()
        classes = [(packed(self.colors[name]), number, name) for number, name in enumerate(self.classes)]
        return tuple(sorted([*classes, *((packed(colour), -1, "ignored") for colour in self.ignore_colors)]))

    @property
    def drawn(self) -> list[Colour] | None:
        """The colours that classes are drawn with, where they are given."""
        return None if self.colors is None else [self.colors[name] for name in self.classes]


def read_spec(kind: type[S], data: Path | Mapping[str, Any], root: Path | None = None, *, maps: bool = False) -> S:
    """The data set a YAML file, or a mapping with the content of one, describes; paths in it count from `root`, the
    file's folder or the current one, and come back absolute. It may be in the keys of another program; `maps`: with
    folders of masks (see `foreign_yaml`).

    Raises:
        DataError: no such file.
        ConfigError: a `${NAME}` that the environment does not have, or everything that is wrong in the file, one line
            each.
    """
    path = Path("data") if isinstance(data, Mapping) else data
    raw = expand(dict(data) if isinstance(data, Mapping) else read_yaml(data), str(path))
    raw = in_own_keys(raw, path, root, maps=maps)
    return placed(validate(kind, raw, str(path)), at_home(root or path.parent).absolute())


def refuse_unreachable(spec: ClassSpec) -> None:
    """Raise where no mask value leads to a class: it cannot be learned. A model that knows it may be scored.

    Raises:
        ConfigError: with the line that leaves the class out.
    """
    lost = [number for number in spec.values.unreachable() if number not in spec.unstored]
    if not lost:
        return
    left = [number for number in range(spec.num_classes) if number not in lost]
    read = {value: spec.values.read(value) for value in sorted({*range(spec.num_classes), *spec.mapping})}
    stored = {value: left.index(number) for value, (number, state) in read.items() if state == VALID}
    mapping = ", ".join(f"{value}: {number}" for value, number in stored.items())
    names = ", ".join(f"{spec.classes[k]!r} ({k})" for k in lost)
    raise ConfigError(
        f"no mask value is of class {names}: `ignore` or `mapping` takes its value. If it is no class, leave its name "
        f"out of `classes` and number the others: `mapping: {{{mapping}}}`; else take its value out of `ignore` or "
        "`mapping`."
    )


def part_folders(folder: Path) -> dict[str, str]:
    """Part -> its folder below the folder, of those that are there; the first of its names counts."""
    found: dict[str, str] = {}
    for part, names in PART_FOLDERS.items():
        place = next((folder / name for name in names if (folder / name).is_dir()), None)
        if place is not None:
            found[part] = str(place)
    return found


def placed(spec: S, base: Path) -> S:
    """The same data set with relative folders counted from `base`."""

    def moved(value: Any) -> Any:
        if isinstance(value, Path):
            return base / at_home(value)
        if isinstance(value, Shards):
            return value.below(base)
        if isinstance(value, tuple):
            return tuple(moved(item) for item in value)
        if isinstance(value, Settings):
            return value.model_copy(update={name: moved(item) for name, item in value})
        return value

    return spec.model_copy(update={name: moved(getattr(spec, name)) for name in _PARTS})


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        DataError: when there is no such file.
        ConfigError: when it is not YAML of plain values; names the line.
    """
    if not path.is_file():
        raise no_such_file(path)
    return parse(path.read_bytes(), str(path))
