"""The split of a step as a table."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from semikit.benchmark import parts


def fill_rows(table: Table, forms: Mapping[str, Mapping[str, float]]) -> None:
    """A row for each part that any form has: its seconds and its share of the step, form by form."""
    table.add_column("")
    for name in forms:
        table.add_column(f"{name}, s", justify="right")
        table.add_column("share", justify="right")
    for name in (*parts.ORDER, parts.STEP):
        cells = [_cells(form, name) for form in forms.values()]
        if any(any(pair) for pair in cells):
            table.add_row(name, *(cell for pair in cells for cell in pair))


def _cells(form: Mapping[str, float], name: str) -> tuple[str, str]:
    """Seconds and share of a part; empty where this form does not have it."""
    if name not in form:
        return "", ""
    return f"{form[name]:.4f}", f"{100 * form[name] / form[parts.STEP]:.1f} %"
