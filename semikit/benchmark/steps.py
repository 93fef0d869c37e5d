"""Medians over repeated steps, the two forms by turns in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from statistics import median
from time import perf_counter
from typing import Any, final

import torch
from torch import Tensor

from semikit.benchmark import parts
from semikit.benchmark.current import CurrentStep
from semikit.benchmark.naive import NaiveStep
from semikit.benchmark.watch import Clock, Watch
from semikit.benchmark.workload import build_workload, made_crops
from semikit.config import Config
from semikit.core.batch import Labeled, Unlabeled

VIEWS = "views"
Seconds = Mapping[str, float]
Form = Callable[[Labeled, Unlabeled, int], Tensor]


@final
@dataclass(frozen=True, slots=True)
class StepTimes:
    """Medians in seconds: `current` and `naive` by part and for the whole step, `views` for making the views of a step
    (not part of it). `ratio` is the median of naive over current, pair by pair, `ratios` each of them.
    """

    crop: int
    views: float
    current: Seconds
    naive: Seconds | None
    ratio: float | None
    ratios: tuple[float, ...]

    def as_plain(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run the block with that many threads a CPU operation."""
    former = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def measure_steps(
    config: Config, num_classes: int, repeats: int, warmup: int, against_naive: bool, clock: Clock = perf_counter
) -> StepTimes:
    """Time steps of the configuration on made crops; every pair of steps sees the same views.

    Raises:
        InputError: for a configuration that training, or the naive form, refuses.
    """
    workload = build_workload(config, num_classes)
    watch = Watch(workload.device, clock)
    forms: dict[str, Form] = {"current": CurrentStep(workload, watch)}
    if against_naive:
        forms["naive"] = NaiveStep(workload, watch)
    taken: dict[str, list[Seconds]] = {VIEWS: [], **{name: [] for name in forms}}
    for step in range(warmup + repeats):
        raw = made_crops(config, num_classes, step)
        with watch.section(VIEWS):
            labeled, unlabeled = workload.views(raw, step)
        taken[VIEWS].append(watch.read())
        for name, form in forms.items():
            form(labeled, own_copies(unlabeled), step)
            found = watch.read()
            taken[name].append({**found, parts.STEP: sum(found.values())})
    kept = {name: values[warmup:] for name, values in taken.items()}
    naive = kept.get("naive")
    ratios = [b[parts.STEP] / a[parts.STEP] for a, b in zip(kept["current"], naive or (), strict=bool(naive))]
    return StepTimes(
        crop=made_crops(config, num_classes, 0)["labeled"][0].shape[-1],
        views=medians(kept[VIEWS])[VIEWS],
        current=medians(kept["current"]),
        naive=None if naive is None else medians(naive),
        ratio=median(ratios) if ratios else None,
        ratios=tuple(ratios),
    )


def own_copies(unlabeled: Unlabeled) -> Unlabeled:
    """With strong views of its own, for the naive form mixes them in place."""
    return replace(unlabeled, strong=tuple(view.clone() for view in unlabeled.strong))


def medians(steps: list[Seconds]) -> Seconds:
    """The median of each part over the steps."""
    names = [*parts.ORDER, parts.STEP, VIEWS]
    return {
        name: median(step.get(name, 0.0) for step in steps) for name in names if any(name in step for step in steps)
    }
