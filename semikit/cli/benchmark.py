"""`semikit benchmark`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from semikit.cli import options as o
from semikit.cli.demo import DEMOS
from semikit.cli.output import check_json, write_json
from semikit.errors import InputError
from semikit.run import recipes
from semikit.run.compose import asked

if TYPE_CHECKING:
    from semikit.benchmark import LoaderSpeed, StepSpeed

_WARMUP, _WARMUP_COMPILED = 2, 4


def benchmark(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="seg | cd | cls")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value …", metavar="[KEY=VALUE]...")] = None,
    dataset: o.Dataset = None,
    data: o.Data = None,
    root: o.Root = None,
    labels: Annotated[str | None, typer.Option(help="How many or which are labelled: 46 | 1/8 | 10% | FILE.")] = None,
    method: Annotated[str | None, typer.Option(help="semikit list methods (default: unimatch_v2)")] = None,
    encoder: Annotated[str | None, typer.Option(help="semikit list models; random weights.")] = None,
    decoder: Annotated[str | None, typer.Option(help="dpt | deeplabv3plus | pspnet")] = None,
    config: Annotated[Path | None, typer.Option(help="A whole recipe as YAML, or a run's config.yaml.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="A recipe by name (semikit list presets), or auto: chosen by your data.")
    ] = None,
    synthetic: Annotated[
        bool,
        typer.Option("--synthetic", help="Built-in images in place of the recipe's (default where it names none)."),
    ] = False,
    crop: Annotated[int | None, typer.Option(help="Side of the training crop, pixels.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Labelled images per step.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that decode and crop (with --loader).")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Measured steps.")] = 20,
    loader: Annotated[bool, typer.Option("--loader", help="Measure the making of batches instead of steps.")] = False,
    peak: Annotated[
        float | None, typer.Option(min=0.001, help="TFLOP/s of the device (default: its data sheet's, else measured).")
    ] = None,
    profile: Annotated[Path | None, typer.Option(help="Write torch's trace of a few steps into this file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers as JSON.")] = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile_: Annotated[
        bool | None, typer.Option("--compile", help="torch.compile the step (train.compile=default).")
    ] = None,
    against: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time the training step of a configuration and its parts, or its loader; nothing is written.

    semikit benchmark seg --data my.yaml --encoder dinov2-base --precision bf16 --compile
    """
    if against is not None:
        command = shlex.join(["python", "-m", "benchmarks.step", *context.obj[1:]])
        raise InputError(f"the step of public code is measured from the repository's folder: {command}")
    if loader and (peak is not None or profile is not None):
        raise InputError("--loader measures the loader, not steps; leave out --peak and --profile.")
    if profile is not None and (profile.is_dir() or not profile.parent.is_dir()):
        raise InputError(
            f"cannot write to {profile}: it is a folder, or its folder does not exist. Choose another --profile."
        )
    check_json(json_file)
    given = {
        "dataset": dataset, "data": data, "root": root, "config": config, "preset": preset, "labels": labels,
        "method": method, "encoder": encoder, "decoder": decoder, "crop": crop, "batch": batch, "workers": workers,
        "device": device, "precision": precision, "compile": compile_,
        "settings": recipes.parse_overrides(overrides or []),
    }  # fmt: skip
    raw, _ = asked(task, **{name: value for name, value in given.items() if value is not None})
    raw = recipes.merge(raw, {"model": {"weights": "none"}})
    if synthetic and labels is not None:
        raise InputError("--synthetic has labels of its own; leave out --labels.")
    if synthetic or not set(raw.get("data") or ()) - {"labels", "unlabeled", "stratify"}:
        raw |= {"name": "synthetic", "data": _built_in(task)}
    _measure(raw, steps, loader, peak, profile, json_file)


def _built_in(task: str) -> dict[str, Any]:
    """The section `data` of the task's built-in images."""
    section: dict[str, Any] = recipes.read_recipe("datasets", DEMOS[task][0], task)["data"]
    return section


def _measure(
    raw: dict[str, Any], steps: int, loader: bool, peak: float | None, profile: Path | None, json_file: Path | None
) -> None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler says on stderr that there is no GPU
    from semikit import benchmark as speed
    from semikit.run.config import resolve

    config, console = resolve(raw), Console()
    where = speed.environment(config)
    console.print(" · ".join(where.values()), highlight=False, markup=False, soft_wrap=True)
    if loader:
        measured = speed.measure_loader(config, steps)
        console.print(_loader_line(measured), highlight=False, soft_wrap=True)
        found = {"environment": where, "loader": measured.as_plain()}
    else:
        warmup = _WARMUP_COMPILED if config.train.compiled else _WARMUP
        step = speed.measure_step(config, steps, warmup, peak, profile)
        console.print(_step_table(step, f"{config.method_name}, mean of {steps} steps"))
        console.print("\n".join(_step_lines(step)), highlight=False, soft_wrap=True)
        found = {"environment": where, "step": step.as_plain()}
    if json_file is not None:
        write_json(json_file, found)


def _step_table(step: StepSpeed, title: str) -> Table:
    """The parts and what they leave."""
    table = Table(box=None, header_style="bold", title=title, title_justify="left")
    for column in ("", "ms", "share"):
        table.add_column(column, justify="right" if column else "left")
    rest = max(step.seconds - sum(step.parts.values()), 0.0)
    for name, seconds in {**step.parts, "the rest": rest, "whole step": step.seconds}.items():
        table.add_row(name.removeprefix("semikit "), f"{1000 * seconds:.1f}", f"{100 * seconds / step.seconds:.1f} %")
    return table


def _step_lines(step: StepSpeed) -> list[str]:
    share = f"{100 * step.share_of_peak:.1f} % of {step.peak.tflops:.4g} TFLOP/s ({step.peak.source})"
    lines = [
        f"{step.steps_per_second:.2f} steps/s, {step.images_per_second:.1f} images/s; "
        f"memory {step.memory / 2**20:.0f} MiB",
        f"{step.tflop:.4g} TFLOP a step, {step.tflops:.4g} TFLOP/s, {share}",
    ]
    if step.waits is not None:
        lines.append(
            f"in {step.waits.steps} steps the host waited in {step.waits.waits} calls, {step.waits.pageable} copies to "
            f"the device from memory that is not page-locked, {step.waits.to_host} copies back"
        )
    return lines


def _loader_line(measured: LoaderSpeed) -> str:
    return (
        f"loader, {measured.workers or 'no'} workers: {1000 * measured.seconds:.1f} ms a step, "
        f"{measured.images_per_second:.1f} images/s; first batch after {measured.first_batch:.2f} s"
    )
