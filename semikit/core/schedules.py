"""Numbers that change with the step: the learning rate, linear ramps, a growing batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal, Protocol, final

Schedule = Literal["poly", "constant", "cosine", "half-cosine"]


class LearningRateSettings(Protocol):
    """What `learning_rate` reads of an optimiser's settings."""

    @property
    def schedule(self) -> Schedule:
        """Shape of the decay."""

    @property
    def power(self) -> float:
        """Exponent of 'poly'."""

    @property
    def cycles(self) -> float:
        """Half turns of 'cosine' over the run."""

    @property
    def warmup(self) -> int:
        """Steps of linear warm-up; 0: none."""


def learning_rate(base: float, step: int, total: int, settings: LearningRateSettings) -> float:
    """The rate for optimiser step `step` (from 0) of `total`.

    'poly' is base · (1 - step / total) ** power, one step late: as released the rate is set after a step from that
    step's number, so that steps 0 and 1 both run at the full rate. 'constant' stays at `base`. 'cosine' is
    base · cos(cycles · π · step / total), without the lag (FixMatch: 7/16). During warm-up the rate is multiplied by
    (step + 1) / warmup. 'half-cosine' is base · (1 + cos(π · p)) / 2, with p the share done of the steps after warm-up
    (SimMatch, which sets it once an epoch).
    """
    past = max(step - 1, 0)
    factor = 1.0
    if settings.schedule == "poly":
        factor = (1 - past / total) ** settings.power
    elif settings.schedule == "cosine":
        factor = max(0.0, math.cos(settings.cycles * math.pi * step / total))
    elif settings.schedule == "half-cosine" and step >= settings.warmup:
        factor = (1 + math.cos(math.pi * (step - settings.warmup) / (total - settings.warmup))) / 2
    if step < settings.warmup:
        factor *= (step + 1) / settings.warmup
    return base * factor


def linear_ramp(step: int, length: float) -> float:
    """0 at step 0, 1 from step `length` on, straight in between; always 1 where there is no length."""
    return min(step / length, 1.0) if length > 0 else 1.0


def steps_of(length: float, iterations: int) -> float:
    """A length that is given as a share of the run (up to 1) or in iterations (above 1), in iterations."""
    return length * iterations if length <= 1 else length


@final
@dataclass(frozen=True, slots=True)
class Growth:
    """An unlabelled batch that grows over a run of `iterations` from `batch` to `ratio` · `batch` images (Chen et al.
    2023, Fast FixMatch, arXiv 2309.03469, curriculum batch size: B-EXP, `alpha` 0.7 there):

        u_t = u · (1 - (1 - t/T) / ((1 - alpha) + alpha · (1 - t/T)))

    rounded to a multiple of `batch`, at least one, so that processes, groups and micro-batches divide every step.
    `alpha` 0: linearly; towards 1 ever later.
    """

    batch: int
    ratio: int
    alpha: float
    iterations: int

    def at(self, step: int) -> int:
        """Unlabelled images of a step (from 0); from the last one on all of them."""
        left = max(1 - step / self.iterations, 0.0)
        share = 1 - left / ((1 - self.alpha) + self.alpha * left)
        return self.batch * max(1, round(self.ratio * share))

    def before(self, step: int) -> int:
        """Unlabelled images of all steps before one."""
        ends, over = _ends(self), max(step - self.iterations, 0)
        return ends[step - over] + over * self.batch * self.ratio


@lru_cache(maxsize=8)
def _ends(growth: Growth) -> list[int]:
    return list(accumulate(map(growth.at, range(growth.iterations)), initial=0))
