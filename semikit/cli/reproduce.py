"""`semikit reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from semikit.cli import options as o
from semikit.cli.output import show_table
from semikit.errors import InputError, UnknownNameError
from semikit.files import shell_word
from semikit.reproduce.cells import Cell, cells, command, percent
from semikit.reproduce.tables import read_table, table_name, table_names
from semikit.run.compose import at_root, flag_overrides

if TYPE_CHECKING:
    from semikit.reproduce.compare import Comparison

FEW = 4
"""So many cells are shown with their whole plan."""
_DIFFERENCES = 12


def reproduce(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="table1 … table18, figure5, figure6, or a cell; with --compare: run folders.", metavar="[TABLE]"
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this split: 183, 1/16, all.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Only this encoder: dinov2-b.")] = None,
    method: Annotated[str | None, typer.Option(help="Only this method: unimatch_v2.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set: pascal.")] = None,
    row: Annotated[str | None, typer.Option(help="Only this row of the table.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells; of few the whole plan.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Put RUN… beside what was published.")] = False,
    root: Annotated[Path | None, typer.Option(help="Where the data lie.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder (default: runs/TASK/NAME-METHOD).")] = None,
    device: o.Device = None,
    precision: o.Precision = None,
    quiet: o.QuietFlag = False,
) -> None:
    """Train the paper's cells by name, or put a run beside them.

    semikit reproduce table1 --split 183 --encoder dinov2-b --dry-run
    """
    given = list(names or [])
    filters = {"split": split, "encoder": encoder, "method": method, "dataset": dataset, "row": row}
    if compare:
        table = given.pop(0) if given and _is_table(given[0]) else None
        _compare(given, cells(table, **filters))
        return
    if len(given) > 1:
        raise InputError(f"one table at a time, not {', '.join(given)}. Run folders go with --compare.")
    if not given and not any(filters.values()):
        if dry_run or root or out:
            raise InputError("which cell? Name a table (semikit reproduce lists them) and filters such as --split.")
        _tables()
        return
    found = cells(given[0] if given else None, **filters)
    if dry_run:
        _plans(found) if len(found) <= FEW else _list(found)
        return
    settings = flag_overrides({"device": device, "precision": precision})
    _train(_only(found), root, out, settings, quiet)


def _is_table(text: str) -> bool:
    """Whether a word before run folders is a table; a folder of that name goes first."""
    try:
        table_name(text.partition("/")[0])
    except UnknownNameError:
        return False
    return not Path(text).exists()


def _only(found: list[Cell]) -> Cell:
    if len(found) == 1:
        return found[0]
    shown = "\n  ".join(cell.id for cell in found[:20])
    more = f"\n  … and {len(found) - 20} more" if len(found) > 20 else ""
    raise InputError(
        f"{len(found)} cells match, and one is trained at a time. Add filters, name one cell as TABLE, or look at "
        f"them with --dry-run:\n  {shown}{more}"
    )


def _train(cell: Cell, root: Path | None, out: Path | None, settings: dict[str, Any], quiet: bool) -> None:
    """Train a cell as `semikit train` would."""
    from semikit.cli.console import make_reporter
    from semikit.reproduce.plan import composed, published
    from semikit.run.folder import new_folder
    from semikit.run.lifecycle import start_run
    from semikit.run.recipes import merge

    raw = merge(composed(cell), settings)
    if root is not None:
        raw = at_root(raw, root)
    console = Console(quiet=False)
    if not quiet:
        _say(console, f"{cell.id}, published {published(cell)}", command(cell))
    folder = new_folder(raw, out)
    start_run(raw, folder, lambda: make_reporter(console, quiet))
    _say(console, f"beside the paper: semikit reproduce --compare {shell_word(folder)}")


def _tables() -> None:
    rows = []
    for name in table_names():
        found = cells(name)
        rows.append([name, str(len(found)), read_table(name).title, found[0].waits or ""])
    show_table(["table", "cells", "", ""], rows)
    _say(Console(), "semikit reproduce TABLE --dry-run lists the cells of one.")


def _list(found: list[Cell]) -> None:
    """Cells with what was published, and rows of other papers in the same table."""
    show_table(
        ["cell", "published", ""], [[cell.id, _values(cell.values.values()), cell.waits or ""] for cell in found]
    )
    tables = {cell.table for cell in found}
    console = Console()
    for name in sorted(tables) if len(tables) == 1 else ():
        table = read_table(name)
        if table.references:
            _say(console, "", "Other papers', for reference:")
            for item in table.references:
                scores = " | ".join(_values(values) for values in table.scores(item.values).values())
                _say(console, f"  {' '.join((item.method, item.encoder)).strip()}: {scores}")
    _say(console, f"{len(found)} cells. With filters that leave up to {FEW}, the whole plan of each is shown.")


def _plans(found: list[Cell]) -> None:
    from semikit.reproduce.plan import facts, plan_cell, published

    console = Console()
    for cell in found:
        if cell.waits is None:
            lines = facts(plan_cell(cell))
        else:
            lines = {"published": published(cell), "note": cell.waits, "command": command(cell)}
        _say(console, cell.id, *(f"  {name:<11}{text}" for name, text in lines.items()), "")


def _compare(folders: list[str], among: list[Cell]) -> None:
    if not folders:
        raise InputError("--compare needs run folders: semikit reproduce --compare RUN…")
    from semikit.reproduce.compare import compare

    console = Console()
    for folder in folders:
        _tell(compare(Path(folder), among), console)


def _tell(found: Comparison, console: Console) -> None:
    _say(console, str(found.folder))
    if found.differences:
        ids = ", ".join(cell.id for cell in found.cells)
        _say(console, f"  is no cell of the paper. Nearest: {ids}; cell -> run:")
        _say(console, *(f"    {line}" for line in found.differences[:_DIFFERENCES]))
        if len(found.differences) > _DIFFERENCES:
            _say(console, f"    … and {len(found.differences) - _DIFFERENCES} more")
    if found.finished:
        rows = []
        for score in found.scores:
            gap = "" if score.measured is None else f"{score.measured - score.published:+.2f}"
            log = ", ".join(f"{name} {percent(value)}" for name, value in score.cell.logged.items())
            values = [
                f"{score.metric} {percent(score.published)}",
                _number(score.measured),
                gap,
                score.cell.reports,
                log,
            ]
            rows.append([score.cell.id, *values])
        show_table(["cell", "published", "measured", "", "network", "log"], rows)
    else:
        _say(console, "  is not finished (no results.json): only early epochs can be compared.")
    _early(found, console)
    _say(console, "")


def _early(found: Comparison, console: Console) -> None:
    if not found.early:
        _say(console, "  no evaluation at the end of one of the first ten epochs, and no log of the authors for it.")
        return
    rows = []
    for item in found.early:
        logged = {} if item.logged is None else item.logged.model_dump()
        cells = []
        for name, digits in (("student", 2), ("teacher", 2), ("confident", 3)):
            cells.append(f"{_number(item.measured.get(name), digits)} | {_number(logged.get(name), digits)}")
        rows.append([str(item.epoch), *cells])
    _say(console, "after an epoch: run | authors' log")
    show_table(["epoch", "student", "teacher", "confident"], rows)


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _values(values: Any) -> str:
    return " / ".join(percent(value) for value in values)


def _say(console: Console, *lines: str) -> None:
    """Lines as they are, not broken: they hold commands."""
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
