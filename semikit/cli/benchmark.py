"""`semikit benchmark`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from semikit import recipes
from semikit.benchmark import parts
from semikit.cli import options as o
from semikit.cli.json_file import check_json, write_json
from semikit.errors import InputError, unknown

if TYPE_CHECKING:
    from semikit.benchmark.loading import LoadingSpeed
    from semikit.benchmark.steps import StepTimes

_REPEATS, _WARMUP, _WARMUP_COMPILED = 9, 1, 3


def benchmark(
    task: Annotated[str, typer.Argument(help="seg")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value …", metavar="[KEY=VALUE]...")] = None,
    encoder: Annotated[str | None, typer.Option(help="semikit list models; random weights.")] = None,
    crop: Annotated[str, typer.Option(help="Sides of the crops, pixels: 126,266")] = "126,266",
    batch: Annotated[int, typer.Option(min=1, help="Labelled images per step.")] = 2,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 21,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    repeats: Annotated[int | None, typer.Option(min=1, help="Measured steps (default: 9).")] = None,
    against: Annotated[str | None, typer.Option(help="naive: a plain form of the step, by turns.")] = None,
    loader: Annotated[Path | None, typer.Option(help="Measure loading instead, from the data of this YAML.")] = None,
    items: Annotated[int, typer.Option(min=1, help="Crops measured with --loader.")] = 320,
    clock: Annotated[str, typer.Option(help="wall | cpu: this process's share, on a machine others use too.")] = "wall",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers as JSON.")] = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="torch.compile the training step.")] = None,
) -> None:
    """Time a training step and its parts, or the loader.

    semikit benchmark seg --crop 126,266 --against naive
    """
    if task != "seg":
        raise unknown("task to benchmark", task, ["seg"])
    if against not in (None, "naive"):
        raise unknown("--against", against, ["naive"])
    if clock not in ("wall", "cpu"):
        raise unknown("--clock", clock, ["wall", "cpu"])
    if loader is not None:
        _only_with_steps(against=against, repeats=repeats, compile=compile_)
    check_json(json_file)
    flags = {"encoder": encoder, "batch": batch, "device": device, "precision": precision, "compile": compile_}
    above = recipes.merge(o.flag_overrides(flags), recipes.parse_overrides(overrides or []))
    sides = parse_crops(crop)
    from semikit.benchmark.environment import environment
    from semikit.benchmark.steps import threads as threads_of

    console = Console()
    with threads_of(threads):
        found: dict[str, Any] = {"environment": {**environment(_config(above, sides[0])), "clock": f"{clock} time"}}
        console.print(" · ".join(found["environment"].values()), highlight=False, markup=False, soft_wrap=True)
        for side in sides:
            if loader is not None:
                found[f"loader, crop {side}"] = _loader(loader, above, side, items, clock, console)
            else:
                found[f"step, crop {side}"] = _steps(above, side, classes, repeats or _REPEATS, against, clock, console)
    if json_file is not None:
        write_json(json_file, found)


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


def _steps(
    above: Mapping[str, Any], side: int, classes: int, repeats: int, against: str | None, clock: str, console: Console
) -> dict[str, Any]:
    from semikit.benchmark.steps import measure_steps
    from semikit.benchmark.watch import CLOCKS

    config = _config(above, side)
    warmup = _WARMUP_COMPILED if config.train.compile else _WARMUP
    times = measure_steps(config, classes, repeats, warmup, against == "naive", CLOCKS[clock])
    console.print(_step_table(times, repeats))
    return times.as_plain()


def _step_table(times: StepTimes, repeats: int) -> Table:
    table = Table(box=None, header_style="bold", title=f"crop {times.crop}, medians of {repeats}", title_justify="left")
    forms = {"semikit": times.current} if times.naive is None else {"semikit": times.current, "naive": times.naive}
    table.add_column("")
    for name in forms:
        table.add_column(f"{name}, s", justify="right")
        table.add_column("share", justify="right")
    for name in (*parts.ORDER, parts.STEP):
        cells = [_cells(form, name) for form in forms.values()]
        if any(any(pair) for pair in cells):
            table.add_row(name, *(cell for pair in cells for cell in pair))
    ratio = "" if times.ratio is None else f"naive / semikit {times.ratio:.3f} (median of the pairs)\n"
    table.caption = f"{ratio}views of a step, not counted above: {times.views:.4f} s"
    table.caption_justify = "left"
    return table


def _cells(form: Mapping[str, float], name: str) -> tuple[str, str]:
    """Seconds and share of a part; empty where this form does not have it."""
    if name not in form:
        return "", ""
    return f"{form[name]:.4f}", f"{100 * form[name] / form[parts.STEP]:.1f} %"


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
