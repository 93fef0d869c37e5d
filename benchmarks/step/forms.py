"""Forms of one step, measured by turns in one process: medians by part, and ratios pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter, process_time
from typing import Any, final

import torch
from torch import Tensor

from benchmarks.step import parts
from benchmarks.step.watch import Watch

OURS = "semikit"
Seconds = Mapping[str, float]
Form = Callable[[Any, int], Tensor]
"""(what the loader would give, step) -> the loss () of the step."""


@final
@dataclass(frozen=True, slots=True)
class Ratios:
    """How many times as long the other form takes, pair by pair.

    `step`: host to device and views left out; `with_views`: they count as the process that trains feels them;
    `one_core`: also what the other form's loader does with PIL, where one core has to do everything.
    """

    step: tuple[float, ...]
    with_views: tuple[float, ...]
    one_core: tuple[float, ...]

    def as_plain(self) -> dict[str, Any]:
        """Medians and all pairs, for a JSON file."""
        return {name: {"median": median(pairs), "pairs": list(pairs)} for name, pairs in asdict(self).items()}


@final
@dataclass(frozen=True, slots=True)
class StepTimes:
    """Medians in seconds by form (`OURS`, and what it was measured against): by part and for the whole step.

    `wall` and `cpu` are those of whole steps by both clocks, a loader's work included. `images` a step, labelled and
    unlabelled. `moved` are bytes a step brings from the host to the device, by form.
    """

    images: int
    seconds: dict[str, Seconds]
    wall: dict[str, float]
    cpu: dict[str, float]
    moved: dict[str, int]
    ratios: Ratios | None

    @property
    def other(self) -> str | None:
        """The form semikit was measured against."""
        return next((name for name in self.seconds if name != OURS), None)

    def as_plain(self) -> dict[str, Any]:
        """For a JSON file."""
        return {**asdict(self), "ratios": None if self.ratios is None else self.ratios.as_plain()}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run the block with that many threads a CPU operation."""
    former = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def measure_forms(
    forms: Mapping[str, Form],
    raw_of: Callable[[int], Any],
    watch: Watch,
    repeats: int,
    warmup: int,
    images: int,
    moved: Mapping[str, int],
) -> StepTimes:
    """Time the forms by turns; every pair of steps is given the same by `raw_of`(step)."""
    found: dict[str, list[Seconds]] = {name: [] for name in forms}
    whole: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for step in range(warmup + repeats):
        raw = raw_of(step)
        for name, form in forms.items():
            begun = perf_counter(), process_time()
            form(raw, step)
            split = watch.read()  # waits for the device
            whole[name].append((perf_counter() - begun[0], process_time() - begun[1]))
            found[name].append({**split, parts.STEP: sum(split.values()) - split.get(parts.LOADER, 0.0)})
    kept = {name: values[warmup:] for name, values in found.items()}
    wall, cpu = ({name: median(pair[k] for pair in values[warmup:]) for name, values in whole.items()} for k in (0, 1))
    other = next((values for name, values in kept.items() if name != OURS), None)
    seconds = {name: medians(values) for name, values in kept.items()}
    return StepTimes(images, seconds, wall, cpu, dict(moved), None if other is None else _ratios(kept[OURS], other))


def _ratios(ours: list[Seconds], other: list[Seconds]) -> Ratios:
    def pairs(of: Callable[[Seconds], float]) -> tuple[float, ...]:
        return tuple(of(b) / of(a) for a, b in zip(ours, other, strict=True))

    return Ratios(
        step=pairs(lambda split: split[parts.STEP] - split[parts.VIEWS]),
        with_views=pairs(lambda split: split[parts.STEP]),
        one_core=pairs(lambda split: split[parts.STEP] + split.get(parts.LOADER, 0.0)),
    )


def medians(steps: list[Seconds]) -> Seconds:
    """The median of each part over the steps."""
    names = [parts.LOADER, *parts.ORDER, parts.STEP]
    return {
        name: median(step.get(name, 0.0) for step in steps) for name in names if any(name in step for step in steps)
    }
