"""One run, told to two places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from semikit.core.task import Scores
from semikit.training.reporter import Reporter


@final
class Both(Reporter):
    """Tells two reporters the same."""

    def __init__(self, first: Reporter, second: Reporter) -> None:
        self.both = (first, second)

    def start(self, first: int, total: int) -> None:
        """Forward."""
        for reporter in self.both:
            reporter.start(first, total)

    def advance(self) -> None:
        """Forward."""
        for reporter in self.both:
            reporter.advance()

    def log(self, values: Mapping[str, float]) -> None:
        """Forward."""
        for reporter in self.both:
            reporter.log(values)

    def evaluation(self, iteration: int, scores: Mapping[str, Scores], best: Mapping[str, Any]) -> None:
        """Forward."""
        for reporter in self.both:
            reporter.evaluation(iteration, scores, best)

    def notice(self, text: str) -> None:
        """Forward."""
        for reporter in self.both:
            reporter.notice(text)

    def end(self) -> None:
        """Forward."""
        for reporter in self.both:
            reporter.end()
