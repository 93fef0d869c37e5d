"""What a run writes while it trains: results.csv, steps.csv, TensorBoard events, curves.png, results.json."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from semikit.core.task import Scores
from semikit.errors import DataError
from semikit.files import RESUME, write_atomically, write_json, write_text
from semikit.training.services import Service

RESULTS = "results.json"
_STEPS = "steps.csv"
_COUNTS = ("skipped", "bad_files")
"""Columns of it that nothing has at first."""
_PICTURE = 1024
"""Longest side of the pictures among the events, pixels."""
Row = Mapping[str, float]


@final
class Tracker:
    """Keeps the table of evaluations of one run folder.

    A resumed run drops the rows after the iteration it goes on from, so that the table is that of one run.
    """

    def __init__(self, folder: Path, resume_step: int = 0, service: Service | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self._service = folder, service
        self.rows: list[dict[str, float]] = [r for r in read_rows(folder) if r["iteration"] <= resume_step]
        self._writer = SummaryWriter(str(folder), purge_step=resume_step + 1)
        if self.rows:
            self._write_csv()
        else:
            (folder / "results.csv").unlink(missing_ok=True)
        self._columns = self._keep_steps(resume_step)

    def add(self, row: Row) -> None:
        """Add an evaluation: to the table, the events and the curves."""
        self.rows.append(dict(row))
        self._write_csv()
        step = int(row["iteration"])
        self._send(step, {name: value for name, value in row.items() if name != "iteration"})
        self._writer.flush()
        draw_curves(self.rows, self.folder / "curves.png")

    def add_steps(self, step: int, values: Row) -> None:
        """Add what was read of the steps since the last reading: a row of steps.csv, `steps/…` among the events."""
        self._columns = self._columns or ["iteration", *values, *(name for name in _COUNTS if name not in values)]
        path = self.folder / _STEPS
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns, extrasaction="ignore")
            if not path.stat().st_size:
                writer.writeheader()
            writer.writerow({"iteration": step, **{name: _short(value) for name, value in values.items()}})
        self._send(step, {f"steps/{name}": value for name, value in values.items()})

    def _send(self, step: int, values: Row) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        if self._service is not None:
            self._service.log(values, step)

    def _keep_steps(self, last: int) -> list[str]:
        """Drop the rows of steps.csv after an iteration, and one that is not whole; its columns, if any."""
        path = self.folder / _STEPS
        head, *lines = path.read_text().splitlines() if path.is_file() else [""]
        whole = [line for line in lines if line.count(",") == head.count(",") and line.partition(",")[0].isdecimal()]
        kept = [line for line in whole if int(line.partition(",")[0]) <= last]
        if not kept:
            path.unlink(missing_ok=True)
            return []
        write_text(path, "\n".join([head, *kept, ""]), RESUME)
        return head.split(",")

    def add_pictures(self, step: int, paths: Iterable[Path]) -> None:
        """Add pictures to the events, made smaller where they are large."""
        for path in paths:
            with Image.open(path) as picture:
                shown = picture.convert("RGB")
            shown.thumbnail((_PICTURE, _PICTURE))
            self._writer.add_image(f"images/{path.stem}", np.asarray(shown), step, dataformats="HWC")

    def note(self, step: int, name: str, text: str) -> None:
        """Add what was done to the method after so many steps to the events."""
        self._writer.add_text(f"actions/{name}", text, step)
        self._writer.flush()

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write results.json and close the events."""
        write_json(self.folder / RESULTS, results, RESUME)
        self.close()

    def close(self) -> None:
        """Close the events file."""
        self._writer.close()
        if self._service is not None:
            self._service.close()
            self._service = None

    def _write_csv(self) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))

        def write(path: Path) -> None:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows({k: _short(v) for k, v in row.items()} for row in self.rows)

        write_atomically(self.folder / "results.csv", write)


def scores_row(scores: Mapping[str, Scores]) -> dict[str, float]:
    """The columns of an evaluation: student_METRIC, student/OTHER and so on; what is not defined has no value."""
    row: dict[str, float] = {}
    for name, found in scores.items():
        row[f"{name}_{found.metric}"] = found.value
        others = {**found.extra, "threshold": found.threshold}
        row |= {f"{name}/{key}": value for key, value in others.items() if value is not None}
    return row


def read_rows(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's results.csv; none if there is no such file yet.

    Raises:
        DataError: it was changed or is damaged.
    """
    path = folder / "results.csv"
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            rows = [{k: float(v) for k, v in row.items() if v not in ("", None)} for row in csv.DictReader(file)]
        return sorted(({**row, "iteration": int(row["iteration"])} for row in rows), key=lambda row: row["iteration"])
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} cannot be read ({reason}). semikit train writes it; restore or remove it.") from None


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw metric, losses and share of confident positions against the iteration."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {
        "metric (%)": [n for n in rows[-1] if n.startswith(("student_", "teacher_")) and "/" not in n],
        "loss": [n for n in rows[-1] if n.startswith("loss")],
        "confident, right (share)": [n for n in rows[-1] if n in ("confident", "pseudo_accuracy", "reliability")],
    }
    panels = {title: names for title, names in panels.items() if names}
    figure = Figure(figsize=(4.6 * len(panels), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name in names:
            points = [(row["iteration"], row[name]) for row in rows if name in row]
            label, size = name.replace("_", " "), 3
            if len(points) == 1:  # a point alone has no line that shows where it lies
                label, size = f"{label} {points[0][1]:.4g}", 8
            axes.plot(*zip(*points, strict=True), marker="o", markersize=size, label=label)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("iteration")
        if len(rows) == 1:
            axes.set_xticks([rows[0]["iteration"]])
            axes.margins(y=0.5)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))


def _short(value: float) -> float | int:
    # Rounded first: what is read back and written again has to be the same text.
    short = float(value) if float(value).is_integer() else float(f"{value:.6g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short
