"""The user's own data as a YAML file: folders, classes, how mask values are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from semikit.data.formats.mask_values import MaskValues
from semikit.data.formats.rescale import Scale
from semikit.data.shards.pool_spec import Shards
from semikit.files import at_home, no_such_file
from semikit.settings.base import Settings
from semikit.settings.messages import validate
from semikit.settings.yaml_text import expand, parse

_PARTS = ("train", "unlabeled", "val", "test")

S = TypeVar("S", bound=Settings)


def _class_names(raw: Any) -> Any:
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


class ClassSpec(Settings):
    """What descriptions of data sets share: classes, and how values of masks and rasters are read."""

    unlabeled: tuple[Settings, ...] = ()
    """More images to learn from, without masks."""

    classes: Annotated[tuple[str, ...], BeforeValidator(_class_names), Field(min_length=2, max_length=255)]
    """Names of the classes 0..K-1, as a list or as {number: name}; 255 is what does not count in maps."""
    ignore: tuple[int, ...] = ()
    """Mask values that do not count."""
    mapping: Annotated[dict[int, int], BeforeValidator(_with_whole_keys), Field(default_factory=dict)]
    """Mask value -> class; values not named here are class numbers."""
    bands: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    """Which bands of a raster, in this order, counted from 1; default all but an alpha band."""
    scale: Scale | None = None
    """Range of raster values that becomes 0..255; default 8 bit as stored, else percentiles 2 to 98 of a sample."""

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

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.classes)

    @property
    def values(self) -> MaskValues:
        """How mask values become classes."""
        return MaskValues(self.num_classes, self.ignore, tuple(sorted(self.mapping.items())))


def read_spec(kind: type[S], data: Path | Mapping[str, Any], root: Path | None = None) -> S:
    """The data set a YAML file, or a mapping with the content of one, describes; paths in it count from `root`, the
    file's folder or the current one, and come back absolute.

    Raises:
        DataError: no such file.
        ConfigError: a `${NAME}` that the environment does not have, or everything that is wrong in the file, one line
            each.
    """
    path = Path("data") if isinstance(data, Mapping) else data
    raw = expand(dict(data) if isinstance(data, Mapping) else read_yaml(data), str(path))
    return placed(validate(kind, raw, str(path)), at_home(root or path.parent).absolute())


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
