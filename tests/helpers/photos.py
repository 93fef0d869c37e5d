"""Small photographs with masks, and the smallest configuration that trains on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semikit.registry import METHODS

SIZE = (40, 48)
CLASSES = ("sky", "road", "car")
ENCODER_ARGS = {"depth": 2, "embed_dim": 32, "num_heads": 2}
MODEL: dict[str, Any] = {
    "encoder": "test_vit",
    "encoder_args": ENCODER_ARGS,
    "weights": "none",
    "decoder_channels": 8,
    "decoder_widths": [8, 8, 8, 8],
}
FLAGS = [
    *("--encoder", "test_vit", "--weights", "none", "--crop", "32", "--batch", "2", "--workers", "0"),
    *("--device", "cpu", "model.decoder_channels=8", "model.decoder_widths=[8, 8, 8, 8]"),
    "model.encoder_args={depth: 2, embed_dim: 32, num_heads: 2}",
]
"""What makes `semikit train seg` small."""


def save(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)
    return path


def write(folder: Path, train: int = 8, masks: int = 6, val: int = 3, test: int = 2) -> Path:
    """Images of 40 x 48 pixels whose classes have colours of their own; 9 is ignored. Returns the data YAML."""
    rng = np.random.default_rng(5)
    colours = np.array([[60, 120, 220], [120, 110, 100], [200, 60, 50]])
    for part, count, masked in (("train", train, masks), ("val", val, val), ("test", test, test)):
        for k in range(count):
            blocks = rng.integers(0, 3, (5, 6)).repeat(8, 0).repeat(8, 1)
            noise = rng.integers(-30, 31, (*SIZE, 3))
            save(folder / part / "images" / f"{part}{k}.png", np.clip(colours[blocks] + noise, 0, 255))
            if k < masked:
                save(folder / part / "masks" / f"{part}{k}.png", np.where(rng.random(SIZE) < 0.05, 9, blocks))
    parts = [f"{part}: {{images: {part}/images, masks: {part}/masks}}" for part in ("train", "val", "test")]
    text = "\n".join([*parts, f"classes: [{', '.join(CLASSES)}]", "ignore: [9]", ""])
    (folder / "data.yaml").write_text(text)
    return folder / "data.yaml"


def raw(yaml: Path, method: str = "unimatch_v2", **sections: dict[str, Any]) -> dict[str, Any]:
    """A whole configuration as plain values: six steps of two labelled and two unlabelled images."""
    folder = yaml.parent
    folders = {
        part: {"images": str(folder / part / "images"), "masks": str(folder / part / "masks")} for part in _PARTS
    }
    made: dict[str, Any] = {
        "task": "seg",
        "name": "photos",
        "data": {"folders": {**folders, "classes": list(CLASSES), "ignore": [9]}, "labels": "4"},
        "model": MODEL,
        "method": {"name": method},
        "views": {"weak": {"crop": 32}},
        "optimizer": {"encoder_lr": 2e-4},
        "train": {"iterations": 6, "batch": 2, "group": 2, "workers": 0, "device": "cpu", "eval_every": 3},
    }
    if "threshold" in METHODS.get(method).Config.model_fields:
        made["method"]["threshold"] = 0.4
    for section, values in sections.items():
        made[section] = {**made.get(section, {}), **values}
    return made


_PARTS = ("train", "val", "test")
