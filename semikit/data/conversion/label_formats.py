"""Which format a file or folder of labels is in, and who reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from semikit.data.conversion.coco_json import is_coco, read_coco, read_json
from semikit.data.conversion.labels import BACKGROUND, LabelSet
from semikit.data.spec import read_yaml
from semikit.errors import ConfigError, DataError, unknown

Colours = Mapping[str, tuple[int, int, int]]

FORMATS = {
    "coco": "COCO json",
}
"""Name for --format -> what it is."""


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be read, and how: the flags of `semikit data convert`."""

    source: Path
    format: str = "auto"
    images: Path | None = None
    classes: Sequence[str] | None = None
    background: str = BACKGROUND
    colours: Colours | None = None

    def colours_of(self, classes: Sequence[str]) -> list[tuple[int, int, int]] | None:
        """The colours of the classes, where all of them have one."""
        given = self.colours or {}
        return [given[name] for name in classes] if all(name in given for name in classes) else None


def read_labels(reading: Reading) -> LabelSet:
    """The labels, by the format that is named or found out.

    Raises:
        ConfigError: unknown format, or one that cannot be told.
        DataError: there is nothing, or it cannot be read.
    """
    if reading.format not in ("auto", *FORMATS):
        raise unknown("format", reading.format, ["auto", *FORMATS])
    if not reading.source.exists():
        raise DataError(f"no such file or folder: {reading.source}.")
    name = _recognised(reading.source) if reading.format == "auto" else reading.format
    return {"coco": _coco}[name](reading)


def _recognised(source: Path) -> str:
    files = _files(source, ".json")
    if files and is_coco(read_json(files[0])):
        return "coco"
    listed = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    raise ConfigError(f"{source}: the format of these labels is not recognised. Name it with --format ({listed}).")


def _coco(reading: Reading) -> LabelSet:
    return read_coco(_files(reading.source, ".json"))


def _files(source: Path, suffix: str) -> list[Path]:
    """The file itself, or those below a folder."""
    if source.is_file():
        return [source] if source.suffix.lower() == suffix else []
    return sorted(path for path in source.rglob(f"*{suffix}") if not path.name.startswith("."))


def classes_of(text: str) -> list[str]:
    """Names from a,b,c, from a file with one a line, or from a data YAML.

    Raises:
        DataError: no such file, or one without classes.
    """
    path = Path(text)
    if path.suffix.lower() in (".yaml", ".yml"):
        raw = read_yaml(path)
        named = raw.get("classes", raw.get("names")) if isinstance(raw, dict) else None
        if not named:
            raise DataError(f"--classes: {path} has no key `classes`.")
        return [str(name) for name in (dict(sorted(named.items())).values() if isinstance(named, dict) else named)]
    if path.is_file():
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        return [line for line in lines if line]
    if path.suffix.lower() in (".txt", ".names"):
        raise DataError(f"--classes: no such file: {path}.")
    return [name.strip() for name in text.split(",") if name.strip()]
