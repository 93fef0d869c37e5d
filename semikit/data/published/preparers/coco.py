"""COCO 2017: images, and masks of 81 classes drawn from the instance annotations, or the authors' masks.

Background is 0, the 80 things are 1..80 in the order of their category ids. Where instances overlap, the first in the
order of the file wins. Regions of crowds are drawn like instances. The published masks of the authors
were drawn by a script that is not public, so pixels where instances overlap may differ.
"""

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
from semikit.data.published.inputs import Inputs, Progress
from semikit.data.published.masks import Bytes, write_png
from semikit.data.published.prepared import Pair
from semikit.data.published.preparers import Job, Plan, Preparer, counted, jobs_for, paired, targets
from semikit.errors import ConfigError, DataError

_IMAGES = r"(train2017|val2017|unlabeled2017)/(\d{12})\.jpg"
_MASKS = r"masks/(\d{12})\.png"
_STUFF = r"(?:train2017|val2017)/\d{12}(?:_labelTrainIds)?\.png"
_INSTANCES = r"instances_(train|val)2017\.json"
_REMEDY = "Give the images and annotations_trainval2017.zip (or the authors' masks), both whole."

_MASK_BYTES = 12_000
"""About what a mask of COCO takes as PNG."""


def plan(inputs: Inputs, published: Published, progress: Progress) -> Plan:
    """Train, val, and unlabeled without masks; annotations are read where masks are missing.

    Raises:
        DataError: images that have neither a mask nor annotations; annotations that are not COCO's.
        ConfigError: pycocotools is needed and not installed.
    """
    images = jobs_for(inputs.find(_IMAGES), lambda m: (m[1], m[2]), lambda m: f"{m[1]}/{m[2]}.jpg", keep=False)
    masks = jobs_for(inputs.find(_MASKS), lambda m: m[1], lambda m: f"masks/{m[1]}.png")
    annotations = {match[1]: found for match, found in reversed(inputs.find(_INSTANCES))}
    remedy = _REMEDY + (" Maps of COCO-Stuff (171 classes) are other masks." if inputs.find(_STUFF) else "")
    pairs: dict[str, list[Pair]] = {}
    jobs: list[Job] = list(images.values())
    drawn: list[Instances] = []
    for part in ("train", "val"):
        own = {stem: job for (folder, stem), job in images.items() if folder == f"{part}2017"}
        given = {stem: masks[stem] for stem in own if stem in masks}
        known = targets(given)
        if len(given) < len(own) and part in annotations:
            progress(f"reading {annotations[part].name}", 0, 1)
            (content,) = (data for _, data in inputs.read([annotations[part]]))
            drawn.append(read_instances(content, annotations[part].where, own.keys() - given.keys(), published))
            known |= {stem: f"masks/{stem}.png" for stem in drawn[-1].shapes}
        pairs[part] = paired(part, own, known, remedy)
        jobs += given.values()
    pairs["unlabeled"] = [(job.target, None) for (folder, _), job in images.items() if folder == "unlabeled2017"]
    made = sum(len(instances.shapes) for instances in drawn)
    given_masks = len(pairs["train"]) + len(pairs["val"]) - made
    how = "drawn from instances, the first in the file on top, crowds included"
    summary = counted({"as given": given_masks, how: made})

    def after(progress: Progress) -> None:
        draw_all(inputs.root / "masks", drawn, progress)

    return Plan(pairs, jobs, summary, after=after if drawn else None, after_bytes=made * _MASK_BYTES)


plugin = Preparer(
    "train2017/*.jpg, val2017/*.jpg, unlabeled2017/*.jpg and instances_{train,val}2017.json "
    "(annotations_trainval2017.zip), or the authors' masks/*.png",
    plan,
)


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
    """The instances of images; `where` stands in errors.

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
