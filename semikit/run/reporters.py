"""What a run says in plain lines, and to two places at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from html import escape
from typing import Any, final

from semikit.core.task import Progress, Scores, at_threshold
from semikit.training.reporter import Reporter, duration


@final
class Both(Reporter):
    """Two reporters that receive the same."""

    def __init__(self, first: Reporter, second: Reporter) -> None:
        self.both = (first, second)
        for name in (name for name in vars(Reporter) if not name.startswith("_")):
            setattr(self, name, _each(getattr(first, name), getattr(second, name)))


def _each(*calls: Callable[..., None]) -> Callable[..., None]:
    def call(*given: Any) -> None:
        for one in calls:
            one(*given)

    return call


def values_line(values: Mapping[str, float]) -> str:
    """Losses, confident share, speed and waiting in one line."""
    parts = [f"{name} {value:.3f}" for name, value in values.items() if name.startswith("loss")]
    if "confident" in values:
        parts.append(f"confident {100 * values['confident']:.0f} %")
    if "pseudo_accuracy" in values:
        parts.append(f"right {100 * values['pseudo_accuracy']:.0f} %")
    if "images_per_second" in values:
        parts.append(f"{values['images_per_second']:.1f} images/s")
        parts.append(f"waiting {100 * values['waiting']:.0f} %")
    if values.get("skipped"):
        parts.append(f"skipped {values['skipped']:.0f}")
    if values.get("bad_files"):
        parts.append(f"unreadable files {values['bad_files']:.0f}")
    return " · ".join(parts)


@final
class Lines(Reporter):
    """Plain lines, for logs and pipes; at most one every ten seconds between evaluations. `named`: the first one says
    where the run is, for those of several runs.
    """

    def __init__(self, write: Callable[[str], None], named: bool = False) -> None:
        self.write, self.named = write, named
        self.first = self.step = self.total = 0
        self.begun = 0.0
        self.printed = float("-inf")

    def planned(self, title: str, facts: Mapping[str, str]) -> None:
        """Where the run is."""
        if self.named:
            self.write(f"{title}: {facts['run']}")

    def start(self, first: int, total: int) -> None:
        """Remember where the run stands."""
        self.first, self.step, self.total = first, first, total
        self.begun = time.monotonic()

    def advance(self) -> None:
        """Count."""
        self.step += 1

    def log(self, values: Mapping[str, float]) -> None:
        """A line, unless one was printed just now."""
        if values:
            self._write_now_and_then(f"{values_line(values)} · {self._left()} left")

    def evaluating(self, done: int, total: int) -> None:
        """A line, unless one was printed just now."""
        self._write_now_and_then(f"evaluating: {done} of {total} images")

    def _write_now_and_then(self, text: str) -> None:
        if time.monotonic() - self.printed > 10:
            self.printed = time.monotonic()
            self.write(f"{self.step}/{self.total} {text}")

    def evaluation(self, iteration: int, scores: Mapping[str, Scores], best: Mapping[str, Any]) -> None:
        """One line with the metric of each network."""
        parts = [
            f"{name} {result.metric} {result.value:.2f}{at_threshold(result.threshold)}"
            for name, result in scores.items()
        ]
        self.write(f"{iteration}/{self.total} {' · '.join(parts)} · best {best['value']:.2f} ({best['model']})")

    def notice(self, text: str) -> None:
        """A line."""
        self.write(f"note: {text}")

    def _left(self) -> str:
        """Time to the end at the pace so far."""
        seconds = (time.monotonic() - self.begun) * (self.total - self.step) / max(self.step - self.first, 1)
        return duration(seconds)


@final
class NotebookBar(Reporter):
    """A bar of `what` that moves in place: HTML, so that no widgets are needed."""

    def __init__(self, what: str = "iterations") -> None:
        self.what = what

    def start(self, first: int, total: int) -> None:
        """Show it."""
        from IPython.display import display

        self.step, self.total, self.drawn = first, total, time.monotonic()
        self.shown = display(self, display_id=True)

    def advance(self) -> None:
        """Move it by one."""
        self.move(self.step + 1)

    def move(self, step: int) -> None:
        """Move it, at most three times a second before its end."""
        self.step = step
        if time.monotonic() - self.drawn > 0.3 or step == self.total:
            self.end()

    def end(self) -> None:
        """Let it stand where it is."""
        self.drawn = time.monotonic()
        self.shown.update(self)

    def _repr_html_(self) -> str:
        text = f"{escape(self.what)}: {self.step} of {self.total}"
        return f'<progress value="{self.step}" max="{self.total}"></progress> {text}'


def _in_notebook() -> bool:
    return hasattr(getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)(), "kernel")


def default_reporter() -> Reporter:
    """Who follows a run where nobody was named: a bar and lines in a notebook, elsewhere lines on standard error."""
    if _in_notebook():
        return Both(NotebookBar(), Lines(print, named=True))
    return Lines(lambda text: print(text, file=sys.stderr), named=True)


def default_progress() -> Progress:
    """Who follows other work where nobody was named: a bar for each part of it in a notebook, elsewhere nobody."""
    bars = dict[str, NotebookBar]()

    def show(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = NotebookBar(what)
            bars[what].start(0, total)
        bars[what].move(done)

    return show if _in_notebook() else lambda what, done, total: None
