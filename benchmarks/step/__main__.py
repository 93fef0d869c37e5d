"""The step of training beside the form of public code: `python -m benchmarks.step TASK --against reference`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, final

import typer
from rich.console import Console

from benchmarks.step.tables import augment_table, step_table
from semikit.cli import options as o
from semikit.cli.output import check_json, write_json
from semikit.errors import InputError, SemikitError, unknown
from semikit.run import recipes
from semikit.run.compose import flag_overrides

_REPEATS, _WARMUP, _WARMUP_COMPILED = 9, 1, 3
_BATCH = 2
_CROPS = {"seg": "126,266", "cd": "126,252"}
_CLASSES = {"seg": 21, "cd": 2, "cls": 10}
_FORMS = {"seg": ["reference"], "cd": ["reference"], "cls": ["contiguous", "reference"]}


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def benchmark(
    task: Annotated[str, typer.Argument(help="seg | cd | cls")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value …", metavar="[KEY=VALUE]...")] = None,
    encoder: Annotated[str | None, typer.Option(help="semikit list models; random weights.")] = None,
    crop: Annotated[str | None, typer.Option(help="seg, cd: sides in pixels (default: 126,266; 126,252).")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Labelled images per step (default: 2; cls: 8, with 56 others).")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Number of classes (default: 21; cd: 2; cls: 10).")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    repeats: Annotated[int | None, typer.Option(min=1, help="Measured steps (default: 9).")] = None,
    against: Annotated[
        str | None, typer.Option(help="reference: the step as public code makes it, by turns; cls also: contiguous.")
    ] = None,
    same_precision: Annotated[
        bool, typer.Option("--same-precision", help="The reference runs in --precision too, not in fp32.")
    ] = False,
    peak: Annotated[
        float | None, typer.Option(min=0.001, help="TFLOP/s of the device (default: its data sheet's, else measured).")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="Trace a step into this file; count its copies and waits.")
    ] = None,
    clock: Annotated[str, typer.Option(help="wall | cpu: this process's share, on a machine others use too.")] = "wall",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers as JSON.")] = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="torch.compile the training step.")] = None,
) -> None:
    """Time a training step and its parts.

    python -m benchmarks.step seg --crop 126,266 --against reference
    python -m benchmarks.step cls --against reference method.name=unimatch_v2
    """
    wanted = _Wanted(task, classes, repeats, against, clock, same_precision, peak, profile)
    wanted.check()
    if task == "cls" and crop is not None:
        raise InputError("cls is measured on images that live on the device; leave out --crop.")
    sides = [] if task == "cls" else parse_crops(crop or _CROPS[task])
    if profile is not None:
        _check_profile(profile, sides)
    check_json(json_file)
    flags = {"encoder": encoder, "batch": batch, "device": device, "precision": precision, "compile": compile_}
    above = recipes.merge(flag_overrides(flags), recipes.parse_overrides(overrides or []))
    from benchmarks.step.forms import threads as threads_of

    with threads_of(threads):
        found = _stepping(above, sides, wanted)
    if json_file is not None:
        write_json(json_file, found)


@final
@dataclass(frozen=True, slots=True)
class _Wanted:
    task: str
    classes: int | None
    repeats: int | None
    against: str | None
    clock: str
    same_precision: bool
    peak: float | None
    profile: Path | None

    def check(self) -> None:
        """Raise for names nobody knows."""
        if self.task not in _FORMS:
            raise unknown("task to benchmark", self.task, list(_FORMS))
        if self.against is not None and self.against not in _FORMS[self.task]:
            raise unknown("--against", self.against, _FORMS[self.task])
        if self.clock not in ("wall", "cpu"):
            raise unknown("--clock", self.clock, ["wall", "cpu"])
        if self.same_precision and self.against != "reference":
            raise InputError("--same-precision is about the reference; give --against reference, or leave it out.")

    def asked(self, compiled: bool) -> Any:
        """The same for the measurement."""
        from benchmarks.step.steps import Asked
        from benchmarks.step.watch import CLOCKS

        return Asked(
            num_classes=self.classes or _CLASSES[self.task],
            repeats=self.repeats or _REPEATS,
            warmup=_WARMUP_COMPILED if compiled else _WARMUP,
            against=self.against,
            clock=CLOCKS[self.clock],
            same_precision=self.same_precision,
            peak=self.peak,
            trace=self.profile,
        )


def _config(task: str, above: Mapping[str, Any], side: int | None) -> Any:
    if side is None:
        from benchmarks.step.class_workload import configure_classes

        return configure_classes(above)
    from benchmarks.step.workload import configure

    return configure(recipes.merge({"views": {"weak": {"crop": side}}, "train": {"batch": _BATCH}}, above), task)


def _told(config: Any, clock: str, console: Console) -> dict[str, Any]:
    """Where the measurement is made, printed and for the file."""
    from semikit.benchmark import environment

    found = {**environment(config), "clock": f"{clock} time"}
    console.print(" · ".join(found.values()), highlight=False, markup=False, soft_wrap=True)
    return {"environment": found}


def _stepping(above: Mapping[str, Any], sides: list[int], wanted: _Wanted) -> dict[str, Any]:
    """The step, at each side of the crops where there are any; and RandAugment where classes of images are learned."""
    from benchmarks.step.steps import measure_steps

    console, found = Console(), dict[str, Any]()
    places: list[int | None] = [*sides] or [None]
    for side in places:
        config = _config(wanted.task, above, side)
        found = found or _told(config, wanted.clock, console)
        asked = wanted.asked(config.train.compiled)
        measured = measure_steps(config, asked)
        title = config.method_name if side is None else f"crop {side}"
        console.print(step_table(title, measured, asked.repeats))
        found[f"step, {title}"] = measured.as_plain()
        if side is None:
            found["RandAugment"] = _augmenting(config, asked, console)
    return found


def _augmenting(config: Any, asked: Any, console: Console) -> list[dict[str, Any]]:
    """RandAugment of a step's unlabelled images, and of the recipe's 448, beside PIL's loop."""
    from benchmarks.step.augment_speed import measure_augment
    from semikit.training.device import choose_device

    train, device = config.train, choose_device(config.train.device)
    sizes = sorted({train.batch * train.ratio, 448})
    speeds = [measure_augment(config.views.strong, size, asked.repeats, device, asked.clock) for size in sizes]
    console.print(augment_table(speeds))
    return [speed.as_plain() for speed in speeds]


def _check_profile(path: Path, sides: list[int]) -> None:
    if not path.parent.is_dir():
        raise InputError(f"cannot write to {path}: there is no such folder. Make it, or choose another --profile.")
    if len(sides) > 1:
        raise InputError(f"--profile traces one step; with it give one --crop, not {len(sides)}.")


def parse_crops(text: str) -> list[int]:
    """`"126,266"` -> [126, 266].

    Raises:
        InputError: for anything but whole numbers above 0.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--crop takes whole numbers with commas between them, e.g. 126,266; got {text!r}.")
    return [int(part) for part in parts]


def run(arguments: Sequence[str]) -> int:
    """Measure; returns the exit code: 0, or what `semikit` gives for the same error."""
    try:
        app(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)
    except SemikitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
