"""A run beside the paper: the cells its configuration is that of, measured against published, early epochs and logs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from semikit.errors import DataError, InputError
from semikit.reproduce.cells import Cell, command
from semikit.reproduce.plan import composed
from semikit.reproduce.tables import Early, Reports, read_logs
from semikit.run.config import resolve
from semikit.run.recipes import difference, read_yaml
from semikit.training.tracking import read_rows

NETWORKS = ("student", "teacher")
_FREE = {
    "data": ("split_seed",),
    "evaluate": ("batch",),
    "train": (
        "accumulate", "compile", "device", "eval_every", "log_every", "max_bad_files", "max_skipped", "precision",
        "save_every", "seed", "select", "workers",
    ),
}  # fmt: skip
"""What does not change which cell a run is of: where and how fast it trains, what it draws, when it is evaluated."""

_PLACE = ("root", "download")
"""Where the files of a published data set come from."""


@final
@dataclass(frozen=True, slots=True)
class Score:
    """One published value and the measured one, percent; None where the run has none."""

    cell: Cell
    metric: str
    published: float
    measured: float | None


@final
@dataclass(frozen=True, slots=True)
class EpochRow:
    """After an epoch: what the run had, and the authors' log."""

    epoch: int
    measured: Mapping[str, float]
    logged: Early | None


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """A run folder and the cells it is a run of; with `differences` these are the nearest ones, not equal."""

    folder: Path
    finished: bool
    cells: Sequence[Cell]
    differences: Sequence[str]
    scores: Sequence[Score] = field(default=())
    early: Sequence[EpochRow] = field(default=())


def compare(folder: Path, among: Sequence[Cell]) -> Comparison:
    """A run folder beside the cells it may be a run of.

    Raises:
        InputError: when it is no run folder, or no cell can be compared with it.
        DataError: when its results cannot be read.
    """
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder} is no run folder: it has no config.yaml. Give a folder made by semikit train.")
    run = comparable(resolve(read_yaml(folder / "config.yaml")).to_raw())
    found, differences = nearest(run, among)
    rows, finished = read_rows(folder), _finished(folder)
    metric = next(iter(found[0].values))
    scores = [
        Score(cell, name, value, best(rows, cell.reports, metric, name))
        for cell in found
        for name, value in cell.values.items()
        if finished
    ]
    return Comparison(folder, finished, found, differences, scores, _early(rows, found, metric))


def comparable(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration without what does not matter, so that equal ones train the same."""
    compared = {key: value for key, value in raw.items() if key != "name"}
    for section, keys in _FREE.items():
        compared[section] = {key: value for key, value in compared[section].items() if key not in keys}
    if isinstance(known := compared["data"].get("published"), Mapping):
        compared["data"]["published"] = {key: value for key, value in known.items() if key not in _PLACE}
    plain: dict[str, Any] = json.loads(json.dumps(compared))
    return plain


def nearest(run: Mapping[str, Any], among: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """The cells that are configured as a run is; where there are none the nearest, and what differs (cell -> run).

    Raises:
        InputError: when none of the cells can be trained yet.
    """
    known: dict[str, str] = {}  # by command: many cells are the same training, and resolving takes time
    groups: dict[str, list[Cell]] = {}
    for cell in among:
        if cell.waits is None:
            if (line := command(cell)) not in known:
                known[line] = json.dumps(comparable(resolve(composed(cell)).to_raw()))
            groups.setdefault(known[line], []).append(cell)
    if not groups:
        raise InputError("none of these cells can be trained yet, so no run can be one of them.")
    found = min(groups, key=lambda text: len(difference(json.loads(text), run)))
    return groups[found], difference(json.loads(found), run)


def best(rows: Sequence[Mapping[str, float]], reports: Reports, metric: str, wanted: str) -> float | None:
    """The value of `wanted` at the best evaluation by `metric` of the network that is reported; None without any."""
    networks = NETWORKS if reports == "better" else (reports,)
    found = [(row[f"{name}_{metric}"], name, row) for row in rows for name in networks if f"{name}_{metric}" in row]
    found = [item for item in found if math.isfinite(item[0])]
    if not found:
        return None
    value, name, row = max(found, key=lambda item: item[0])
    return value if wanted == metric else row.get(f"{name}/{wanted}")


def _early(rows: Sequence[Mapping[str, float]], found: Sequence[Cell], metric: str) -> list[EpochRow]:
    """The epochs the log tells of, and whatever the run has of the first ten."""
    logs = read_logs().early
    logged = next((logs[cell.id] for cell in found if cell.id in logs), {})
    measured: dict[int, dict[str, float]] = {}
    for row in rows:
        epoch = round(row.get("epoch", 0.0))
        if epoch and abs(row["epoch"] - epoch) < 0.02 and (epoch <= 10 or epoch in logged):
            names = {"student": f"student_{metric}", "teacher": f"teacher_{metric}", "confident": "confident"}
            measured[epoch] = {name: row[column] for name, column in names.items() if column in row}
    return [EpochRow(epoch, measured.get(epoch, {}), logged.get(epoch)) for epoch in sorted({*measured, *logged})]


def _finished(folder: Path) -> bool:
    """Whether the run came to its end."""
    path = folder / "results.json"
    if not path.is_file():
        return False
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}. It is written by semikit train.") from error
    return True
