"""CamVid turned into label formats and back, equal pixel by pixel."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semikit.data.conversion.convert import convert
from semikit.data.conversion.label_formats import Reading
from tests.helpers import label_files as lf

NAMES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
VOID = 11


def outlines(mask: lf.Mask) -> list[tuple[str, Any]]:
    """The outer outline (N, 2) of each connected area with its label, the largest first: holes are drawn over."""
    from rasterio.features import shapes

    found = []
    for shape, value in shapes(mask, connectivity=4):
        ring = np.array(shape["coordinates"][0][:-1])
        x, y = ring.T
        name = "__ignore__" if value == VOID else NAMES[int(value)]
        found.append((abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)), name, ring))
    return [(name, ring) for _, name, ring in sorted(found, key=lambda item: -item[0])]


def write_runs(folder: Path, masks: dict[str, lf.Mask]) -> Path:
    images = [(f"{name}.jpg", *mask.shape) for name, mask in masks.items()]
    annotations = [
        {"image_id": k, "category_id": 10 * (c + 1), "segmentation": {"size": list(m.shape), "counts": code}}
        for k, m in enumerate(masks.values(), start=1)
        for c in range(len(NAMES))
        for code in [lf.plain_runs(m == c)]
    ]
    return lf.coco(folder / "runs.json", images, annotations, NAMES)  # type: ignore[arg-type]


def write_labelme(folder: Path, masks: dict[str, lf.Mask]) -> Path:
    folder.mkdir()
    for name, mask in masks.items():
        shapes = [{"label": label, "points": ring.tolist(), "shape_type": "polygon"} for label, ring in outlines(mask)]
        size = {"imageHeight": mask.shape[0], "imageWidth": mask.shape[1]}
        (folder / f"{name}.json").write_text(json.dumps({"imagePath": f"{name}.jpg", "shapes": shapes, **size}))
    return folder


def write_yolo(folder: Path, masks: dict[str, lf.Mask]) -> Path:
    names = [*NAMES, "__ignore__"]
    (folder / "labels").mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(names))
    for name, mask in masks.items():
        lines = [
            f"{names.index(label)} " + " ".join(f"{value:.6f}" for value in (ring / mask.shape[::-1]).reshape(-1))
            for label, ring in outlines(mask)
        ]
        (folder / f"labels/{name}.txt").write_text("\n".join(lines))
    return folder


def write_colours(folder: Path, masks: dict[str, lf.Mask]) -> Path:
    folder.mkdir()
    colours = np.random.default_rng(0).permutation(256)[: 3 * 12].reshape(12, 3).astype(np.uint8)
    table = {name: colours[k].tolist() for k, name in enumerate([*NAMES, "void"])}
    (folder / "colors.yaml").write_text(json.dumps(table))
    for name, mask in masks.items():
        Image.fromarray(colours[mask]).save(folder / f"{name}.png")
    return folder


@pytest.mark.real_data("camvid")
@pytest.mark.parametrize("write", [write_runs, write_labelme, write_yolo, write_colours])
def test_nothing_is_lost(tmp_path: Path, write: Callable[[Path, dict[str, lf.Mask]], Path]) -> None:
    root = Path(os.environ["SEMIKIT_TEST_DATA"]) / "camvid/val"
    masks = {path.stem: lf.mask_of(path) for path in sorted((root / "masks").iterdir())[:40:20]}
    source = write(tmp_path / "labels", masks)
    convert(Reading(source, images=root / "images", classes=NAMES, background="ignore"), tmp_path / "out")
    for name, mask in masks.items():
        np.testing.assert_array_equal(lf.mask_of(tmp_path / f"out/masks/{name}.png"), np.where(mask == VOID, 255, mask))
