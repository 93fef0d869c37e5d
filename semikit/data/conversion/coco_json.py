"""COCO json: polygons, and run lengths (plain or compressed, those of crowds among them)."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semikit.data.conversion.labels import (
    PART,
    Area,
    Areas,
    LabeledImage,
    LabelSet,
    Pixels,
    Rings,
    damage_of,
    part_named,
    points,
    rectangle,
    refuse_nothing,
    smaller_on_top,
)
from semikit.errors import ConfigError, DataError, FileFault, some

_KEYS = ("images", "annotations", "categories")
MOST_PIXELS = 1 << 32
_UNFIT = "run lengths that do not fit their image"
_REMEDY = "Export it again as COCO instances or segmentation."
_TRIED = 20
_NOWHERE = Path()


def is_coco(raw: object) -> bool:
    """Whether a json file is COCO's by its keys."""
    return isinstance(raw, dict) and all(isinstance(raw.get(key), list) for key in _KEYS)


def read_coco(files: Sequence[Path]) -> LabelSet:
    """The labels of one file or of several, one for each part: its name says which (val, test, else train), or that of
    its folder where the files lie in several. Files of another kind among several (captions, key points) are named.

    Raises:
        DataError: no COCO json; a category, an image or a run-length code that does not fit.
        ConfigError: run lengths, and pycocotools is not installed.
    """
    labels: dict[str, int] = {}
    images: list[LabeledImage] = []
    boxes: list[str] = []
    flat: list[str] = []
    folders: dict[str, Path] = {}
    read, others = _with_areas(files)
    apart = len({path.parent for path in read}) > 1
    for path, raw in read.items():
        with damage_of("damaged COCO json", path, _REMEDY):
            names = {int(item["id"]): str(item["name"]) for item in raw["categories"]}
            for number, name in names.items():
                labels.setdefault(name, number)
            part = part_named(f"{path.parent.name} {path.stem}" if apart else path.stem)
            images += _images(raw, names, path, part, boxes, flat)
            _place_images(folders, part, path, raw)
    refuse_nothing(images, files[0], "image")
    drawn = sum(len(image.areas) for image in images)
    if boxes and drawn == len(boxes):
        raise DataError(f"{files[0]} holds boxes only, no outlines: masks cannot be drawn from it. {_REMEDY}")
    notices = [f"{len(boxes)} annotations are boxes without an outline, whose pixels do not count: {some(boxes)}"]
    notices += [f"{len(flat)} annotations enclose nothing (fewer than three corners) and are left out: {some(flat)}"]
    rule = "of overlapping areas the smaller lies on top"
    ordered = tuple(sorted(labels, key=labels.__getitem__))
    notices += [f"{len(others)} json files are no outlines of COCO and are left out: {some(others)}"]
    kept = [notice for notice, found in zip(notices, (boxes, flat, others), strict=True) if found]
    known = {part: folder for part, folder in folders.items() if folder != _NOWHERE}
    return LabelSet("COCO json", ordered, images, rule, known, notices=kept)


def _with_areas(files: Sequence[Path]) -> tuple[dict[Path, Any], list[str]]:
    """What the files of COCO hold, without those of key points where there are others; and the names of the others."""
    raw = {path: read_json(path) for path in files}
    fitting = {path: found for path, found in raw.items() if is_coco(found)}
    if files and not fitting:
        raise FileFault("no COCO json", files[0], f"it needs the keys {', '.join(_KEYS)}", _REMEDY)
    areas = {path: found for path, found in fitting.items() if not _is_keypoints(found)} or fitting
    return areas, [str(path) for path in files if path not in areas]


def _is_keypoints(raw: Mapping[str, Any]) -> bool:
    return any(isinstance(item, dict) and "keypoints" in item for item in raw["categories"])


def _place_images(folders: dict[str, Path], part: str, path: Path, raw: Mapping[str, Any]) -> None:
    """Note the folder of a part's images where they lie at a usual place; `_NOWHERE` where two files differ in it."""
    above = path.parent.parent
    usual = (path.parent, path.parent / "images", above / "images", above / path.stem.rpartition("_")[2])
    names = [str(item["file_name"]) for item in raw["images"][:_TRIED]]
    found = next((place for place in usual if any((place / name).is_file() for name in names)), _NOWHERE)
    if folders.setdefault(part, found) != found:
        folders[part] = _NOWHERE


def read_json(path: Path) -> Any:
    """What a json file holds.

    Raises:
        FileFault: it cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise FileFault("unreadable json", path, reason, "Export it again, or take it out.") from None


def _images(
    raw: Mapping[str, Any], names: Mapping[int, str], path: Path, part: PART, boxes: list[str], flat: list[str]
) -> list[LabeledImage]:
    sizes = {item["id"]: _size(item) for item in raw["images"]}
    areas: dict[Any, list[Area]] = defaultdict(list)
    for item in raw["annotations"]:
        where = f"{path}, annotation {item.get('id', '?')}"
        if item["image_id"] not in sizes:
            raise FileFault("annotation of an image that is not listed", where, f"{item['image_id']}", _REMEDY)
        if item["category_id"] not in names:
            raise FileFault("annotation of an unknown category", where, _known(item["category_id"], names), _REMEDY)
        area = _area(item, names[item["category_id"]], sizes[item["image_id"]], where)
        if area is None:
            flat.append(where)
            continue
        areas[item["image_id"]].append(area)
        boxes += [where] if area.label is None else []
    return [
        LabeledImage(str(item["file_name"]), Areas(smaller_on_top(areas[item["id"]])), path, part, sizes[item["id"]])
        for item in raw["images"]
    ]


def _known(given: object, names: Mapping[int, str]) -> str:
    kind = " is text, where the categories have numbers" if isinstance(given, str) else ""
    return f"{given!r}{kind}; there are {some([f'{number}: {name}' for number, name in names.items()])}"


def _area(item: Mapping[str, Any], name: str, size: tuple[int, int] | None, where: str) -> Area | None:
    """The area of an annotation; that of a box alone has no label. None where it encloses nothing."""
    outline = item.get("segmentation")
    if isinstance(outline, dict):
        return Area(name, decode_runs(outline, size, where))
    if outline:
        rings = [points(ring) for ring in outline]
        closed = tuple(ring for ring in rings if ring is not None)
        return Area(name, Rings(closed)) if closed else None
    if item.get("bbox"):
        return Area(None, rectangle(*map(float, item["bbox"])))
    return None


def _size(item: Mapping[str, Any]) -> tuple[int, int] | None:
    """(H, W) of an image; None where the file does not say it."""
    given = item.get("height"), item.get("width")
    return None if None in given else (int(item["height"]), int(item["width"]))


def decode_runs(code: Mapping[str, Any], size: tuple[int, int] | None, where: str) -> Pixels:
    """The pixels of COCO's run-length code, column by column, plain or compressed.

    Raises:
        FileFault: of another size than the image, or damaged.
        ConfigError: pycocotools is not installed, which reads compressed ones.
    """
    height, width = code["size"]
    if size is None:
        size = int(height), int(width)
    if (height, width) != size:
        detail = f"run lengths of {code['size'][1]}x{code['size'][0]}, image {size[1]}x{size[0]} (width x height)"
        raise FileFault(_UNFIT, where, detail, _REMEDY)
    counts = code["counts"]
    if not isinstance(counts, list):
        return _cropped(_decompressed(code, where))
    try:
        return _cropped(runs(counts, size[0] * size[1]).reshape(size[1], size[0]).T)
    except ValueError as error:
        raise FileFault(_UNFIT, where, str(error), _REMEDY) from None


def runs(counts: Sequence[int], pixels: int) -> NDArray[np.bool_]:
    """Alternating lengths, the first one of what is not set, as (`pixels`,) bool.

    Raises:
        ValueError: they sum up to another number of pixels, or to more than an image can have.
    """
    if sum(counts) != pixels or min(counts, default=0) < 0 or pixels > MOST_PIXELS:
        raise ValueError(f"they sum up to {sum(counts)} pixels")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts)


def _decompressed(code: Mapping[str, Any], where: str) -> NDArray[np.bool_]:
    try:
        from pycocotools import mask as coder
    except ImportError:
        raise ConfigError(
            'Compressed run lengths are read with pycocotools. Install it: pip install "semikit[coco]".'
        ) from None
    try:
        with warnings.catch_warnings():  # of pycocotools 2.0.11 with numpy 2; the values are right
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            return np.asarray(coder.decode(dict(code)) > 0)
    except (ValueError, TypeError) as error:
        raise FileFault("damaged run lengths", where, str(error), _REMEDY) from None


def _cropped(mask: NDArray[np.bool_]) -> Pixels:
    """Only the rectangle in which pixels are set."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Pixels(mask[:0, :0])
    top, left = int(rows[0]), int(columns[0])
    return Pixels(np.ascontiguousarray(mask[top : rows[-1] + 1, left : columns[-1] + 1]), top, left)
