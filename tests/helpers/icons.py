"""Small images of one class each in class folders, and the smallest configuration that trains on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semikit.registry import METHODS

SIDE = 16
CLASSES = ("blue", "green", "red")
ENCODER_ARGS = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_width": 8}
MODEL: dict[str, Any] = {"encoder": "resnet10t", "encoder_args": ENCODER_ARGS, "weights": "none"}
FLAGS = [
    *("--encoder", "resnet10t", "--weights", "none", "--batch", "4", "--workers", "0", "--device", "cpu"),
    *("model.encoder_args={layers: [1, 1, 1, 1], channels: [8, 8, 8, 8], stem_width: 8}", "train.group=4"),
    "optimizer.layer_decay=null",
]
"""What makes `semikit train cls` small."""


def image(rng: np.random.Generator, number: int, side: int = SIDE) -> Any:
    """Mostly of one colour (side, side, 3): blue, green or red."""
    colour = np.full(3, 60)
    colour[2 - number] = 190
    return np.clip(colour + rng.integers(-40, 41, (side, side, 3)), 0, 255).astype(np.uint8)


def write(folder: Path, train: int = 8, val: int = 3, test: int = 2, side: int = SIDE) -> Path:
    """So many images of each class in train/CLASS, val/CLASS and test/CLASS. Returns the data YAML."""
    rng = np.random.default_rng(5)
    for part, count in (("train", train), ("val", val), ("test", test)):
        for number, name in enumerate(CLASSES):
            (folder / part / name).mkdir(parents=True)
            for k in range(count):
                Image.fromarray(image(rng, number, side)).save(folder / part / name / f"{k}.png")
    (folder / "data.yaml").write_text("train: train\nval: val\ntest: test\n")
    return folder / "data.yaml"


def raw(yaml: Path, method: str = "unimatch_v2", **sections: dict[str, Any]) -> dict[str, Any]:
    """A whole configuration as plain values: six steps of four labelled and four unlabelled images."""
    parts = {part: {"images": str(yaml.parent / part)} for part in ("train", "val", "test")}
    made: dict[str, Any] = {
        "task": "cls",
        "name": "icons",
        "data": {"folders": parts, "labels": "6"},
        "model": MODEL,
        "method": {"name": method},
        "views": {"size": None},
        "optimizer": {"encoder_lr": None, "lr": 1e-3},
        "train": {"iterations": 6, "batch": 4, "group": 4, "workers": 0, "device": "cpu", "eval_every": 3},
    }
    if "threshold" in METHODS.get(method).Config.model_fields:
        made["method"]["threshold"] = 0.4
    for section, values in sections.items():
        made[section] = {**made.get(section, {}), **values}
    return made
