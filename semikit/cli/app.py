"""The commands, and what their errors become: a sentence and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from semikit import __version__
from semikit.cli import (
    audit,
    benchmark,
    budget,
    data,
    demo,
    evaluate,
    export,
    listing,
    own_data,
    polygons,
    predict,
    rank,
    report,
    reproduce,
    train,
)
from semikit.cli.output import says_the_end
from semikit.errors import INTERRUPTED, InputError, RunError, SemikitError

app = typer.Typer(
    name="semikit",
    help="Few labels, many images: semi-supervised segmentation, change detection and classification, UniMatch V2.",
    epilog="--verbose, with any command, shows the traceback of an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"semikit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    pass


app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("polygons")(polygons.polygons)
app.command("rank")(rank.rank)
app.command("audit")(audit.audit)
app.command("report")(report.report)
app.command("budget", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(budget.budget)
app.command("list")(listing.list_names)
for command in (own_data.init, own_data.check, own_data.convert):
    data.data_app.command()(command)
app.add_typer(data.data_app, name="data")
app.command("reproduce")(reproduce.reproduce)
app.command("benchmark")(benchmark.benchmark)
app.command("demo")(demo.demo)


_LONG = 200
"""Characters of a path that are shown."""
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_PLACE = {
    errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR,
    errno.EINVAL,
}  # fmt: skip
"""Of a file that was named: it is not where or not what it should be."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code.

    0 done; 2 the user's input is wrong; 1 a fault of semikit's; 3 the run could not go on; 130 interrupted. `--verbose`
    anywhere shows the traceback of any error.
    """
    verbose = "--verbose" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files may hold what the terminal's alphabet has not
            stream.reconfigure(errors="backslashreplace")
    try:
        app([item for item in arguments if item != "--verbose"], obj=list(arguments))
    except SystemExit as end:  # typer has printed its own messages (usage, --help), but none of an interruption
        _tell_interrupted(end.code)
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt:
        _tell_interrupted(INTERRUPTED)
        return INTERRUPTED
    except Exception as error:
        if verbose:
            traceback.print_exc()
        return _tell(error)
    return 0


def _tell_interrupted(code: object) -> None:
    if code == INTERRUPTED and says_the_end():
        Console(stderr=True).print("[bold]stopped:[/bold] interrupted.", highlight=False)


def _reported_elsewhere(error: SemikitError) -> bool:
    """Whether another process reports it: the first, or for wrong input the first of each machine."""
    if os.environ.get("RANK", "0") == "0":
        return False
    return error.of_all or (isinstance(error, InputError) and os.environ.get("LOCAL_RANK") != "0")


def _tell(error: Exception) -> int:
    """One message on stderr; returns the exit code that goes with it."""
    if isinstance(error, OSError) and error.errno in _DISK:
        error = RunError(
            f"the disk did not take what was written: {error}. Free space on it, then go on with --resume."
        )
    if isinstance(error, OSError) and error.errno in _PLACE and error.filename is not None:
        name = str(error.filename)
        shown = name if len(name) <= _LONG else f"{name[:_LONG]}…"
        error = InputError(f"{shown}: {error.strerror}. Check the path, and that it may be read and written.")
    if isinstance(error, SemikitError):
        if _reported_elsewhere(error):
            return error.exit_code
        code, word, text = error.exit_code, "stopped" if error.exit_code == INTERRUPTED else "error", str(error)
    else:
        where = getattr(error, "semikit_log", None)
        hint = f"The traceback is in {where}." if where else "Run again with --verbose for the traceback."
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        code, word, text = 1, "a fault in semikit", f"{first}. {hint}"
    Console(stderr=True).print(f"[bold]{word}:[/bold] {escape(text)}", soft_wrap=True, highlight=False)
    return code
