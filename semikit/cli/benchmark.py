"""`semikit benchmark`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from semikit import recipes
from semikit.cli import options as o
from semikit.cli.benchmark_classes import class_config, measure_classes
from semikit.cli.json_file import check_json, write_json
from semikit.cli.step_table import fill_rows
from semikit.errors import InputError, unknown

if TYPE_CHECKING:
    from semikit.benchmark.loading import LoadingSpeed
    from semikit.benchmark.steps import StepTimes

_REPEATS, _WARMUP, _WARMUP_COMPILED = 9, 1, 3
_CROPS, _BATCH, _ITEMS = "126,266", 2, 320
_CLASSES = {"seg": 21, "cls": 10}
_FORMS = {"seg": ["naive"], "cls": ["contiguous", "naive"]}


def benchmark(
    task: Annotated[str, typer.Argument(help="seg | cls")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value …", metavar="[KEY=VALUE]...")] = None,
    encoder: Annotated[str | None, typer.Option(help="semikit list models; random weights.")] = None,
    crop: Annotated[str | None, typer.Option(help="seg: sides of the crops, pixels (default: 126,266).")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Labelled images per step (default: 2; cls: 8, with 56 others).")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Number of classes (default: 21; cls: 10).")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    repeats: Annotated[int | None, typer.Option(min=1, help="Measured steps (default: 9).")] = None,
    against: Annotated[
        str | None, typer.Option(help="naive: a plain form of the step, by turns; cls also: contiguous.")
    ] = None,
    loader: Annotated[Path | None, typer.Option(help="Measure loading instead, from the data of this YAML.")] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Crops measured with --loader (default: 320).")] = None,
    clock: Annotated[str, typer.Option(help="wall | cpu: this process's share, on a machine others use too.")] = "wall",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers as JSON.")] = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="torch.compile the training step.")] = None,
) -> None:
    """Time a training step and its parts, or the loader.

    semikit benchmark seg --crop 126,266 --against naive
    semikit benchmark cls --against naive method.name=unimatch_v2
    """
    _check(task, against, clock)
    if loader is not None:
        _only_with_steps(against=against, repeats=repeats, compile=compile_)
    if task == "cls":
        _only_with_crops(crop=crop, loader=loader, items=items)
    check_json(json_file)
    flags = {"encoder": encoder, "batch": batch, "device": device, "precision": precision, "compile": compile_}
    above = recipes.merge(o.flag_overrides(flags), recipes.parse_overrides(overrides or []))
    from semikit.benchmark.steps import threads as threads_of

    console, wanted = Console(), _Wanted(classes or _CLASSES[task], repeats or _REPEATS, against, clock)
    with threads_of(threads):
        if task == "cls":
            config = class_config(above)
            found = _told(config, clock, console)
            found |= measure_classes(config, wanted.classes, wanted.repeats, against, clock, console)
        else:
            above = recipes.merge({"train": {"batch": _BATCH}}, above)
            found = _pixels(above, parse_crops(_CROPS if crop is None else crop), wanted, loader, items, console)
    if json_file is not None:
        write_json(json_file, found)


@dataclass(frozen=True, slots=True)
class _Wanted:
    classes: int
    repeats: int
    against: str | None
    clock: str


def _check(task: str, against: str | None, clock: str) -> None:
    if task not in _FORMS:
        raise unknown("task to benchmark", task, list(_FORMS))
    if against is not None and against not in _FORMS[task]:
        raise unknown("--against", against, _FORMS[task])
    if clock not in ("wall", "cpu"):
        raise unknown("--clock", clock, ["wall", "cpu"])


def _pixels(
    above: Mapping[str, Any],
    sides: list[int],
    wanted: _Wanted,
    loader: Path | None,
    items: int | None,
    console: Console,
) -> dict[str, Any]:
    """Steps, or the loader, at each side of the crops."""
    found = _told(_config(above, sides[0]), wanted.clock, console)
    for side in sides:
        if loader is not None:
            found[f"loader, crop {side}"] = _loader(loader, above, side, items or _ITEMS, wanted.clock, console)
        else:
            found[f"step, crop {side}"] = _steps(above, side, wanted, console)
    return found


def _told(config: Any, clock: str, console: Console) -> dict[str, Any]:
    """Where the measurement is made, printed and for the file."""
    from semikit.benchmark.environment import environment

    found = {**environment(config), "clock": f"{clock} time"}
    console.print(" · ".join(found.values()), highlight=False, markup=False, soft_wrap=True)
    return {"environment": found}


def _only_with_crops(**given: object) -> None:
    wrong = [f"--{name}" for name, value in given.items() if value is not None]
    if wrong:
        raise InputError(f"cls is measured on images that live on the device; leave out {', '.join(wrong)}.")


def _only_with_steps(**given: object) -> None:
    wrong = [f"--{name}" for name, value in given.items() if value is not None]
    if wrong:
        raise InputError(f"--loader measures loading, not steps; leave out {', '.join(wrong)}.")


def parse_crops(text: str) -> list[int]:
    """`"126,266"` -> [126, 266].

    Raises:
        InputError: for anything but whole numbers above 0.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--crop takes whole numbers with commas between them, e.g. 126,266; got {text!r}.")
    return [int(part) for part in parts]


def _config(above: Mapping[str, Any], side: int) -> Any:
    from semikit.benchmark.workload import configure

    return configure(recipes.merge({"views": {"weak": {"crop": side}}}, above))


def _steps(above: Mapping[str, Any], side: int, wanted: _Wanted, console: Console) -> dict[str, Any]:
    from semikit.benchmark.steps import measure_steps
    from semikit.benchmark.watch import CLOCKS

    config, naive = _config(above, side), wanted.against == "naive"
    warmup = _WARMUP_COMPILED if config.train.compile else _WARMUP
    times = measure_steps(config, wanted.classes, wanted.repeats, warmup, naive, CLOCKS[wanted.clock])
    console.print(_step_table(times, wanted.repeats))
    return times.as_plain()


def _step_table(times: StepTimes, repeats: int) -> Table:
    table = Table(box=None, header_style="bold", title=f"crop {times.crop}, medians of {repeats}", title_justify="left")
    forms = {"semikit": times.current} if times.naive is None else {"semikit": times.current, "naive": times.naive}
    fill_rows(table, forms)
    ratio = "" if times.ratio is None else f"naive / semikit {times.ratio:.3f} (median of the pairs)\n"
    table.caption = f"{ratio}views of a step, not counted above: {times.views:.4f} s"
    table.caption_justify = "left"
    return table


def _loader(
    spec: Path, above: Mapping[str, Any], side: int, items: int, clock: str, console: Console
) -> list[dict[str, Any]]:
    from semikit.benchmark.loading import measure_loading
    from semikit.benchmark.watch import CLOCKS

    speeds: list[LoadingSpeed] = measure_loading(spec, _config(above, side).views.weak, items, CLOCKS[clock])
    table = Table(box=None, header_style="bold", title=f"loader, crop {side}, one process", title_justify="left")
    for column in ("stream", "items/s", "bytes/item"):
        table.add_column(column, justify="left" if column == "stream" else "right")
    for speed in speeds:
        table.add_row(speed.stream, f"{speed.items_per_second:.1f}", f"{speed.bytes_per_item}")
    console.print(table)
    return [speed.as_plain() for speed in speeds]
