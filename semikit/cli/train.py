"""`semikit train`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from semikit import api
from semikit.cli import options as o
from semikit.errors import InputError
from semikit.run import recipes
from semikit.run.compose import asked, check_seeds

if TYPE_CHECKING:
    from semikit.training.reporter import Reporter

_NO_KEYWORDS = ("context", "overrides", "seeds", "compile_", "dry_run", "time", "show_config", "quiet")


def train(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="seg | cd | cls")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value …", metavar="[KEY=VALUE]...")] = None,
    dataset: o.Dataset = None,
    data: o.Data = None,
    root: o.Root = None,
    labels: Annotated[str | None, typer.Option(help="How many or which are labelled: 46 | 1/8 | 10% | FILE.")] = None,
    unlabeled: Annotated[list[str] | None, typer.Option(help="A folder of more unlabelled images; repeatable.")] = None,
    fold: o.Fold = None,
    method: Annotated[str | None, typer.Option(help="semikit list methods (default: unimatch_v2)")] = None,
    encoder: Annotated[str | None, typer.Option(help="semikit list models; any timm name.")] = None,
    decoder: Annotated[str | None, typer.Option(help="dpt | deeplabv3plus | pspnet")] = None,
    weights: Annotated[str | None, typer.Option(help="Encoder weights: FILE | none (default: pretrained).")] = None,
    accept_licence: Annotated[
        bool | None, typer.Option("--accept-licence", help="Use pretrained weights that forbid commercial use.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A whole recipe as YAML, or a run's config.yaml.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="A recipe by name (semikit list presets), or auto: chosen by your data.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the unlabelled images.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of the training crop, pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Labelled images per step over all processes.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is drawn.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Several runs, mean and std: 0,1,2")] = None,
    protocol: Annotated[str | None, typer.Option(help="strict: select on val, test once | paper")] = None,
    eval_every: Annotated[int | None, typer.Option(help="Iterations between evaluations.")] = None,
    save_every: Annotated[int | None, typer.Option(help="Iterations between checkpoints.")] = None,
    patience: Annotated[int | None, typer.Option(help="End after so many evaluations without gain.")] = None,
    log: Annotated[str | None, typer.Option(help="Where numbers go too: wandb | mlflow | tensorboard (alone).")] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from", "--start-from", help="Begin with the best weights of another run (or: last).", metavar="RUN"
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Distil: pseudo-labels of a finished run (or: last), whose network stays as it is.", metavar="RUN"
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that decode and crop, for each GPU.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Processes of this machine, one a GPU (torchrun).")] = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile_: Annotated[
        bool | None, typer.Option("--compile", help="torch.compile the step (train.compile=default).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder (default: runs/TASK/NAME-METHOD).")] = None,
    resume: Annotated[
        str | None,
        typer.Option(help="RUN | last: go on exactly where it stopped; --iterations N: longer."),
    ] = None,
    accept_data_changes: Annotated[
        bool | None,
        typer.Option("--accept-data-changes", help="With --resume: also where labelled files were edited meanwhile."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the data, print the plan, train nothing.")] = False,
    time: Annotated[bool, typer.Option("--time", help="With --dry-run: how long the run takes here.")] = False,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="With --dry-run: the whole configuration as YAML.")
    ] = False,
    quiet: o.QuietFlag = False,
) -> None:
    """Train a model from few labels and many images: segmentation (seg), change between two dates (cd),
    classification (cls).

    semikit train seg --data my.yaml --labels 1/8
    """
    given = _keywords(locals())
    given |= {} if seeds is None else {"seeds": parse_seeds(seeds)}
    console = Console(quiet=False)
    if (time or show_config) and not dry_run:
        raise InputError(f"{'--time' if time else '--show-config'} goes with --dry-run; add it.")
    if gpus is not None and gpus > 1 and not dry_run:
        raw, _ = asked(**given)  # what is mistyped is answered before anything heavy is imported, as the api does
        from semikit.run.launch import check_launch, launch, without_gpus

        check_launch(gpus, raw)
        code = launch(gpus, without_gpus(context.obj))
        if code:
            raise typer.Exit(code)
        return
    if dry_run:
        if resume is not None:
            raise InputError("--resume takes data and recipe from the run; leave out --dry-run.")
        plan = api.plan(**given, time=time)
        from semikit.cli.console import print_plan

        print_plan(plan, console, show_config)
        return
    run = api.train(**given, reporter=lambda: _reporter(console, quiet))
    if seeds is not None and os.environ.get("RANK", "0") == "0":  # the processes have parted by now
        from semikit.cli.console import print_seeds

        print_seeds(run.results, console)


def _keywords(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was given on the command line, as keywords of `semikit.train`."""
    given = {name: value for name, value in values.items() if name not in _NO_KEYWORDS and value not in (None, [])}
    given["settings"] = recipes.parse_overrides(values["overrides"] or [])
    _take_data(given)
    return given | ({} if values["compile_"] is None else {"compile": values["compile_"]})


def passed_on(words: list[str]) -> dict[str, Any]:
    """What another command was given for `semikit train`, as keywords of `semikit.train`."""
    alone = typer.Typer(add_completion=False)
    alone.command()(train)
    values = typer.main.get_command(alone).make_context("semikit train", words).params
    given = _keywords(values)
    of_one = ("method", "seed", "resume", "accept_data_changes", "time", "show_config")
    if wrong := [f"--{name.replace('_', '-')}" for name in of_one if name in given or values[name]]:
        raise InputError(f"{', '.join(wrong)} is of one run, and several are trained. Leave it out.")
    return given


def _take_data(given: dict[str, Any]) -> None:
    """`data=my.yaml`, as other programs have it, is --data: the section `data` holds keys, no path."""
    path = given["settings"].get("data")
    if not isinstance(path, str):
        return
    if "data" in given:
        raise InputError(f"both --data {given['data']} and data={path} were given; give one of them.")
    given["data"] = Path(path)
    del given["settings"]["data"]


def _reporter(console: Console, quiet: bool) -> Reporter:
    from semikit.cli.console import make_reporter

    return make_reporter(console, quiet)


def parse_seeds(text: str) -> list[int]:
    """`"0,1,2"` -> [0, 1, 2].

    Raises:
        InputError: for anything but distinct whole numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    return check_seeds([int(part) if part.isdigit() else part for part in parts])
