"""What a terminal shows while a run goes on: bars on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from semikit.core.census import Census
from semikit.core.task import Scores, at_threshold
from semikit.errors import some
from semikit.files import shell_word
from semikit.run.lifecycle import Plan
from semikit.run.reporters import Both, Lines, values_line
from semikit.training.reporter import FinishedRun, Reporter

_DASH = "\N{EN DASH}"
_NAME = 40
"""Letters of a class name that a table shows at most."""
_MANY = 24
"""Classes up to which a table shows those without a score too."""


def make_reporter(console: Console, quiet: bool) -> Reporter:
    """The reporter that fits: results only, a bar on a terminal, or plain lines."""
    summary = Summary(console, quiet)
    if quiet:
        return summary
    return Both(Bars(console) if console.is_terminal else Lines(lambda text: _print_line(console, text)), summary)


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
        table.add_row(f"{name}{at_threshold(result.threshold)}", *map(shown, (result.value, *result.extra.values())))
    return Group(table, Text(f" best: {best['value']:.2f} ({best['model']}, iteration {best['iteration']})", "dim"))


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

    def evaluating(self, done: int, total: int) -> None:
        """Write it in place of the values."""
        self.values.plain = f"evaluating: {done} of {total} images"

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
class Summary(Reporter):
    """The panel before a run, and its results; with `quiet` the results only."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self.console, self.quiet = console, quiet

    def planned(self, title: str, facts: Mapping[str, str]) -> None:
        """Print the panel."""
        if not self.quiet:
            start_panel(self.console, title, facts)

    def finished(self, run: FinishedRun) -> None:
        """Print the best value and, without `quiet`, the test value, the classes, and what to type next."""
        say_results(run, self.console, self.quiet)


def say_results(run: FinishedRun, console: Console, quiet: bool) -> None:
    """The best value and, without `quiet`, the test value, the classes, and what to type next."""
    results = run.results
    best = results["best"]
    at = at_threshold(best.get("threshold"))
    console.print(
        f"best {results['metric']} {best['value']:.2f}{at} ({best['model']}, iteration {best['iteration']}, "
        f"{best['split']}, protocol {results['protocol']})",
        highlight=False,
    )
    if "test" in results:
        console.print(f"test {results['metric']} {results['test'][results['metric']]:.2f} (read once)", highlight=False)
    if quiet:
        return
    found = results.get("test", results)
    what = f"{run.per_class} ({'test' if 'test' in results else best['split']})"
    console.print(class_table(found["per_class"], what, found.get("class_scores", {})))
    say_absent(found["per_class"], results["evaluation"].get("average"), console)
    for line in (f"run folder: {run.folder}", f"next: semikit predict {shell_word(run.folder)} {run.example}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def shown(value: float | None, digits: int = 2) -> str:
    """A score in percent, a dash where it is not defined."""
    return _DASH if value is None else f"{value:.{digits}f}"


def say_absent(per_class: Mapping[str, float | None], average: str | None, console: Console) -> None:
    """A footnote where a class is not in the truth; `average` says how it counts (None: no mean over classes does)."""
    absent = [name for name, value in per_class.items() if value is None]
    if absent:
        counts = {"paper": ", counts 0 in the mean (average: paper, as published)", "present": ", left out of the mean"}
        line = f"{_DASH}: no truth for {some(absent, 5)}{counts.get(average or '', '')}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def class_table(
    per_class: Mapping[str, float | None], what: str, more: Mapping[str, Mapping[str, float | None]]
) -> Table:
    """`what` of each class and `more` scores by name and class, in percent; names are shown as they are. Scores that
    are `what` under another name (the recall, of top-1) are not shown twice, and of many classes not those without any.
    """
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("class", no_wrap=True, max_width=_NAME)
    columns = {what: per_class, **{name: scores for name, scores in more.items() if scores != per_class}}
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")  # so that a narrow terminal breaks it there
    labels = dict.fromkeys(label for scores in columns.values() for label in scores)
    for label in labels:
        if len(labels) > _MANY and all(scores.get(label) is None for scores in columns.values()):
            continue  # named below the table, by `say_absent`
        table.add_row(escape(label), *(shown(scores.get(label), 1) for scores in columns.values()))
    return table


def _print_line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def print_plan(plan: Plan, console: Console, show_config: bool = False) -> None:
    """The panel, the notices and, on request, the configuration as YAML."""
    start_panel(console, "plan", plan.facts)
    if plan.census is not None:
        console.print(census_table(plan.census))
    for notice in plan.notices:
        console.out(f"note: {notice}", highlight=False)
    if show_config:
        console.out(plan.config.to_yaml(), highlight=False)
    console.print(f"{verdict(plan.unused)} Nothing was trained or written.")


def verdict(unused: Sequence[str]) -> str:
    """What is said of data without a fault, of which the files that `unused` names are in no part."""
    if not unused:
        return "The data are fine."
    return "What is used of the data is fine; see the notes for the files that are not used."


def census_table(census: Census) -> Group:
    """What the parts of the data hold, a row a class; names are shown as they are."""
    heads, *rows = census.table()
    table = Table(box=None, header_style="bold")
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return Group(Text(census.title), table)


def print_seeds(summary: Mapping[str, Any], console: Console) -> None:
    """Mean and standard deviation over the seeds, of each split that was scored."""
    parts = {summary["split"]: summary} | ({"test": summary["test"]} if "test" in summary else {})
    for name, found in parts.items():
        line = f"{summary['metric']} over seeds {summary['seeds']}: {found['mean']:.2f} ± {found['std']:.2f} ({name})"
        console.print(line, markup=False)
