"""How often labelled crops hold each class, and what a crop costs: python benchmarks/crops.py TASK DATA LABELS CROP.

A line for each `views.sampling`, and one without decoded scenes: share of crops that hold a class and its share of the
pixels that count, in percent, and the median processor time of a crop in milliseconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from semikit.core.rng import rng_for
from semikit.data.loading.decoded import decoded_scenes
from semikit.run import build
from semikit.run.compose import compose
from semikit.run.config import resolve
from semikit.tasks._crops import Crops

_CROPS = 2000


def measured(task: Any, count: int) -> str:
    """One line, of so many crops."""
    views, learned = task.settings, task.learned
    labeled = [(learned.train, index) for index in learned.split.labeled]
    held, pixels, seconds = np.zeros(len(task.class_names)), np.zeros(len(task.class_names)), []
    with decoded_scenes(views.cache, views.cache_gb, views.weak.crop) as decoded:
        make = Crops({"labeled": labeled}, frozenset({"labeled"}), views.weak, task._ground, decoded)
        for step in range(count):
            rng = rng_for(0, "weak/labeled", step, 0)
            begun = time.process_time()
            _, valid, _, labels = make("labeled", step % len(labeled), rng)
            seconds.append(time.process_time() - begun)
            counts = np.bincount(labels[valid], minlength=len(held))
            held, pixels = held + (counts > 0), pixels + counts
    shares = zip(task.class_names, 100 * held / count, 100 * pixels / pixels.sum(), strict=True)
    classes = " · ".join(f"{name} {crops:.1f} ({share:.2f})" for name, crops, share in shares)
    return f"{views.sampling}, cache {views.cache}: {1000 * np.median(seconds):.2f} ms · {classes}"


def main(name: str, data: str, labels: str, crop: str) -> None:
    """Print the lines."""
    for sampling, cache, count in (("uniform", "none", 100), ("uniform", "auto", _CROPS), ("by_class", "auto", _CROPS)):
        views = {"weak": {"crop": int(crop)}, "sampling": sampling, "cache": cache}
        above = {"model": {"weights": "none"}, "data": {"labels": labels}, "views": views, "train": {"device": "cpu"}}
        task = build.build_task(resolve(compose(name, data=Path(data), above=above)))
        print(measured(task, count), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
