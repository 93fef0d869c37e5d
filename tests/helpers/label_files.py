"""Small label files as other programs write them, with the masks they stand for made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.uint8]


def photo(path: Path, height: int = 12, width: int = 16, seed: int = 0) -> Path:
    """A noisy photo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mask_of(path: Path) -> Mask:
    """The values of a mask; of a palette image the indices."""
    with Image.open(path) as image:
        return np.array(image)


def plain_runs(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's run lengths, column by column, the first of what is not set."""
    return run_lengths(mask.T.reshape(-1))


def run_lengths(flat: NDArray[np.bool_]) -> list[int]:
    """Alternating run lengths, the first of what is not set."""
    ends = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    lengths = np.diff([0, *ends, len(flat)]).tolist()
    return [0, *lengths] if flat[0] else lengths


def coco(
    path: Path, images: Sequence[tuple[str, int, int]], annotations: Iterable[dict[str, Any]], names: Sequence[str]
) -> Path:
    """COCO json: images as (file name, height, width), numbered from 1; category ids are 10, 20, …"""
    made = {
        "images": [
            {"id": k, "file_name": name, "height": height, "width": width}
            for k, (name, height, width) in enumerate(images, start=1)
        ],
        "annotations": [{"id": k, "iscrowd": 0, **item} for k, item in enumerate(annotations, start=1)],
        "categories": [{"id": 10 * k, "name": name} for k, name in enumerate(names, start=1)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made), encoding="utf-8")
    return path
