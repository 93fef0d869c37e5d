"""Which format a file or folder of labels is in, and who reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from semikit.data.conversion.coco_json import is_coco, read_coco, read_json
from semikit.data.conversion.cvat_xml import is_cvat, read_cvat
from semikit.data.conversion.labelme_json import is_labelme, read_labelme
from semikit.data.conversion.labels import BACKGROUND, LabelSet
from semikit.data.conversion.map_polygons import read_map_polygons
from semikit.data.conversion.mask_files import is_voc, read_colour_masks, read_voc, table_beside
from semikit.data.conversion.yolo_txt import is_yolo, read_yolo
from semikit.data.formats.colours import Colour
from semikit.data.pair_spec import BINARY
from semikit.data.spec import read_yaml
from semikit.errors import ConfigError, DataError, some, unknown
from semikit.files import text_lines
from semikit.raster.vector_layers import VECTORS

FORMATS = {
    "coco": "COCO json",
    "labelme": "LabelMe json",
    "yolo": "YOLO txt",
    "cvat": "CVAT for images, xml",
    "voc": "Pascal VOC, palette PNG",
    "colors": "colour masks",
    "vector": "polygons: GeoJSON, GeoPackage, Shapefile",
}
"""Name for --format -> what it is."""


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be read, and how: the flags of `semikit data convert`."""

    source: Path
    format: str = "auto"
    images: Path | None = None
    images_b: Path | None = None
    classes: Sequence[str] | None = None
    background: str | None = None
    colours: Mapping[str, Colour] | None = None
    attribute: str | None = None
    labeled_area: Path | None = None
    layer: str | None = None
    empty: str = "background"

    @property
    def uncovered(self) -> str:
        """The class of pixels in no area, or "ignore"."""
        return self.background or (BACKGROUND if self.images_b is None else BINARY[0])


def read_labels(reading: Reading) -> LabelSet:
    """The labels, by the format that is named or found out.

    Raises:
        ConfigError: a format that cannot be told, or what it needs is not given.
        DataError: there is nothing, or it cannot be read.
    """
    if reading.format not in ("auto", *FORMATS):
        raise unknown("format", reading.format, ["auto", *FORMATS])
    if not reading.source.exists():
        raise DataError(f"no such file or folder: {reading.source}.")
    name = recognised(reading) if reading.format == "auto" else reading.format
    if name is None:
        listed = "; ".join(f"{known}: {what}" for known, what in FORMATS.items())
        raise ConfigError(
            f"{reading.source}: the format of these labels is not recognised. Name it with --format ({listed})."
        )
    return _READERS[name](reading)


def recognised(reading: Reading) -> str | None:
    """The format of labels by their files; None where it cannot be told."""
    source = reading.source
    known: dict[str, Callable[[], bool]] = {
        "voc": lambda: source.is_dir() and is_voc(source),
        "yolo": lambda: is_yolo(source),
        "coco": lambda: _json_kind(source) == "coco",
        "labelme": lambda: _json_kind(source) == "labelme",
        "cvat": lambda: any(is_cvat(path) for path in _files(source, ".xml")),
        "colors": lambda: source.is_dir() and _has_colours(reading),
        "vector": lambda: bool(_vector_files(source)),
    }
    return next((name for name, fits in known.items() if fits()), None)


def _has_colours(reading: Reading) -> bool:
    """Whether colours are given, or lie beside the masks or their folder."""
    places = (reading.source, reading.source.absolute().parent)
    return reading.colours is not None or any(table_beside(place) is not None for place in places)


def _json_kind(source: Path) -> str | None:
    """The format of the first json file that is of one; others may lie beside (captions of COCO)."""
    kinds: dict[str, Callable[[object], bool]] = {"coco": is_coco, "labelme": is_labelme}
    read = (read_json(path) for path in _files(source, ".json"))
    return next((name for raw in read for name, fits in kinds.items() if fits(raw)), None)


_READERS: Mapping[str, Callable[[Reading], LabelSet]] = {
    "coco": lambda reading: read_coco(_files(reading.source, ".json")),
    "labelme": lambda reading: read_labelme(_files(reading.source, ".json"), reading.source),
    "yolo": lambda reading: read_yolo(reading.source),
    "cvat": lambda reading: read_cvat(_files(reading.source, ".xml") or [reading.source], reading.source),
    "voc": lambda reading: read_voc(reading.source, reading.colours, reading.classes, reading.images),
    "colors": lambda reading: read_colour_masks(reading.source, reading.colours, reading.images),
    "vector": lambda r: read_map_polygons(_one_vector_file(r.source), r.images, r.attribute, r.labeled_area, r.layer),
}


def _files(source: Path, suffix: str) -> list[Path]:
    """The file itself, or those below a folder."""
    if source.is_file():
        return [source] if source.suffix.lower() == suffix else []
    return sorted(path for path in source.rglob(f"*{suffix}") if not path.name.startswith("."))


def _vector_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix.lower() in (*VECTORS, ".json") else []
    return [path for suffix in VECTORS for path in _files(source, suffix)]


def _one_vector_file(source: Path) -> Path:
    """The file itself, or the only one of polygons in a folder.

    Raises:
        ConfigError: there are several.
    """
    found = _vector_files(source)
    if source.is_dir() and len(found) > 1:
        raise ConfigError(f"{source} holds {len(found)} files of polygons: {some(list(map(str, found)))}. Give one.")
    return found[0] if source.is_dir() and found else source


def classes_of(text: str) -> list[str]:
    """Names from a,b,c, from a file with one a line, or from a data YAML.

    Raises:
        DataError: no such file, or one without classes.
    """
    path = Path(text)
    if path.suffix.lower() in (".yaml", ".yml"):
        raw = read_yaml(path)
        keys = raw if isinstance(raw, dict) else {}
        colours = keys.get("colors")
        named = keys.get("classes", keys.get("names")) or (list(colours) if isinstance(colours, dict) else None)
        if not named:
            raise DataError(f"--classes: {path} has none of the keys classes, names and colors.")
        return [str(name) for name in (dict(sorted(named.items())).values() if isinstance(named, dict) else named)]
    if path.is_file():
        return text_lines(path)
    if path.suffix.lower() in (".txt", ".names"):
        raise DataError(f"--classes: no such file: {path}.")
    return [name.strip() for name in text.split(",") if name.strip()]
