from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.step.loading import measure_loading
from semikit.augment.settings import WeakSettings
from semikit.errors import DataError

CROP = 24


def folders(path: Path, masks: int) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind, count in (("images", 5), ("masks", masks if split == "train" else 5)):
            folder = path / split / kind
            folder.mkdir(parents=True)
            shape = (40, 50, 3) if kind == "images" else (40, 50)
            for number in range(count):
                pixels = rng.integers(0, 256 if kind == "images" else 2, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    text = "\n".join(f"{split}: {{images: {split}/images, masks: {split}/masks}}" for split in ("train", "val"))
    spec = path / "data.yaml"
    spec.write_text(f"{text}\nclasses: [a, b]\n")
    return spec


def test_both_streams_with_their_bytes(tmp_path: Path) -> None:
    labeled, unlabeled = measure_loading(folders(tmp_path, 3), WeakSettings(crop=CROP), items=32)
    assert (labeled.stream, unlabeled.stream) == ("labeled", "unlabeled")
    pixels = CROP * CROP
    assert unlabeled.bytes_per_item == 3 * pixels + pixels + 8, "uint8 image, bool valid, number"
    assert labeled.bytes_per_item == unlabeled.bytes_per_item + pixels, "and uint8 labels"
    assert labeled.items_per_second > 0
    assert unlabeled.as_plain()["items_per_second"] == unlabeled.items_per_second


def test_without_masks_there_is_no_labelled_stream(tmp_path: Path) -> None:
    spec = folders(tmp_path, 1)
    spec.write_text(spec.read_text().replace(", masks: train/masks", ""))
    with pytest.raises(DataError, match="no training image has a mask"):
        measure_loading(spec, WeakSettings(crop=CROP), items=16)


def test_pairs_of_change_detection(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("A", "B", "label"):
            folder = tmp_path / split / kind
            folder.mkdir(parents=True)
            for number in range(2):
                shape = (40, 50) if kind == "label" else (40, 50, 3)
                pixels = rng.integers(0, 2, shape, dtype=np.uint8) * 255
                Image.fromarray(pixels).save(folder / f"{number}.png")
    labeled, unlabeled = measure_loading(tmp_path, WeakSettings(crop=CROP), items=16, task="cd")
    pixels = CROP * CROP
    assert unlabeled.bytes_per_item == 2 * 3 * pixels + pixels + 8, "two uint8 images, one bool valid, number"
    assert labeled.bytes_per_item == unlabeled.bytes_per_item + pixels
