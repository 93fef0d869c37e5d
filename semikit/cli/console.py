"""What a person sees while a run goes on: bars on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, final

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from semikit.core.task import Scores
from semikit.training.reporter import Quiet, Reporter


def make_reporter(console: Console, quiet: bool) -> Reporter:
    """The reporter that fits: silent, bars, or plain lines."""
    if quiet:
        return Quiet()
    return Bars(console) if console.is_terminal else Lines(console)


def start_panel(console: Console, title: str, facts: Mapping[str, str]) -> None:
    """One panel with what is about to happen."""
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        grid.add_row(f"[dim]{name}[/dim]", escape(value))
    console.print(Panel(grid, title=title, title_align="left", expand=False))


def scores_table(iteration: int, scores: Mapping[str, Scores], best: Mapping[str, Any]) -> Group:
    """Student and teacher side by side, and the best so far below."""
    table = Table(title=f"after iteration {iteration}", title_justify="left", box=None, header_style="bold")
    table.add_column("")
    first = next(iter(scores.values()))
    for column in (first.metric, *first.extra):
        table.add_column(column, justify="right")
    for name, result in scores.items():
        table.add_row(name, *(f"{value:.2f}" for value in (result.value, *result.extra.values())))
    return Group(table, Text(f" best: {best['value']:.2f} ({best['model']}, iteration {best['iteration']})", "dim"))


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
class Bars(Reporter):
    """A progress bar with the latest values below it."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn()
        )
        self.values = Text()
        self.live = Live(Group(self.progress, self.values), console=console)

    def start(self, first: int, total: int) -> None:
        """Show the bar."""
        self.bar = self.progress.add_task("training", total=total, completed=first)
        self.live.start()

    def advance(self) -> None:
        """Move the bar."""
        self.progress.advance(self.bar)

    def log(self, values: Mapping[str, float]) -> None:
        """Write the values below the bar."""
        self.values.plain = values_line(values)

    def evaluation(self, iteration: int, scores: Mapping[str, Scores], best: Mapping[str, Any]) -> None:
        """Print the table above the bar."""
        self.live.console.print(scores_table(iteration, scores, best))

    def notice(self, text: str) -> None:
        """Print a line above the bar."""
        self.live.console.print(f"[yellow]note[/yellow] {escape(text)}")

    def end(self) -> None:
        """Let the bar stand."""
        self.live.stop()


@final
class Lines(Reporter):
    """Plain lines, for logs and pipes; at most one every ten seconds between evaluations."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.first = self.step = self.total = 0
        self.begun = 0.0
        self.printed = float("-inf")

    def start(self, first: int, total: int) -> None:
        """Remember where the run stands."""
        self.first, self.step, self.total = first, first, total
        self.begun = time.monotonic()

    def advance(self) -> None:
        """Count."""
        self.step += 1

    def log(self, values: Mapping[str, float]) -> None:
        """A line, unless one was printed just now."""
        if values and time.monotonic() - self.printed > 10:
            self.printed = time.monotonic()
            self._print(f"{self.step}/{self.total} {values_line(values)} · {self._left()} left")

    def evaluation(self, iteration: int, scores: Mapping[str, Scores], best: Mapping[str, Any]) -> None:
        """One line with the metric of each network."""
        parts = [f"{name} {result.metric} {result.value:.2f}" for name, result in scores.items()]
        self._print(f"{iteration}/{self.total} {' · '.join(parts)} · best {best['value']:.2f} ({best['model']})")

    def notice(self, text: str) -> None:
        """A line."""
        self._print(f"note: {text}")

    def end(self) -> None:
        """Nothing is open."""

    def _left(self) -> str:
        """Time to the end at the pace so far."""
        seconds = (time.monotonic() - self.begun) * (self.total - self.step) / max(self.step - self.first, 1)
        return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"

    def _print(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)
