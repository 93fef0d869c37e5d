"""What runs with different numbers of labels say together: a table, a curve for each method, sentences, a picture."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np

from semikit.files import OUTPUT, write_atomically, write_json, write_table
from semikit.reports.records import Entry, RunRecord
from semikit.run.grid import BASE, LORA, runs_in

_NONE = 0.05
"""Points that are shown as 0.0."""
_POWERS = (0.0, *np.geomspace(0.05, 2, 200).tolist())


@final
@dataclass(frozen=True, slots=True)
class BudgetRow:
    """The runs of a method with so many labels: scores of the seeds (percent), and the mean minutes of a run."""

    method: str
    labels: int
    scores: Mapping[int, float]
    mean: float
    std: float | None
    minutes: float


@final
@dataclass(frozen=True, slots=True)
class Fit:
    """score = a - b * labels^-c; where c is 0 a straight line, score = a + b * log2(labels). `residual` is the root of
    the mean squared distance from the means (points), None where parameters enough lead the curve through all of them.
    """

    a: float
    b: float
    c: float
    residual: float | None

    def at(self, labels: float) -> float:
        """The score with so many labels."""
        return min(self.a + self.b * (-(labels**-self.c) if self.c else math.log2(labels)), 100.0)

    def labels_at(self, score: float, least: float, most: float) -> float:
        """So many labels give a score, from `least` to `most`; the curve has to rise."""
        x = (min(max(score, self.at(least)), self.at(most)) - self.a) / self.b
        return float((-x) ** (-1 / self.c) if self.c else 2**x)

    def __str__(self) -> str:
        form = f"- {self.b:.4g} labels^-{self.c:.2f}" if self.c else f"{self.b:+.2f} log2(labels)"
        through = "through all means, so how well it fits is not known"
        far = through if self.residual is None else f"{self.residual:.2f} from the means (rms)"
        return f"{self.a:.1f} {form}, {far}"


@final
@dataclass(frozen=True, slots=True)
class Budget:
    """Scores by method and number of labels (`metric` of the part `split`), the curves, and what they say."""

    folder: Path
    metric: str
    split: str
    rows: Sequence[BudgetRow]
    fits: Mapping[str, Fit]
    sentences: Sequence[str]


def write_budget(folder: Path) -> Budget:
    """Read the finished runs of a grid, and write what they say beside them: budget.csv, budget.json, budget.png."""
    runs, rows = runs_in(folder, "results.json"), []
    for method, labels in sorted({key[:2] for key in runs}, key=lambda cell: (cell[0] != BASE, cell)):
        found = {key[2]: RunRecord.read(runs[key]) for key in sorted(runs) if key[:2] == (method, labels)}
        said = Entry(method, folder, [*found.values()]).headline()[0]
        minutes = statistics.fmean(run.results["seconds"] / 60 for run in found.values())
        scores = dict(zip(found, said["values"], strict=True))
        rows.append(BudgetRow(method, labels, scores, said["mean"], said["std"], minutes))
        metric, split = found[min(found)].results["metric"], said["split"]
    fits = {method: fit for method, of in by_method(rows).items() if (fit := fit_curve(of)) is not None}
    budget = Budget(folder, metric, split, rows, fits, spoken(rows, fits, metric))
    stds = ["" if row.std is None else f"{row.std:.2f}" for row in rows]
    heads, columns = ("method", "labels", "seeds", metric, "std", "minutes"), zip(rows, stds, strict=True)
    table = [(r.method, r.labels, len(r.scores), f"{r.mean:.2f}", std, f"{r.minutes:.1f}") for r, std in columns]
    write_table(folder / "budget.csv", [heads, *table], "\n")
    write_json(folder / "budget.json", {**asdict(budget), "folder": str(folder)})
    draw_budget(budget, folder / "budget.png")
    return budget


def by_method(rows: Sequence[BudgetRow]) -> dict[str, list[BudgetRow]]:
    """Method -> its rows."""
    return {method: [row for row in rows if row.method == method] for method in dict.fromkeys(r.method for r in rows)}


def fit_curve(rows: Sequence[BudgetRow]) -> Fit | None:
    """The curve nearest to the means of a method, by least squares in which every run counts alike: of two numbers of
    labels a line, of more the best of the line and the power laws that rise, to at most 100; None of one number.
    """
    means, weights = [row.mean for row in rows], [len(row.scores) for row in rows]
    best, least = None, math.inf
    for c in _POWERS if len(rows) > 2 else _POWERS[: len(rows) - 1]:
        x = np.array([Fit(0, 1, c, None).at(row.labels) for row in rows])
        b, a = map(float, np.polyfit(x, means, 1, w=np.sqrt(weights)))
        if c and a > 100:
            a, b = 100.0, float((x * weights) @ (np.array(means) - 100) / ((x * weights) @ x))
        distance = float(np.sqrt(np.average((a + b * x - means) ** 2, weights=weights)))
        end = a if c else a + b * math.log2(2 * rows[-1].labels)
        if distance < least and ((end <= 100 and (b > 0 or not c)) or len(rows) == 2):
            known = len(rows) > (3 if c else 2) or distance > _NONE
            best, least = Fit(a, b, c, distance if known else None), distance
    return best


def spoken(rows: Sequence[BudgetRow], fits: Mapping[str, Fit], metric: str) -> list[str]:
    """What twice the labels would bring, and what the unlabelled images bring in labels, a sentence each."""
    said, base = list[str](), {row.labels: row for row in rows if row.method == BASE}
    for method, fit in fits.items():
        of = by_method(rows)[method]
        gain = fit.at(most := 2 * of[-1].labels) - fit.at(most / 2)
        about = f"about {gain:+.1f} {metric} by the fit{_noise(of, gain)}"
        what = about if gain > _NONE else "nothing by the fit: more labels did not bring more here"
        said.append(f"{method}: twice the labels ({most}) would bring {what}.")
    others = [row for row in rows if row.method.removesuffix(LORA) != BASE and row.labels in base]
    said += [_worth(row, base[row.labels], list(base), fits.get(BASE), metric) for row in others]
    if not base:
        said.append(f"What the unlabelled images bring is seen beside {BASE}: add it to --methods.")
    if _spread(rows) is None:
        said.append("One seed each: how far seeds differ is not known, so no difference is sure. Add --seeds 0,1,2.")
    return said


def _spread(rows: Sequence[BudgetRow]) -> float | None:
    """The standard deviation over the seeds, pooled; None where there is one seed."""
    known = [row.std**2 for row in rows if row.std is not None]
    return math.sqrt(statistics.fmean(known)) if known else None


def _noise(rows: Sequence[BudgetRow], difference: float) -> str:
    """What is said of a difference within the standard deviation; nothing of others."""
    seeds, spread = max(len(row.scores) for row in rows), _spread(rows)
    shown = spread is None or abs(difference) > spread
    return "" if shown else f", no difference that {seeds} seeds show (standard deviation {spread:.1f})"


def _worth(row: BudgetRow, same: BudgetRow, labels: Sequence[int], fit: Fit | None, metric: str) -> str:
    """A method beside the base with as many labels. The difference is laid on the curve of the base, so that an
    uneven curve does not turn it round.
    """
    difference, spread = row.mean - same.mean, _spread([row, same]) or 0.0
    what = f"{row.method} with {row.labels} labels ({row.mean:.1f} {metric}, {difference:+.1f}) scores"
    if abs(difference) <= max(spread, _NONE):
        return f"{what} as {BASE} does{_noise([row, same], difference)}."
    side, least, most = "above" if difference > 0 else "below", labels[0], 2 * labels[-1]
    if fit is None or fit.at(most) - fit.at(least) < _NONE:
        return f"{what} {side} {BASE}; in labels that is known where {BASE} rises with more numbers of labels."
    score, far = fit.at(row.labels) + difference, math.hypot(spread, fit.residual or 0.0)
    low, about, high = (fit.labels_at(score + by, least, most) for by in (-far, 0.0, far))
    ends = not fit.at(least) <= score <= fit.at(most)
    sure = (low if difference > 0 else high) if ends else about
    if (round(sure) - row.labels) * difference <= 0:
        nothing = f"nothing was measured with fewer than {least}" if row.labels == least else "the fit is too rough"
        known = f"not known, as {nothing}" if ends else "less than one"
        return f"{what} {side} {BASE}; in labels that is {known}."
    count = f"{abs(sure - row.labels):.0f} {'more ' if difference > 0 else ''}labels"
    head = (
        f"The unlabelled images {'bring' if difference > 0 else 'cost'} {'at least' if ends else 'as much as'} {count}"
    )
    if ends:
        return f"{head}: {what} as {BASE} with {sure:.0f} or {'more' if difference > 0 else 'fewer'} by the fit."
    reach = f"{low:.0f} to {high:.0f} by the spread of seeds and of the fit"
    return f"{head}: {what} as {BASE} with about {about:.0f}{f' ({reach})' if round(low) < round(high) else ''}."


def draw_budget(budget: Budget, path: Path) -> None:
    """Means and standard deviations over the number of labels, and the curves, dashed where nothing was measured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (method, rows) in enumerate(by_method(budget.rows).items()):
        labels, means = np.array([row.labels for row in rows]), [row.mean for row in rows]
        beside, bars = labels * 1.012**number, [row.std or 0.0 for row in rows]  # bars do not hide each other
        axes.errorbar(beside, means, bars, fmt="o", capsize=4, color=f"C{number}", label=method)
        for low, high, line in ((labels[0], labels[-1], "-"), (labels[-1], 2 * labels[-1], "--")):
            along = np.geomspace(low, high, 60) if method in budget.fits else ()
            axes.plot(along, [budget.fits[method].at(n) for n in along], line, color=f"C{number}")
    ticks = sorted({row.labels for row in budget.rows} | {2 * max(row.labels for row in budget.rows)})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("labelled images (bars: standard deviation over seeds; dashed: not measured)")
    axes.set_title(f"{budget.metric} ({budget.split}, %)", loc="left", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    write_atomically(path, lambda to: figure.savefig(to, dpi=140, format="png"), remedy=OUTPUT, durable=False)
