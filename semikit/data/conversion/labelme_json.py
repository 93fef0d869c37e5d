"""LabelMe json: one file an image, beside it; polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semikit.data.conversion.coco_json import read_json
from semikit.data.conversion.labels import (
    Area,
    Areas,
    Disc,
    LabeledImage,
    LabelSet,
    Outline,
    Pixels,
    Rings,
    beside,
    damage_of,
    folders_of,
    left_out,
    part_named,
    points,
    rectangle,
    refuse_nothing,
)
from semikit.errors import FileFault
from semikit.files import text_lines

_IGNORE = "__ignore__"
_NAMES = "labels.txt"
_REMEDY = "Open it in LabelMe and save it again, or take it out."


def is_labelme(raw: object) -> bool:
    """Whether a json file is LabelMe's by its keys."""
    return isinstance(raw, dict) and isinstance(raw.get("shapes"), list) and "imagePath" in raw


def read_labelme(files: Sequence[Path], source: Path) -> LabelSet:
    """The labels of files, those in folders named val or test being such parts; pixels in `imageData` are not read.

    Classes are sorted by name, or as in labels.txt beside the source.

    Raises:
        FileFault: a file of another kind, or damaged.
    """
    skipped: list[str] = []
    images: list[LabeledImage] = []
    for path in files:
        raw = read_json(path)
        if not is_labelme(raw):
            raise FileFault("no LabelMe json", path, "it needs the keys shapes and imagePath", _REMEDY)
        with damage_of("damaged LabelMe json", path, _REMEDY):
            areas = Areas(tuple(_areas(raw["shapes"], path, skipped)))
            name, size = str(raw["imagePath"]), _size((raw.get("imageHeight"), raw.get("imageWidth")))
            part = part_named("/".join(path.parent.relative_to(_base(source)).parts))
            images.append(LabeledImage(name, areas, path, part, size, beside(path, name)))
    refuse_nothing(images, source, "LabelMe json")
    labels, rule = _labels(images, source), "later shapes lie on top"
    return LabelSet("LabelMe json", labels, images, rule, folders_of(images), left_out(skipped))


def _base(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _areas(shapes: Iterable[Mapping[str, Any]], path: Path, skipped: list[str]) -> Iterable[Area]:
    for number, shape in enumerate(shapes, start=1):
        outline = _outline(str(shape.get("shape_type") or "polygon"), shape)
        if outline is None:
            skipped.append(f"{path}, shape {number} ({shape.get('shape_type') or 'polygon'})")
            continue
        label = str(shape["label"])
        yield Area(None if label == _IGNORE else label, outline)


def _outline(kind: str, shape: Mapping[str, Any]) -> Outline | None:
    """What a shape covers; None of one that covers nothing, such as a line."""
    corners = shape["points"]
    if kind == "polygon":
        ring = points(corners)
        return None if ring is None else Rings((ring,))
    if kind not in ("rectangle", "circle", "mask"):
        return None
    (x, y), (u, v) = [[float(value) for value in corner] for corner in corners[:2]]
    if kind == "circle":
        return Disc(x, y, float(np.hypot(u - x, v - y)))
    if kind == "rectangle":
        return rectangle(min(x, u), min(y, v), abs(u - x), abs(v - y))
    with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
        return Pixels(np.array(image.convert("L")) > 0, top=round(min(y, v)), left=round(min(x, u)))


def _size(raw: tuple[Any, Any]) -> tuple[int, int] | None:
    return (raw[0], raw[1]) if all(isinstance(side, int) for side in raw) else None


def _labels(images: Iterable[LabeledImage], source: Path) -> tuple[str, ...]:
    found = {area.label for image in images for area in image.areas if area.label is not None}
    listed = _base(source) / _NAMES
    known = [line for line in text_lines(listed) if line != _IGNORE] if listed.is_file() else []
    return tuple(dict.fromkeys([*known, *sorted(found)]))
