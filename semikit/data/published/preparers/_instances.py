"""Instances of COCO -> masks of classes."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.data.published.catalogue import Published
from semikit.data.published.inputs import Progress
from semikit.data.published.masks import Bytes, write_png
from semikit.errors import ConfigError, DataError

Outline = list[NDArray[np.float64]] | dict[str, Any]
"""Polygons as x, y, x, y, … in pixels, or a run-length code."""
Shape = tuple[int, Outline]
"""Class and outline."""

_FEW = 2000
"""Fewer masks are drawn before other processes have started."""


@final
@dataclass(frozen=True, slots=True)
class Instances:
    """What one file says of the images that are asked for, by the stem of the image."""

    sizes: dict[str, tuple[int, int]]
    """(H, W)."""
    shapes: dict[str, list[Shape]]
    """In the order of the file."""


def read_instances(content: bytes, where: str, stems: Set[str], published: Published) -> Instances:
    """The instances of images; `where` is told in errors.

    The file for training has 450 MB: outlines become arrays while it is parsed, what is not asked for is dropped.

    Raises:
        ConfigError: pycocotools is not installed.
        DataError: damaged, or not the instances of COCO 2017.
    """
    _coder()
    reader = _Reader({int(stem): stem for stem in stems})
    try:
        raw = json.loads(content, object_hook=reader.compact)
        return reader.instances(_classes(raw["categories"], published))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{where}: no instance annotations of COCO 2017 ({type(error).__name__}: {error}). Fetch "
            "annotations_trainval2017.zip again."
        ) from None


@final
class _Reader:
    """Takes what is wanted (image id -> stem) out of the objects of a file while they are parsed."""

    def __init__(self, wanted: dict[int, str]) -> None:
        self._wanted = wanted
        self._sizes: dict[str, tuple[int, int]] = {}
        self._found: list[tuple[str, int, Outline]] = []

    def compact(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """What is left of an object."""
        if "segmentation" in item:
            if item["image_id"] in self._wanted:
                outline = _outline(item["segmentation"])
                self._found.append((self._wanted[item["image_id"]], item["category_id"], outline))
            return None
        if "file_name" in item:
            if item["id"] in self._wanted:
                self._sizes[self._wanted[item["id"]]] = item["height"], item["width"]
            return None
        return item

    def instances(self, classes: dict[int, int]) -> Instances:
        """All of it; `classes` by category id."""
        shapes: dict[str, list[Shape]] = {stem: [] for stem in self._sizes}
        for stem, category, outline in self._found:
            if isinstance(outline, dict) and tuple(outline["size"]) != self._sizes[stem]:
                raise ValueError(f"image {stem} has {self._sizes[stem]} pixels, a region of it {outline['size']}")
            shapes[stem].append((classes[category], outline))
        return Instances(self._sizes, shapes)


def draw(size: tuple[int, int], shapes: list[Shape]) -> Bytes:
    """Classes (H, W), 0 where no instance is; the first of `shapes` lies on top."""
    coder = _coder()
    mask = np.zeros(size, dtype=np.uint8)
    for number, outline in reversed(shapes):
        if not outline:
            continue
        packed = isinstance(outline, dict) and not isinstance(outline["counts"], list)
        code = outline if packed else coder.frPyObjects(outline, *size)
        with warnings.catch_warnings():
            # Of pycocotools 2.0.11 with numpy 2; the values are right.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            mask[coder.decode(coder.merge(code) if isinstance(code, list) else code) > 0] = number
    return mask


def draw_all(folder: Path, parts: list[Instances], progress: Progress) -> None:
    """Write FOLDER/STEM.png for every image; by several processes where there are many.

    Raises:
        RunError: a mask cannot be written.
    """
    tasks = [
        (folder / f"{stem}.png", part.sizes[stem], shapes) for part in parts for stem, shapes in part.shapes.items()
    ]
    for done, _ in enumerate(_drawn(tasks), start=1):
        progress("drawing masks", done, len(tasks))


def _drawn(tasks: list[tuple[Path, tuple[int, int], list[Shape]]]) -> Iterator[None]:
    workers = os.cpu_count() or 1
    if len(tasks) < _FEW or workers == 1:
        yield from map(_draw_one, tasks)
        return
    # Started afresh, as forking a process that has threads can hang.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield from pool.map(_draw_one, tasks, chunksize=64)
    finally:
        pool.shutdown(cancel_futures=True)


def _draw_one(task: tuple[Path, tuple[int, int], list[Shape]]) -> None:
    path, size, shapes = task
    if not path.exists() or path.stat().st_size == 0:
        write_png(path, draw(size, shapes))


def _outline(raw: Any) -> Outline:
    if isinstance(raw, dict):
        return raw
    # Fewer than three points enclose nothing, and two would be read as a box.
    return [np.array(polygon, dtype=np.float64) for polygon in raw if len(polygon) >= 6]


def _classes(categories: list[dict[str, Any]], published: Published) -> dict[int, int]:
    """Category id -> class."""
    ordered = sorted(categories, key=lambda category: int(category["id"]))
    names = tuple(category["name"] for category in ordered)
    if names != published.classes[1:]:
        raise ValueError(f"its {len(names)} categories are not the 80 things")
    return {int(category["id"]): number for number, category in enumerate(ordered, start=1)}


def _coder() -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise ConfigError(
            'Masks of COCO are drawn with pycocotools. Install it: pip install "semikit[coco]"; or give the masks the '
            "authors published (masks/*.png)."
        ) from None
    return mask
