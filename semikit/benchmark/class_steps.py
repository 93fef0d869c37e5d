"""Medians over repeated steps of classification, two forms by turns in one process; and RandAugment beside PIL's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter, process_time
from typing import Any, final

import torch
from PIL import Image
from torch import Tensor

from semikit.augment.randaugment import draw_boxes, draw_operations, draw_ops, randaugment
from semikit.augment.settings import RandAugmentSettings
from semikit.benchmark import parts
from semikit.benchmark.class_current import CurrentClassStep
from semikit.benchmark.class_naive import NaiveClassStep
from semikit.benchmark.class_workload import SIDE, Raw, build_class_workload
from semikit.benchmark.pil_views import augmented
from semikit.benchmark.steps import Seconds, medians
from semikit.benchmark.watch import Clock, Watch
from semikit.config import Config
from semikit.core.draws import draw

AGAINST = ("contiguous", "naive")
Form = Callable[[Raw, int], Tensor]


@final
@dataclass(frozen=True, slots=True)
class ClassTimes:
    """Medians in seconds, by form ("semikit" and what it was measured against): by part and for the whole step.

    `wall` and `cpu` are those of whole steps by both clocks. `images` a step, labelled and unlabelled; `ratio` is the
    median of the other form over semikit, pair by pair, `ratios` each of them; `ratio_without_augment` leaves the views
    of both out.
    """

    images: int
    seconds: dict[str, Seconds]
    wall: dict[str, float]
    cpu: dict[str, float]
    ratio: float | None
    ratio_without_augment: float | None
    ratios: tuple[float, ...]

    def as_plain(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


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


def measure_class_steps(
    config: Config, num_classes: int, repeats: int, warmup: int, against: str | None, clock: Clock = perf_counter
) -> ClassTimes:
    """Time steps of the configuration; every pair of steps sees the same images under the same draws.

    Raises:
        InputError: for a configuration that training, or the other form, refuses.
    """
    workload = build_class_workload(config, num_classes)
    watch = Watch(workload.device, clock)
    forms: dict[str, Form] = {"semikit": CurrentClassStep(workload, watch)}
    if against is not None:
        forms[against] = NaiveClassStep(workload, watch, pil=against == "naive")
    found: dict[str, list[Seconds]] = {name: [] for name in forms}
    whole: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for step in range(warmup + repeats):
        raw = workload.numbers(step)
        for name, form in forms.items():
            begun = perf_counter(), process_time()
            form(raw, step)
            split = watch.read()  # waits for the device
            whole[name].append((perf_counter() - begun[0], process_time() - begun[1]))
            found[name].append({**split, parts.STEP: sum(split.values())})
    kept = {name: values[warmup:] for name, values in found.items()}
    clocks = [{name: median(pair[k] for pair in values[warmup:]) for name, values in whole.items()} for k in (0, 1)]
    other = kept.get(against or "")
    return ClassTimes(
        images=config.train.batch * (1 + config.train.ratio),
        seconds={name: medians(values) for name, values in kept.items()},
        wall=clocks[0],
        cpu=clocks[1],
        ratio=None if other is None else median(_ratios(kept["semikit"], other)),
        ratio_without_augment=None if other is None else median(_ratios(kept["semikit"], other, parts.AUGMENT)),
        ratios=() if other is None else tuple(_ratios(kept["semikit"], other)),
    )


def _ratios(current: list[Seconds], other: list[Seconds], without: str | None = None) -> list[float]:
    def seconds(step: Seconds) -> float:
        return step[parts.STEP] - (0.0 if without is None else step[without])

    return [seconds(b) / seconds(a) for a, b in zip(current, other, strict=True)]


def measure_augment(
    settings: RandAugmentSettings, batch: int, repeats: int, device: torch.device, clock: Clock = perf_counter
) -> AugmentSpeed:
    """RandAugment of `batch` made images with new draws each time, semikit's and PIL's by turns."""
    generator, size = torch.Generator().manual_seed(0), (SIDE, SIDE)
    images = torch.randint(256, (batch, 3, *size), dtype=torch.uint8, generator=generator)
    pictures = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).contiguous().numpy()]
    images, watch = images.to(device), Watch(device, clock)

    def batched(turn: int) -> None:
        draws = draw_ops(draw(turn, "augment"), batch, size, settings)
        randaugment(images, draws.to(device))

    def looped(turn: int) -> None:
        rng = draw(turn, "augment")
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
