"""The progress of a run, for what follows it: the command line, log.txt, a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from semikit.core.task import Scores


@final
@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run folder with its `results.json` as plain values; what the classes' scores are called, and what may be typed
    after `semikit predict RUN`.
    """

    folder: Path
    results: Mapping[str, Any]
    per_class: str
    example: str


def duration(seconds: float) -> str:
    """About how long something takes, in words."""
    minutes = seconds / 60
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


class Reporter:
    """Receives what happens in a run, in this order: planned, start, then log, evaluation and notice, end, finished."""

    def start(self, first: int, total: int) -> None:
        """Training begins at iteration `first` (0-based) of `total`."""

    def advance(self) -> None:
        """One iteration is over; called every iteration, must not touch the device."""

    def log(self, values: Mapping[str, float]) -> None:
        """Means since the last call: losses, confident share, images/s, share of time spent waiting for data."""

    def evaluation(self, iteration: int, scores: Mapping[str, Scores], best: Mapping[str, Any]) -> None:
        """Networks were evaluated after `iteration` steps."""

    def evaluating(self, done: int, total: int) -> None:
        """So many images of an evaluation are scored, of those that this process scores."""

    def notice(self, text: str) -> None:
        """Something the user should read."""

    def end(self) -> None:
        """Training is over, whatever the reason."""

    def planned(self, title: str, facts: Mapping[str, str]) -> None:
        """What is about to happen, before the start."""

    def finished(self, run: FinishedRun) -> None:
        """The run came to its end and its results are written."""
