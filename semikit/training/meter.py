"""Means of what a step logs on the device, read rarely."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import final

import torch
from torch import Tensor

from semikit.core.losses import LABELED, PREDICTED
from semikit.distributed.collectives import mean_over_processes

PSEUDO = "pseudo/"
"""Begins the name of the column that holds the share of a class among the confident pseudo-labels."""


@final
@dataclass(frozen=True, slots=True)
class ClassSums:
    """How often each of K classes came since the evaluation before: among labelled positions, and among the confident
    pseudo-labels (by weight where they have one). Only their ratios mean something where processes took their mean.
    """

    names: Sequence[str]
    labeled: Sequence[float]
    predicted: Sequence[float]

    @classmethod
    def of(cls, names: Sequence[str], sums: Mapping[str, Sequence[float]]) -> ClassSums | None:
        """From the sums of logs; None where the method has no such logs."""
        if LABELED not in sums or PREDICTED not in sums:
            return None
        return cls(tuple(names), tuple(sums[LABELED]), tuple(sums[PREDICTED]))

    def shares(self) -> tuple[list[float], list[float]]:
        """The share (0..1) of each class among labelled positions and among pseudo-labels, where there are both."""
        both = ((values, sum(values)) for values in (self.labeled, self.predicted))
        labeled, predicted = ([value / total for value in values] for values, total in both)
        return labeled, predicted

    def row(self) -> dict[str, float]:
        """What a table of evaluations holds: how many classes are predicted, and the share (0..1) of the largest and of
        each.
        """
        total = sum(self.predicted)
        shares = [value / total if total > 0 else 0.0 for value in self.predicted]
        each = {f"{PSEUDO}{name}": share for name, share in zip(self.names, shares, strict=True)}
        return {
            "classes_predicted": float(sum(value > 0 for value in self.predicted)),
            "largest_class": max(shares),
            **each,
        }


@final
class Meter:
    """Sums logs on the device and reads them all at once; keeps the time and the time spent waiting for data.

    Logs are scalars () or vectors (K > 1,); means are reported of scalars only. Images are counted; `read`
    resets the short-term sums, `mean_since_evaluation` the long-term ones, in which every log is a list. The first
    batch comes after the workers' start, so its seconds are kept in `first_batch` and count for nothing else.
    """

    def __init__(self, images_per_step: int) -> None:
        self.images_per_step = images_per_step
        self.since_evaluation: dict[str, list[float]] = {}
        self.steps_since_evaluation = 0
        self.first_batch: float | None = None
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = self._images = 0
        self._waited = 0.0
        self._begun = time.monotonic()

    def add(self, logs: Mapping[str, Tensor], waited: float, images: int | None = None) -> None:
        """Add a step's logs, the seconds it waited for data and its images (None: as many as of every step); does not
        touch the host.
        """
        for name, value in logs.items():
            value = value.detach().float()
            # A copy: CUDA graphs write the next step's logs where these lie.
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        if self.first_batch is None:
            self.first_batch = waited
            self._begun, waited = self._begun + waited, 0.0
        self._steps += 1
        self._images += self.images_per_step if images is None else images
        self._waited += waited

    def read(self) -> dict[str, float]:
        """Means since the last reading, images per second, and the share of time spent waiting for data.

        Each process adds the values of its share of the images; all have to read at the same step.
        """
        if not self._steps:
            return {}
        summed = mean_over_processes(torch.cat([value.flatten() for value in self._sums.values()]))
        read = iter(summed.tolist())
        sums = {name: list(islice(read, value.numel())) for name, value in self._sums.items()}
        seconds = max(time.monotonic() - self._begun, 1e-9)
        for name, values in sums.items():
            before = self.since_evaluation.get(name, [0.0] * len(values))
            self.since_evaluation[name] = [a + b for a, b in zip(before, values, strict=True)]
        self.steps_since_evaluation += self._steps
        means = _means(sums, self._steps)
        means["images_per_second"] = self._images / seconds
        means["waiting"] = self._waited / seconds
        self._reset()
        return means

    def mean_since_evaluation(self) -> dict[str, float]:
        """Means since the last call of this method (of what was read); begins anew."""
        steps = max(self.steps_since_evaluation, 1)
        means = _means(self.since_evaluation, steps)
        self.since_evaluation, self.steps_since_evaluation = {}, 0
        return means

    def resume_clock(self) -> None:
        """Do not count what happened since the last reading (an evaluation) as training time."""
        self._begun = time.monotonic()


def _means(sums: Mapping[str, list[float]], steps: int) -> dict[str, float]:
    """Of what is one number; `known` and `right` (shares of the valid positions) as one: the accuracy of the
    pseudo-labels, 0..1; 0 where none was confident.
    """
    means = {name: values[0] / steps for name, values in sums.items() if len(values) == 1}
    if "known" in means:
        known, right = means.pop("known"), means.pop("right")
        means["pseudo_accuracy"] = right / known if known else 0.0
    return means
