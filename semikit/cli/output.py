"""What commands print or write: tables, a progress bar, JSON files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from semikit.errors import InputError
from semikit.files import json_text

if TYPE_CHECKING:
    from semikit.data.published.inputs import Progress


def says_the_end() -> bool:
    """Whether this process says how a command ended that was stopped: of several the first, of those that `--gpus`
    started the one that did.
    """
    job = os.environ.get("TORCHELASTIC_RUN_ID")
    if job is None:
        return os.environ.get("RANK", "0") == "0"
    from semikit.run.launch import LAUNCHED

    return os.environ["RANK"] == "0" and not job.startswith(LAUNCHED)


def check_json(path: Path | None) -> None:
    """Refuse a `--json` that cannot be written.

    Raises:
        InputError: there is no such folder, or the path is a folder.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"cannot write to {path}: it is a folder. Choose another --json.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"cannot write to {path}: there is no such folder. Choose another --json.")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Plain values as indented JSON.

    Raises:
        InputError: when the path cannot be written to (a full disk stays an OSError).
    """
    try:
        path.write_text(json_text(values), encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"cannot write to {path}: {error.strerror}. Choose another place.") from error


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Progress]:
    """Progress as a bar on a terminal, as nothing elsewhere or when `quiet`."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda what, done, total: None
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        tasks = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(escape(what), total=total or None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield show


_PIPE = 300
"""Columns where there is no terminal: what a script will read is not folded."""


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; names are shown as they are."""
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else _PIPE).print(table)
