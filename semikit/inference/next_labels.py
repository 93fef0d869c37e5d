"""The folder of images to label next: links, a table, pre-annotations for labelling programs, and a data YAML."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import yaml
from numpy.typing import NDArray

from semikit.data.conversion.labels import IGNORED
from semikit.data.formats.images import read_mask
from semikit.files import make_folder, shell_word, write_json, write_table, write_text

IGNORE = "__ignore__"
"""What areas that do not count are called in LabelMe, and here in COCO json."""
_LEAST = 10_000
"""Areas smaller than this part of an image are not outlined; what lies around them covers them."""
_SIMPLER = 1.5
"""About how far a simpler outline is from the pixels'."""


@final
@dataclass(frozen=True, slots=True)
class Ranked:
    """An image (or pair, `files`) to label. `classes` are the shares of what is predicted there, the largest first;
    `uncertainty` and `confidence` are 0..1. Chosen without a run it has a `typicality` (0..1) alone.
    """

    rank: int
    name: str
    files: tuple[Path, ...]
    uncertainty: float | None = None
    distance: float | None = None
    typicality: float | None = None
    confidence: float | None = None
    classes: Mapping[str, float] | None = None


def write_ranking(path: Path, ranked: Sequence[Ranked]) -> None:
    """A row for each image, with the columns that they have."""
    cold = any(one.typicality is not None for one in ranked)
    measures = ("typicality",) if cold else ("uncertainty", "distance", "confidence")
    files = ("file", "file_b")[: len(ranked[0].files)]
    rows = [
        [one.rank, *one.files, *(_number(getattr(one, name)) for name in measures), _listed(one.classes)]
        for one in ranked
    ]
    head = ["rank", *files, *measures, "classes"]
    write_table(path, [head, *rows] if not cold else [row[:-1] for row in [head, *rows]], "\n")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _listed(classes: Mapping[str, float] | None) -> str:
    found = classes or {}
    return "; ".join([f"{name} {share:.1%}" for name, share in found.items()] if len(found) > 1 else found)


def place_images(ranked: Sequence[Ranked], folders: Sequence[Path], links: bool) -> list[tuple[Path, ...]]:
    """Links to the images, or copies, under their names in a folder for each date; where they are now."""
    placed = []
    for one in ranked:
        places = []
        for file, folder in zip(one.files, folders, strict=True):
            place = folder / f"{one.name}{file.suffix}"
            make_folder(place.parent)
            if links and os.name != "nt":  # where making links takes a right that most do not have
                place.symlink_to(file.resolve())
            else:
                shutil.copy2(file, place)
            places.append(place)
        placed.append(tuple(places))
    return placed


def write_data_yaml(path: Path, task: str, metadata: Mapping[str, Any]) -> None:
    """What `semikit train --data` takes of the folder once its labels are corrected."""
    train = {
        "seg": {"images": "images", "masks": "masks"},
        "cd": {"images_a": "A", "images_b": "B", "masks": "masks"},
        "cls": {"labels": "labels.csv"},
    }[task]
    raw: dict[str, Any] = {"train": train, "val": 0.2, "classes": list(metadata["class_names"])}
    if task != "cls":
        raw["ignore"] = [IGNORED]
        raw |= {key: metadata[key] for key in ("bands", "scale") if metadata.get(key) is not None}
    text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    command = f"semikit train {task} --data {shell_word(path)} --unlabeled FOLDER"
    write_text(path, f"# Written by `semikit rank`: labels to correct, then {command}\n{text}")


# -------------------------------------------------------------------------------------------------------- outlines

Outlined = tuple[str, NDArray[np.float64]]
"""The class of an area and its outline (N, 2) in pixels, (column, row), 0, 0 the corner of the first pixel."""


def outlines(classes: NDArray[np.uint8], names: Sequence[str]) -> list[Outlined]:
    """The connected areas of a map (H, W), the largest first: where outlines enclose others, those drawn later lie on
    top, so none needs a hole. 255 is `IGNORE`.
    """
    import shapely
    from rasterio.features import shapes

    found = [
        (shapely.Polygon(shape["coordinates"][0], shape["coordinates"][1:]), value) for shape, value in shapes(classes)
    ]
    simpler = shapely.coverage_simplify([area for area, _ in found], _SIMPLER)
    filled = [shapely.Polygon(area.exterior) for area in simpler]
    order = sorted(range(len(found)), key=lambda k: -filled[k].area)
    kept = (k for k in order if found[k][0].area * _LEAST >= classes.size)
    return [
        (IGNORE if found[k][1] == IGNORED else names[int(found[k][1])], np.asarray(filled[k].exterior.coords)[:-1])
        for k in kept
    ]


def write_outlines(out: Path, images: Sequence[Path], masks: Sequence[Path], names: Sequence[str]) -> None:
    """Areas of masks as COCO json (OUT/coco.json) and as LabelMe's, a file beside each image."""
    listed, annotations = [], []
    for number, (image, mask) in enumerate(zip(images, masks, strict=True), 1):
        classes = read_mask(mask)
        height, width = classes.shape
        areas = outlines(classes.astype(np.uint8), names)
        _write_labelme(image, (height, width), areas, {})
        name = image.relative_to(out / "images").as_posix()
        listed.append({"id": number, "file_name": name, "height": height, "width": width})
        annotations += [_annotation(number, names, *area) for area in areas]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    categories = [{"id": k, "name": name} for k, name in enumerate([*names, IGNORE], 1)]
    write_json(out / "coco.json", {"images": listed, "annotations": annotations, "categories": categories})
    write_text(out / "images" / "labels.txt", "".join(f"{name}\n" for name in (IGNORE, *names)))


def _annotation(image: int, names: Sequence[str], name: str, ring: NDArray[np.float64]) -> dict[str, Any]:
    (left, top), (right, bottom) = ring.min(0), ring.max(0)
    x, y = ring.T
    area = abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
    return {
        "id": 0, "image_id": image, "category_id": [*names, IGNORE].index(name) + 1, "iscrowd": 0, "area": area,
        "segmentation": [ring.ravel().tolist()], "bbox": [left, top, right - left, bottom - top],
    }  # fmt: skip


def write_flags(images: Sequence[Path], sizes: Iterator[tuple[int, int]], flags: Sequence[Mapping[str, bool]]) -> None:
    """LabelMe's file beside each image, with its class as a flag."""
    for image, size, chosen in zip(images, sizes, flags, strict=True):
        _write_labelme(image, size, (), chosen)


def _write_labelme(image: Path, size: tuple[int, int], areas: Sequence[Outlined], flags: Mapping[str, bool]) -> None:
    plain: dict[str, object] = {"group_id": None, "description": "", "shape_type": "polygon", "flags": {}}
    shapes = [{"label": name, "points": ring.tolist(), **plain} for name, ring in areas]
    place = {"imagePath": image.name, "imageData": None, "imageHeight": size[0], "imageWidth": size[1]}
    write_json(image.with_suffix(".json"), {"version": "5.5.0", "flags": flags, "shapes": shapes, **place})
