"""RandAugment of one batch beside PIL's, one image after the other, by turns in one process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any, final

import torch
from PIL import Image

from benchmarks.step.class_workload import SIDE
from benchmarks.step.pil_views import augmented
from benchmarks.step.watch import Clock, Watch
from semikit.augment.randaugment import draw_boxes, draw_operations, draw_ops, randaugment
from semikit.augment.settings import RandAugmentSettings
from semikit.core.batch import to_device
from semikit.core.rng import rng_for


@final
@dataclass(frozen=True, slots=True)
class AugmentSpeed:
    """RandAugment of one batch: images a second (medians), of uint8 images on the device, and of PIL's in a loop.

    Draws are counted in both.
    """

    batch: int
    semikit: float
    pil: float
    ratio: float

    def as_plain(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


def measure_augment(
    settings: RandAugmentSettings, batch: int, repeats: int, device: torch.device, clock: Clock = perf_counter
) -> AugmentSpeed:
    """RandAugment of `batch` made images with new draws each time, semikit's and PIL's by turns."""
    generator, size = torch.Generator().manual_seed(0), (SIDE, SIDE)
    images = torch.randint(256, (batch, 3, *size), dtype=torch.uint8, generator=generator)
    pictures = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).contiguous().numpy()]
    images, watch = images.to(device), Watch(device, clock)

    def batched(turn: int) -> None:
        draws = draw_ops(rng_for(turn, "augment"), batch, size, settings)
        randaugment(images, to_device(draws, device))

    def looped(turn: int) -> None:
        rng = rng_for(turn, "augment")
        op, value = draw_operations(rng, batch, size, settings)
        augmented(pictures, op, value, draw_boxes(rng, batch, size, settings), settings.fill)

    taken: dict[str, list[float]] = {"semikit": [], "pil": []}
    for turn in range(1 + repeats):
        for name, form in (("semikit", batched), ("pil", looped)):
            with watch.section(name):
                form(turn)
            taken[name].append(watch.read()[name])
    ours, pil = (taken[name][1:] for name in ("semikit", "pil"))
    ratio = median(b / a for a, b in zip(ours, pil, strict=True))
    return AugmentSpeed(batch, batch / median(ours), batch / median(pil), ratio)
