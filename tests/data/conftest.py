from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semikit.data.masked_images import DataSpec

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes an array below the test's folder."""

    def write(name: str, values: NDArray[Any], **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path, **options)
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path, save: Save) -> Path:
    """8 training images, 6 of them with masks, and 3 for validation: 12 x 16 pixels, classes 0 to 2, 9 ignored."""
    rng = np.random.default_rng(0)
    for part, count, masks in (("train", 8, 6), ("val", 3, 3)):
        for k in range(count):
            save(f"{part}/images/{part}{k}.png", rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            if k < masks:
                values = rng.choice(np.array([0, 1, 2, 9], dtype=np.uint8), (12, 16))
                save(f"{part}/masks/{part}{k}.png", values)
    return tmp_path


@pytest.fixture
def spec(folder: Path) -> DataSpec:
    return make_spec(folder)


def make_spec(folder: Path, **changes: Any) -> DataSpec:
    raw: dict[str, Any] = {
        "train": {"images": folder / "train/images", "masks": folder / "train/masks"},
        "val": {"images": folder / "val/images", "masks": folder / "val/masks"},
        "classes": ["sky", "road", "car"],
        "ignore": [9],
    }
    return DataSpec.model_validate({**raw, **changes})


@pytest.fixture
def spec_of() -> Callable[..., DataSpec]:
    return make_spec
