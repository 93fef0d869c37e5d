"""The tables of `semikit benchmark`: the split of a step, its ratios and speed; RandAugment."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING

from rich.table import Table

from benchmarks.step import parts

if TYPE_CHECKING:
    from benchmarks.step.augment_speed import AugmentSpeed
    from benchmarks.step.steps import Measured, Speed


def step_table(title: str, measured: Measured, repeats: int) -> Table:
    """The split, form by form; below it what follows from it."""
    table = Table(box=None, header_style="bold", title=f"{title}, medians of {repeats}", title_justify="left")
    _fill(table, measured.times.seconds)
    lines = [*_ratios(measured), *_rates(measured), *_speed(measured.speed)]
    if measured.trace is not None:
        lines.append(measured.trace.told())
    table.caption, table.caption_justify = "\n".join(lines), "left"
    return table


def _fill(table: Table, forms: Mapping[str, Mapping[str, float]]) -> None:
    """A row for each part that any form has: its seconds and its share of the step, form by form."""
    table.add_column("")
    for name in forms:
        table.add_column(f"{name}, s", justify="right")
        table.add_column("share", justify="right")
    for name in (*parts.ORDER, parts.STEP, parts.LOADER):
        cells = [_cells(form, name) for form in forms.values()]
        if any(any(pair) for pair in cells):
            table.add_row(name, *(cell for pair in cells for cell in pair))


def _cells(form: Mapping[str, float], name: str) -> tuple[str, str]:
    """Seconds and share of a part; empty where this form does not have it."""
    if name not in form:
        return "", ""
    return f"{form[name]:.4f}", "" if name == parts.LOADER else f"{100 * form[name] / form[parts.STEP]:.1f} %"


def _ratios(measured: Measured) -> list[str]:
    ratios, other = measured.times.ratios, measured.times.other
    if ratios is None or other is None:
        return []
    line = f"{other} / semikit: {median(ratios.step):.3f} the step alone, {median(ratios.with_views):.3f} with views"
    if parts.LOADER in measured.times.seconds[other]:
        line += f", {median(ratios.one_core):.3f} where one core loads too"
    return [f"{line} (medians of the pairs)"]


def _rates(measured: Measured) -> list[str]:
    """Each form's precision, speed and bytes."""
    times, lines = measured.times, []
    for name, seconds in times.seconds.items():
        rate = 1 / seconds[parts.STEP]
        clocks = f"wall {times.wall[name]:.4f} s, cpu {times.cpu[name]:.4f} s"
        moved = f"{times.moved[name] / 1e6:.3f} MB moved a step"
        speed = f"{rate:.2f} steps/s, {rate * times.images:.1f} images/s"
        lines.append(f"{name}, {measured.precisions[name]}: {speed}; {clocks}; {moved}")
    return lines


def _speed(speed: Speed) -> list[str]:
    share = f", {100 * speed.share_of_peak:.1f} % of {speed.peak.tflops:.4g} TFLOP/s ({speed.peak.source})"
    return [
        f"semikit without a stopwatch: {1000 * speed.seconds:.1f} ms a step, {speed.images_per_second:.1f} images/s; "
        f"{speed.step_tflop:.4g} TFLOP a step, {speed.tflops:.4g} TFLOP/s{share}; memory {speed.memory / 2**20:.0f} MiB"
    ]


def augment_table(speeds: list[AugmentSpeed]) -> Table:
    """Images a second by size of the batch."""
    table = Table(box=None, header_style="bold", title="RandAugment and Cutout, images/s", title_justify="left")
    for column in ("images", "semikit", "PIL, one by one", "semikit / PIL"):
        table.add_column(column, justify="right")
    for speed in speeds:
        table.add_row(f"{speed.batch}", f"{speed.semikit:.0f}", f"{speed.pil:.0f}", f"{speed.ratio:.2f}")
    return table
