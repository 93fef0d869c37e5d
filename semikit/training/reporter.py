"""What a run tells a person; the command line draws it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, final

from semikit.core.task import Scores


class Reporter(ABC):
    """Is told what happens in a run, in this order: start, then log, evaluation and notice, then end."""

    @abstractmethod
    def start(self, first: int, total: int) -> None:
        """Training begins at iteration `first` (0-based) of `total`."""

    @abstractmethod
    def advance(self) -> None:
        """One iteration is over; called every iteration, must not touch the device."""

    @abstractmethod
    def log(self, values: Mapping[str, float]) -> None:
        """Means since the last call: losses, confident share, images/s, share of time spent waiting for data."""

    @abstractmethod
    def evaluation(self, iteration: int, scores: Mapping[str, Scores], best: Mapping[str, Any]) -> None:
        """Networks were evaluated after `iteration` steps."""

    @abstractmethod
    def notice(self, text: str) -> None:
        """Something a person should read."""

    @abstractmethod
    def end(self) -> None:
        """Training is over, whatever the reason."""


@final
class Quiet(Reporter):
    """Tells nothing."""

    def start(self, first: int, total: int) -> None:
        """Nothing."""

    def advance(self) -> None:
        """Nothing."""

    def log(self, values: Mapping[str, float]) -> None:
        """Nothing."""

    def evaluation(self, iteration: int, scores: Mapping[str, Scores], best: Mapping[str, Any]) -> None:
        """Nothing."""

    def notice(self, text: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""
