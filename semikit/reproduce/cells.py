"""The cells of the paper's tables that are a training of this system, and the command that trains each. No torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import yaml

from semikit.errors import InputError, unknown
from semikit.models.encoders.names import canonical
from semikit.registry import TASKS
from semikit.reproduce.tables import Reports, Row, Table, read_logs, read_table, shared_recipes, table_name, table_names
from semikit.run.recipes import merge

FILTERS = ("dataset", "split", "encoder", "method", "row", "column")
FLAGS: Mapping[str, str] = {
    "data.labels": "labels",
    "data.unlabeled": "unlabeled",
    "method.name": "method",
    "model.encoder": "encoder",
    "model.decoder": "decoder",
    "views.weak.crop": "crop",
    "train.batch": "batch",
    "train.epochs": "epochs",
    "train.iterations": "iterations",
    "train.seed": "seed",
    "train.protocol": "protocol",
}
"""Key of the configuration -> flag of `semikit train`."""


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """One number of the paper and the training it came from.

    `values` are the published ones by metric, percent; `overrides` lie over the data set's recipe.
    """

    table: str
    row: str
    column: str
    task: str
    dataset: str
    split: str
    values: Mapping[str, float]
    reports: Reports
    overrides: Mapping[str, Any] = field(hash=False)
    note: str = ""

    @property
    def id(self) -> str:
        """TABLE/ROW/COLUMN."""
        return f"{self.table}/{self.row}/{self.column}"

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.overrides["method"]["name"])

    @property
    def encoder(self) -> str:
        """Name of the encoder; empty where the recipe's is meant."""
        return str(self.overrides.get("model", {}).get("encoder", ""))

    @property
    def waits(self) -> str | None:
        """What has to be there before the cell can be trained."""
        known = self.task in TASKS.names()
        return None if known else f"waits for the {self.task} adapter (semikit train {self.task})"

    @property
    def logged(self) -> Mapping[str, float]:
        """Best of student and teacher in the authors' log, where it says more than the paper."""
        return {str(network): value for network, value in read_logs().best.get(self.id, {}).items()}


def cells(table: str | None = None, **filters: str | None) -> list[Cell]:
    """The cells of a table (all tables if None) that pass every filter of `FILTERS`.

    `table` may be a cell's id too, or TABLE/ROW.

    Raises:
        InputError: for a table or a value that is not there, with those that are.
    """
    name, *rest = (table or "").split("/", 2)
    wanted = {key: value for key, value in filters.items() if value is not None}
    for key, value in zip(("row", "column"), rest, strict=False):
        if wanted.setdefault(key, value) != value:
            raise InputError(f"--{key} {wanted[key]}, but the cell {table} is of {key} {value}. Leave out one of them.")
    names = [table_name(name)] if name else list(table_names())
    chosen = [cell for name in names for cell in _cells_of(name, read_table(name))]
    known = chosen
    for key, given in wanted.items():
        assert key in FILTERS, key
        value = _spelled(key, given)
        if value not in {getattr(cell, key) for cell in known}:
            raise unknown(key, given, {getattr(cell, key) for cell in known} - {""})
        chosen = [cell for cell in chosen if getattr(cell, key) == value]
    if not chosen:
        asked = ", ".join(f"{key} {value}" for key, value in wanted.items())
        raise InputError(f"no cell of {table or 'the paper'} has {asked}. Leave out one of them.")
    return chosen


def _spelled(key: str, given: str) -> str:
    if key == "encoder":
        return canonical(given)
    if key == "method":
        return given.replace("-", "_")
    return given.removeprefix("official:").replace("_", "/") if key == "split" else given


def _cells_of(name: str, table: Table) -> Iterable[Cell]:
    for row_name, row in table.rows.items():
        scores = table.scores(row.values)
        for index, place in enumerate(table.places):
            found = {metric: values[index] for metric, values in scores.items()}
            if values := {metric: value for metric, value in found.items() if value is not None}:
                yield _cell(name, table, row_name, row, place, values)
        if row.all is not None:
            (dataset,) = table.columns
            yield _cell(name, table, row_name, row, (dataset, "all", None), {table.metrics[0]: row.all})


def _cell(
    name: str, table: Table, row_name: str, row: Row, place: tuple[str, str, int | None], values: dict[str, float]
) -> Cell:
    dataset, written, seed = place
    split = written.removeprefix("official:")
    official = table.task != "cls" and split != "all"
    recipe = {} if row.recipe is None else shared_recipes().get(f"{row.recipe}-{split}", shared_recipes()[row.recipe])
    reports: Reports = row.reports or recipe.get("reports") or table.reports
    overrides: dict[str, Any] = {"method": {"name": "unimatch_v2"}}
    layers = (table.settings, recipe.get("any", {}), recipe.get(dataset, {}), row.settings)
    own = {"data": {"labels": f"official:{split}" if official else written}}
    for layer in (own, *layers):
        overrides = merge(overrides, _plain(layer))
    if reports != "teacher":
        overrides = merge(overrides, {"train": {"select": reports}})
    if seed is not None:
        overrides = merge(overrides, {"train": {"seed": seed}})
    parts = [dataset if len(table.columns) > 1 else "", split.replace("/", "_"), "" if seed is None else f"seed{seed}"]
    column = "-".join(part for part in parts if part)
    return Cell(name, row_name, column, table.task, dataset, split, values, reports, overrides, row.note)


def _plain(value: Any) -> Any:
    """Tuples as the lists that YAML knows."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def percent(value: float | None) -> str:
    """A value with one digit, or two where one would not be all of it; `-` for none."""
    return "-" if value is None else f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"


def command(cell: Cell) -> str:
    """The line for the shell that trains the cell: flags where there are flags, key=value for the rest."""
    words = ["semikit", "train", cell.task, "--dataset", cell.dataset]
    flat = dict(_flat(cell.overrides))
    for key, flag in FLAGS.items():
        if key in flat:
            value = flat.pop(key)
            for item in value if isinstance(value, list) else [value]:
                words += [f"--{flag}", str(item)]
    words += [f"{key}={_written(value)}" for key, value in flat.items()]
    return shlex.join(words)


def _flat(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _written(value: Any) -> str:
    """As YAML reads it back."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.strip().removesuffix("...").strip()
