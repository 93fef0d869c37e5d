"""CVAT's xml of images: polygons, boxes, ellipses and masks, in the order of their layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from semikit.data.conversion.coco_json import runs
from semikit.data.conversion.labels import (
    Area,
    Areas,
    LabeledImage,
    LabelSet,
    Outline,
    Pixels,
    Points,
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
from semikit.errors import FileFault, some
from semikit.raster.cog import BESIDE

_REMEDY = "Export it again as `CVAT for images 1.1`."
_FLAT = ("polyline", "points", "cuboid", "skeleton")
_SHAPES = ("polygon", "box", "ellipse", "mask", *_FLAT)
_CORNERS = 720
"""Of the polygon that stands for an ellipse."""


def is_cvat(path: Path) -> bool:
    """Whether an xml file is CVAT's by its first element."""
    try:
        _, root = next(iter(ElementTree.iterparse(path, events=("start",))))
    except (ElementTree.ParseError, OSError, StopIteration):
        return False
    return str(root.tag) == "annotations"


def read_cvat(files: Sequence[Path], source: Path) -> LabelSet:
    """The labels of one file or of all below the folder `source`; subsets are the parts or, of several files without,
    names and folders say which. The first list of labels gives the order of the classes; xml of other kinds is named.

    Raises:
        FileFault: no xml of CVAT for images, or damaged.
    """
    read = [path for path in files if is_cvat(path)] or files[:1]
    skipped: list[str] = []
    listed: list[str] = []
    images: list[LabeledImage] = []
    for path in read:
        root = _root(path)
        listed += [name.text or "" for name in root.iterfind("meta//labels/label/name")]
        inner = " ".join(path.relative_to(source).with_suffix("").parts) if len(read) > 1 else "train"
        images += _images(root, path, inner, skipped)
    refuse_nothing(images, source, "image in an xml of CVAT")
    used = {area.label for image in images for area in image.areas if area.label is not None}
    labels = tuple(dict.fromkeys([*listed, *sorted(used)]))
    rule = "areas lie as their layers do (z_order), later ones on top"
    others = [str(path) for path in files if path not in read and not path.name.endswith(BESIDE)]
    notices = [f"{len(others)} xml files are not CVAT's and are left out: {some(others)}"] if others else []
    return LabelSet("CVAT xml", labels, images, rule, folders_of(images), [*left_out(skipped), *notices])


def _root(path: Path) -> Element:
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise FileFault("unreadable xml", path, str(error), _REMEDY) from None
    if root.tag != "annotations" or root.find("track") is not None:
        what = "tracks of a video" if root.find("track") is not None else f"first element {root.tag}"
        raise FileFault("no xml of CVAT for images", path, what, _REMEDY)
    return root


def _images(root: Element, path: Path, part: str, skipped: list[str]) -> Iterable[LabeledImage]:
    for element in root.iter("image"):
        where = f"{path}, image {element.get('name')}"
        with damage_of("damaged xml of CVAT", where, _REMEDY):
            size = int(element.attrib["height"]), int(element.attrib["width"])
            areas, name = Areas(tuple(_areas(element, where, skipped))), str(element.attrib["name"])
        yield LabeledImage(name, areas, path, part_named(element.get("subset") or part), size, beside(path, name))


def _areas(image: Element, where: str, skipped: list[str]) -> Iterable[Area]:
    shapes = [shape for shape in image if shape.tag in _SHAPES]
    for shape in sorted(shapes, key=lambda shape: int(shape.get("z_order") or 0)):
        outline = None if shape.tag in _FLAT else _outline(shape)
        if outline is None:
            skipped.append(f"{where} ({shape.tag})")
            continue
        yield Area(shape.attrib["label"], outline)


def _outline(shape: Element) -> Outline | None:
    """What a shape covers; None where that is nothing."""
    if shape.tag == "polygon":
        ring = points([corner.split(",") for corner in shape.attrib["points"].split(";")])
        return None if ring is None else Rings((ring,))
    if shape.tag == "mask":
        size = int(shape.attrib["height"]), int(shape.attrib["width"])
        flat = runs([int(length) for length in shape.attrib["rle"].split(",")], size[0] * size[1])
        return Pixels(flat.reshape(size), int(shape.attrib["top"]), int(shape.attrib["left"]))
    turn = np.deg2rad(float(shape.get("rotation") or 0))
    if shape.tag == "box":
        x, y, u, v = (float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        ring, middle = rectangle(x, y, u - x, v - y).rings[0], ((x + u) / 2, (y + v) / 2)
    else:
        x, y, u, v = (float(shape.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
        angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        ring, middle = np.column_stack([x + u * np.cos(angles), y + v * np.sin(angles)]), (x, y)
    return Rings((_turned(ring, middle, float(turn)),)) if turn else Rings((ring,))


def _turned(ring: Points, middle: tuple[float, float], angle: float) -> Points:
    """Turned clockwise, as rows count downwards."""
    cos, sin = np.cos(angle), np.sin(angle)
    turned: Points = (ring - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle
    return turned
