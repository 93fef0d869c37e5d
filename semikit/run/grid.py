"""Runs that differ in method, number of labels and seed alone, in one folder: METHOD-LABELS/seed-SEED."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from semikit.errors import ConfigError, InputError
from semikit.registry import METHODS
from semikit.run.compose import asked, check_seeds
from semikit.run.folder import LAST, existing_run, is_early, other_settings
from semikit.run.recipes import merge

Key = tuple[str, int, int]
"""Method, number of labels, seed. NAME+lora is the method NAME with an encoder that is adapted by LoRA."""
BASE, LORA, RANK = "supervised", "+lora", 8
"""The method that learns from labels alone, in whose labels the others are counted; the ending and rank of LoRA."""


def runs_in(folder: Path, file: str) -> dict[Key, Path]:
    """The runs of a grid that hold a file."""
    runs = {path.parent: path.parent.relative_to(folder).as_posix() for path in folder.glob(f"*-*/seed-*/{file}")}
    found = {run: match for run, name in runs.items() if (match := re.fullmatch(r"([\w+]+)-(\d+)/seed-(\d+)", name))}
    return {(match[1], int(match[2]), int(match[3])): run for run, match in found.items()}


def keywords(folder: Path, key: Key, options: Mapping[str, Any]) -> dict[str, Any]:
    """What `semikit.train` is given to begin a run, or to go on with it."""
    method, labels, seed = key
    run = folder / f"{method}-{labels}" / f"seed-{seed}"
    if (run / "config.yaml").is_file():
        return {"resume": run, **{name: options[name] for name in ("device", "workers", "gpus") if name in options}}
    return {**with_method(method, options), "labels": labels, "seed": seed, "out": run}


def with_method(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of `semikit.train` with those of a method of a grid."""
    settings = dict(options.get("settings", {}))
    if method.endswith(LORA) and not any(name.startswith("model.lora") for name in settings):
        settings["model.lora.rank"] = RANK
    return {**options, "method": method.removesuffix(LORA), "settings": settings}


def grid_of(
    task: str,
    labels: Sequence[int] | int,
    methods: Sequence[str] | str | None,
    seeds: Sequence[int],
    out: Path | None,
    **options: Any,
) -> tuple[Path, list[Key], int]:
    """The folder of a grid, runs/budget/NAME where none is given, those of its runs that have not ended, in the
    order they are trained, and how many there are in all; `options` are the other keywords of `semikit.train`.
    `methods` None: supervised and unimatch_v2, and supervised+lora of a pretrained transformer.

    Raises:
        InputError: labels that do not rise or are more than there are, an unknown name, a folder that holds something
            else or runs with other settings.
    """
    labels = [labels] if isinstance(labels, int) else labels
    methods = [methods] if isinstance(methods, str) else methods
    for method in ("",) if methods == [] else methods or ():
        METHODS.check(method.removesuffix(LORA))
    if not all(isinstance(n, int) and n > 0 for n in labels or [0]) or any(a >= b for a, b in pairwise(labels)):
        given = ",".join(map(str, labels))
        raise InputError(f"--labels takes rising numbers of labelled images, 23,46,92; got {given}.")

    for name, flag in (("start_from", "--from"), ("teacher", "--teacher")):
        if str(options.get(name)) == LAST:
            run = existing_run(LAST)
            raise InputError(f"{flag} {LAST} is another run once one of these has ended. Name it: {flag} {run}.")

    @cache
    def composed(method: str, number: int) -> dict[str, Any]:
        return asked(task, **with_method(method, options), labels=number, seed=0)[0]

    methods = methods or _compared(composed(BASE, labels[0]))
    wanted = [(method, n, seed) for seed, n, method in product(check_seeds(seeds), labels, dict.fromkeys(methods))]
    folder = out or Path("runs", "budget", str(composed(*wanted[0][:2])["name"]))
    begun, ended = (runs_in(folder, file) for file in ("config.yaml", "results.json"))
    if not begun and any(not (path.is_dir() or is_early(path)) for path in folder.rglob("*")):
        raise InputError(f"{folder} holds something else than runs of a budget. Choose another -o.")
    missing = [key for key in wanted if key not in ended]
    _check([*dict.fromkeys([*begun, *wanted])], begun, [key[:2] for key in missing], composed)
    return folder, missing, len(wanted)


def _compared(raw: Mapping[str, Any]) -> list[str]:
    """The methods that are compared where none are named."""
    from semikit.models.encoders.create import adapts

    return [BASE, *([f"{BASE}{LORA}"] if adapts(_resolved(BASE, raw).model) else []), "unimatch_v2"]


def _resolved(method: str, raw: Mapping[str, Any]) -> Any:
    from semikit.run.config import resolve

    try:
        return resolve(raw)
    except ConfigError as error:
        raise ConfigError(f"of the runs with {method}: {error}") from error


def _check(keys: Sequence[Key], begun: Mapping[Key, Path], missing: Sequence[tuple[str, int]], composed: Any) -> None:
    """Refuse other settings than those of the runs that are there, and more labels than there are."""
    from semikit.run.build import build_task
    from semikit.run.config import FREE, resolve

    for method, labels, seed in keys:
        config = _resolved(method, merge(composed(method, labels), {"train": {"seed": seed}}))
        if (config.method_name, config.data.labels) != (method.removesuffix(LORA), str(labels)):
            raise InputError("method.name and data.labels of each run are --methods and --labels. Leave them out.")
        folder = begun.get((method, labels, seed))
        if lines := [one for one in (other_settings(folder, config) if folder else ()) if not one.startswith(FREE)]:
            what = "\n  ".join([f"{folder} was trained with another configuration:", *lines])
            raise InputError(f"{what}\nGive the settings of before, or choose another -o.")
    for cell in {edge(missing, key=lambda one: one[1]) for edge in (min, max)} if missing else ():
        build_task(resolve(composed(*cell)))
