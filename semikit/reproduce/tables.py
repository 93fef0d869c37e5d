"""The files of `configs/paper`: one table or figure each, the recipes their rows share, the authors' logs. No torch."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Literal, Self, final

from pydantic import BeforeValidator, Field, model_validator

from semikit.errors import unknown
from semikit.run.recipes import RECIPES, read_yaml
from semikit.settings.base import Settings
from semikit.settings.messages import validate

PAPER = RECIPES / "paper"

Reports = Literal["teacher", "student", "better"]
"""Whose score the paper reports: the EMA teacher's, the student's, or the better one."""
Values = tuple[float | None, ...] | dict[str, tuple[float | None, ...]]


def _texts(raw: Any) -> Any:
    return {key: tuple(str(item) for item in value) for key, value in raw.items()} if isinstance(raw, dict) else raw


@final
class Row(Settings):
    """One way to train; a value for each column, null where the paper has none."""

    settings: dict[str, Any] = Field(default_factory=dict)
    """Overrides of the configuration."""
    recipe: str | None = None
    """What the row shares with others, by name in `recipes.yaml`."""
    values: Values
    """By column; with several metrics by metric and column."""
    all: float | None = None
    """The value with every image labelled, a column of its own."""
    reports: Reports | None = None
    """Whose score; null: as the recipe or the table says."""
    note: str = ""
    """What a reader has to know."""


@final
class Reference(Settings):
    """A row of another paper: values for comparison, nothing to train."""

    method: str
    """As the paper has it."""
    encoder: str = ""
    """As the paper has it."""
    values: Values
    """As in a row."""


@final
class Table(Settings):
    """A table or figure of the paper."""

    title: str
    """What it shows."""
    task: str
    """Of `semikit train`."""
    metrics: tuple[str, ...]
    """Names of the values."""
    columns: Annotated[dict[str, tuple[str, ...]], BeforeValidator(_texts)]
    """Data set -> its splits: as in --labels official:SPLIT, or `all`; for images of one class each as in --labels."""
    seeds: tuple[int, ...] = ()
    """Each column once for every seed."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Overrides below those of all rows."""
    reports: Reports = "teacher"
    """Whose score."""
    rows: dict[str, Row]
    """By name."""
    references: tuple[Reference, ...] = ()
    """Rows of other papers."""

    @property
    def places(self) -> list[tuple[str, str, int | None]]:
        """Data set, split and seed of each column, in order."""
        pairs = [(dataset, split) for dataset, splits in self.columns.items() for split in splits]
        return [(*pair, seed) for pair in pairs for seed in (self.seeds or (None,))]

    def scores(self, values: Values) -> dict[str, tuple[float | None, ...]]:
        """Values by metric and column."""
        return values if isinstance(values, dict) else {self.metrics[0]: values}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        rows = {name: row.values for name, row in self.rows.items()}
        for name, values in [*rows.items(), *((item.method, item.values) for item in self.references)]:
            scores = self.scores(values)
            if tuple(scores) != self.metrics or any(len(found) != len(self.places) for found in scores.values()):
                raise ValueError(f"row {name}: needs {len(self.places)} values for each of {', '.join(self.metrics)}")
        return self


@lru_cache
def table_names() -> tuple[str, ...]:
    """All tables, then all figures, by number: table1 … figure6."""
    found = [match for path in PAPER.glob("*.yaml") if (match := re.fullmatch(r"(table|figure)0*(\d+)", path.stem))]
    return tuple(f"{match[1]}{match[2]}" for match in sorted(found, key=lambda m: (m[1] != "table", int(m[2]))))


def table_name(given: str) -> str:
    """The name of a table from `table1`, `table01`, `1`, `fig5` or `figure5`.

    Raises:
        UnknownNameError: with all tables.
    """
    match = re.fullmatch(r"(tab(?:le)?|t|fig(?:ure)?|f)?[ ._-]?0*(\d+)", given.strip().lower())
    name = f"{'figure' if (match[1] or '').startswith('f') else 'table'}{match[2]}" if match else given
    if name not in table_names():
        raise unknown("table", given, table_names())
    return name


@lru_cache
def read_table(name: str) -> Table:
    """A table by its name (`table_names`)."""
    kind, number = re.fullmatch(r"([a-z]+)(\d+)", name).groups()  # type: ignore[union-attr]
    path = PAPER / (f"table{int(number):02}.yaml" if kind == "table" else f"{name}.yaml")
    return validate(Table, read_yaml(path), str(path))


@lru_cache
def shared_recipes() -> dict[str, dict[str, Any]]:
    """What rows share, by name: `any`, data sets, and `reports`."""
    return read_yaml(PAPER / "recipes.yaml")


@final
class Early(Settings):
    """Student, average (percent) and the epoch's share of confident pixels (0..1) after an epoch."""

    student: float
    """Of the metric."""
    teacher: float
    """Of the metric."""
    confident: float | None = None
    """Where the log gives it."""


@final
class Logs(Settings):
    """The authors' training logs, by cell."""

    early: dict[str, dict[int, Early]]
    """Epochs done -> scores."""
    best: dict[str, dict[Literal["student", "teacher"], float]]
    """Best of the run, where the log says more than the paper."""


@lru_cache
def read_logs() -> Logs:
    """The authors' training logs."""
    path = PAPER / "logs.yaml"
    return validate(Logs, read_yaml(path), str(path))
