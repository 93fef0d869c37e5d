"""What `semikit benchmark cls` measures and shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from semikit.benchmark import parts
from semikit.cli.step_table import fill_rows

if TYPE_CHECKING:
    from semikit.benchmark.class_steps import AugmentSpeed, ClassTimes
    from semikit.config import Config

_WARMUP, _WARMUP_COMPILED = 1, 3


def class_config(above: Mapping[str, Any]) -> Config:
    """The configuration whose step is measured."""
    from semikit.benchmark.class_workload import configure_classes

    return configure_classes(above)


def measure_classes(
    config: Config, classes: int, repeats: int, against: str | None, clock: str, console: Console
) -> dict[str, Any]:
    """Steps, and RandAugment of a step's unlabelled images and of the recipe's 448 beside PIL's loop; as plain values.

    Raises:
        InputError: where the step cannot be measured.
    """
    from semikit.benchmark.class_steps import measure_augment, measure_class_steps
    from semikit.benchmark.watch import CLOCKS
    from semikit.training.device import choose_device

    train, views = config.train, config.views
    warmup = _WARMUP_COMPILED if train.compile else _WARMUP
    times = measure_class_steps(config, classes, repeats, warmup, against, CLOCKS[clock])
    console.print(_table(times, repeats, config.method_name))
    device = choose_device(train.device)
    sizes = sorted({train.batch * train.ratio, 448})
    speeds = [measure_augment(views.strong, size, repeats, device, CLOCKS[clock]) for size in sizes]  # type: ignore[attr-defined]
    console.print(_speeds(speeds))
    return {f"step, {config.method_name}": times.as_plain(), "RandAugment": [speed.as_plain() for speed in speeds]}


def _table(times: ClassTimes, repeats: int, method: str) -> Table:
    table = Table(box=None, header_style="bold", title=f"{method}, medians of {repeats}", title_justify="left")
    fill_rows(table, times.seconds)
    lines = []
    if times.ratio is not None:
        (other,) = (name for name in times.seconds if name != "semikit")
        lines.append(f"{other} / semikit {times.ratio:.3f}, without augment {times.ratio_without_augment:.3f}")
        lines[0] += " (medians of the pairs)"
    for name, seconds in times.seconds.items():
        rate = 1 / seconds[parts.STEP]
        clocks = f"wall {times.wall[name]:.4f} s, cpu {times.cpu[name]:.4f} s"
        lines.append(f"{name}: {rate:.2f} steps/s, {rate * times.images:.1f} images/s; {clocks}")
    table.caption, table.caption_justify = "\n".join(lines), "left"
    return table


def _speeds(speeds: list[AugmentSpeed]) -> Table:
    table = Table(box=None, header_style="bold", title="RandAugment and Cutout, images/s", title_justify="left")
    for column in ("images", "semikit", "PIL, one by one", "semikit / PIL"):
        table.add_column(column, justify="right")
    for speed in speeds:
        table.add_row(f"{speed.batch}", f"{speed.semikit:.0f}", f"{speed.pil:.0f}", f"{speed.ratio:.2f}")
    return table
