"""`semikit train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from semikit.cli import options as o
from semikit.errors import InputError
from semikit.registry import METHODS, TASKS
from semikit.run import recipes
from semikit.run.compose import compose, flag_overrides


def train(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="seg | cd | cls")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value …", metavar="[KEY=VALUE]...")] = None,
    dataset: o.Dataset = None,
    data: o.Data = None,
    root: o.Root = None,
    labels: Annotated[str | None, typer.Option(help="How many or which are labelled: 46 | 1/8 | FILE.")] = None,
    unlabeled: Annotated[list[str] | None, typer.Option(help="A folder of more unlabelled images; repeatable.")] = None,
    method: Annotated[str | None, typer.Option(help="semikit list methods (default: unimatch_v2)")] = None,
    encoder: Annotated[str | None, typer.Option(help="semikit list models; any timm name.")] = None,
    decoder: Annotated[str | None, typer.Option(help="dpt | deeplabv3plus | pspnet")] = None,
    weights: Annotated[str | None, typer.Option(help="Encoder weights: FILE | none (default: pretrained).")] = None,
    config: Annotated[Path | None, typer.Option(help="A whole recipe as YAML, or a run's config.yaml.")] = None,
    preset: Annotated[str | None, typer.Option(help="A recipe by name (semikit list presets).")] = None,
    iterations: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the unlabelled images.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of the training crop, pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Labelled images per step over all processes.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is drawn.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Several runs, mean and std: 0,1,2")] = None,
    protocol: Annotated[str | None, typer.Option(help="strict: select on val, test once | paper")] = None,
    eval_every: Annotated[int | None, typer.Option(help="Iterations between evaluations.")] = None,
    save_every: Annotated[int | None, typer.Option(help="Iterations between checkpoints.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that decode and crop, for each GPU.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Processes of this machine, one a GPU (torchrun).")] = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="torch.compile the training step.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder (default: runs/TASK/NAME-METHOD).")] = None,
    resume: Annotated[str | None, typer.Option(help="RUN | last: go on exactly where it stopped.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the data, print the plan, train nothing.")] = False,
    quiet: o.QuietFlag = False,
) -> None:
    """Train a model from few labels and many images: segmentation (seg), change between two dates (cd),
    classification (cls).

    semikit train seg --data my.yaml --labels 1/8
    """
    TASKS.check(task)
    if method is not None:
        METHODS.check(method)
    flags = flag_overrides(
        {
            "labels": labels,
            "unlabeled": unlabeled,
            "encoder": encoder,
            "decoder": decoder,
            "weights": weights,
            "method": method,
            "iterations": iterations,
            "epochs": epochs,
            "batch": batch,
            "seed": seed,
            "device": device,
            "precision": precision,
            "compile": compile_,
            "protocol": protocol,
            "eval_every": eval_every,
            "save_every": save_every,
            "workers": workers,
            "crop": crop,
        },
        task,
    )
    above = recipes.merge(flags, recipes.parse_overrides(overrides or []))
    console = Console(quiet=False)
    if resume is not None:
        _only_with_a_new_run(
            dataset=dataset, data=data, root=root, config=config, preset=preset, out=out, seeds=seeds,
            dry_run=dry_run or None,
        )  # fmt: skip
        raw = resumed(task, resume, above)
    else:
        raw = compose(task, dataset=dataset, data=data, root=root, config=config, preset=preset, above=above)
    numbers = None if seeds is None else _several(seeds, above)
    if gpus is not None and gpus > 1 and not dry_run:
        launch_again(gpus, _device(raw), context.obj)
        return
    from semikit.cli.console import make_reporter, print_plan
    from semikit.run.lifecycle import go_on, plan

    if resume is not None:
        go_on(task, resume, above, lambda: make_reporter(console, quiet))
    elif dry_run:
        print_plan(plan(raw, gpus or 1), console)
    else:
        _begin(raw, out, numbers, console, quiet)


def _begin(raw: Mapping[str, Any], out: Path | None, seeds: list[int] | None, console: Console, quiet: bool) -> None:
    """Train in a new folder; of several seeds say mean and standard deviation."""
    from semikit.cli.console import make_reporter, print_seeds
    from semikit.distributed.collectives import process_rank
    from semikit.run.lifecycle import begin

    results = begin(raw, out, seeds, lambda: make_reporter(console, quiet))
    if seeds is not None and process_rank() == 0:
        print_seeds(results, console)


def resumed(task: str, resume: str, above: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the run to go on with, under what was given."""
    from semikit.run.folder import find_run

    return recipes.merge(recipes.read_yaml(find_run(task, resume) / "config.yaml"), above)


def _device(raw: Mapping[str, Any]) -> str | None:
    """The device a configuration asks for."""
    train = raw.get("train")
    given = train.get("device") if isinstance(train, Mapping) else None
    return None if given is None else str(given)


def launch_again(gpus: int, device: str | None, arguments: list[str]) -> None:
    """The same command in `gpus` processes.

    Raises:
        InputError: when there are not as many GPUs.
        typer.Exit: with the code of the first process that failed.
    """
    from semikit.distributed.groups import started_by_torchrun
    from semikit.run.launch import check_gpus, launch, without_gpus

    if started_by_torchrun():
        raise InputError(f"--gpus {gpus} starts processes, and torchrun has started some already; leave it out.")
    check_gpus(gpus, device)
    code = launch(gpus, without_gpus(arguments))
    if code:
        raise typer.Exit(code)


def _several(seeds: str, above: dict[str, Any]) -> list[int]:
    """The seeds, unless one seed is given too."""
    train = above.get("train")
    if isinstance(train, dict) and "seed" in train:
        raise InputError(f"both --seeds {seeds} and one seed, {train['seed']}, were given; give one of them.")
    return parse_seeds(seeds)


def parse_seeds(text: str) -> list[int]:
    """`"0,1,2"` -> [0, 1, 2].

    Raises:
        InputError: for anything but distinct whole numbers.
    """
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts) or len({int(part) for part in parts}) != len(parts):
        raise InputError(f"--seeds takes different whole numbers with commas between them, e.g. 0,1,2; got {text!r}.")
    return [int(part) for part in parts]


def _only_with_a_new_run(**given: object) -> None:
    wrong = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if wrong:
        raise InputError(f"--resume takes data and recipe from the run; leave out {', '.join(wrong)}.")
