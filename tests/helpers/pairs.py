"""Small pairs of two dates with masks, and the smallest configuration that trains on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semikit.registry import METHODS

SIZE = (40, 48)
MODEL: dict[str, Any] = {
    "encoder": "test_vit",
    "encoder_args": {"depth": 2, "embed_dim": 32, "num_heads": 2},
    "weights": "none",
    "decoder_channels": 8,
    "decoder_widths": [8, 8, 8, 8],
}
FLAGS = [
    *("--encoder", "test_vit", "--weights", "none", "--crop", "32", "--batch", "2", "--workers", "0"),
    *("--device", "cpu", "model.decoder_channels=8", "model.decoder_widths=[8, 8, 8, 8]"),
    *("model.encoder_args={depth: 2, embed_dim: 32, num_heads: 2}", "train.group=2"),
]
"""What makes `semikit train cd` small."""
PARTS = ("train", "val", "test")


def scene(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> tuple[Any, Any, Any]:
    """Ground at two dates in another light, and one house that is new: images (H, W, 3), labels (H, W) 0 or 255."""
    before = np.clip(110 + rng.integers(-30, 31, (*size, 3)), 0, 255).astype(np.uint8)
    after = np.clip(before.astype(int) + 25 + rng.integers(-10, 11, (*size, 3)), 0, 255).astype(np.uint8)
    labels = np.zeros(size, dtype=np.uint8)
    top, left = int(rng.integers(0, size[0] - 14)), int(rng.integers(0, size[1] - 14))
    after[top : top + 14, left : left + 14] = (210, 70, 60)
    labels[top : top + 14, left : left + 14] = 255
    return before, after, labels


def save(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)
    return path


def write(folder: Path, train: int = 8, masks: int = 6, val: int = 3, test: int = 2) -> Path:
    """Pairs of 40 x 48 pixels in A/ B/ label/, masks 0 and 255. Returns the data YAML."""
    rng = np.random.default_rng(5)
    for part, count, masked in zip(PARTS, (train, val, test), (masks, val, test), strict=True):
        for k in range(count):
            before, after, labels = scene(rng)
            save(folder / part / "A" / f"{part}{k}.png", before)
            save(folder / part / "B" / f"{part}{k}.png", after)
            if k < masked:
                save(folder / part / "label" / f"{part}{k}.png", labels)
    (folder / "data.yaml").write_text("\n".join([*(f"{part}: {part}" for part in PARTS), "mapping: {255: 1}", ""]))
    return folder / "data.yaml"


def raw(yaml: Path, method: str = "unimatch_v2", **sections: dict[str, Any]) -> dict[str, Any]:
    """A whole configuration as plain values: six steps of two labelled and two unlabelled pairs."""
    folders: dict[str, Any] = {part: str(yaml.parent / part) for part in PARTS}
    made: dict[str, Any] = {
        "task": "cd",
        "name": "pairs",
        "data": {"folders": {**folders, "mapping": {255: 1}}, "labels": "4"},
        "model": MODEL,
        "method": {"name": method},
        "views": {"weak": {"crop": 32}, "strong": {"grayscale_probability": 0.0}},
        "optimizer": {"encoder_lr": 2e-4},
        "train": {"iterations": 6, "batch": 2, "group": 2, "workers": 0, "device": "cpu", "eval_every": 3},
    }
    if "threshold" in METHODS.get(method).Config.model_fields:
        made["method"]["threshold"] = 0.4
    for section, values in sections.items():
        made[section] = {**made.get(section, {}), **values}
    return made
