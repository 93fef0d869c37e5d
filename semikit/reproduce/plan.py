"""What training a cell means: its configuration, images, iterations; known without any data on disk."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

from semikit.core.task import Counts
from semikit.data.published.catalogue import read_published
from semikit.data.published.class_sets import class_set
from semikit.data.published.prepared import part_of
from semikit.errors import InputError
from semikit.reproduce.cells import Cell, command, percent
from semikit.run import recipes
from semikit.run.build import requirements_of
from semikit.run.config import Config, resolve
from semikit.training.settings import Schedule, schedule_of


@final
@dataclass(frozen=True, slots=True)
class CellPlan:
    """A cell with everything that is worked out from it."""

    cell: Cell
    config: Config
    counts: Counts
    schedule: Schedule
    learns_unlabeled: bool


@lru_cache
def _recipe(task: str, dataset: str, method: str) -> dict[str, Any]:
    """Reading YAML for each of hundreds of cells would take seconds."""
    return recipes.compose(task, dataset=dataset, above={"method": {"name": method}})


def composed(cell: Cell) -> dict[str, Any]:
    """The data set's recipe with the cell's overrides laid over it, as plain values.

    Raises:
        InputError: when the cell waits for something.
    """
    if cell.waits is not None:
        raise InputError(f"{cell.id} {cell.waits}. Published: {published(cell)}.")
    return recipes.merge(deepcopy(_recipe(cell.task, cell.dataset, cell.method)), cell.overrides)


def plan_cell(cell: Cell) -> CellPlan:
    """The plan of a cell, from the published counts of images.

    Raises:
        InputError: when the cell waits for something.
    """
    config = resolve(composed(cell))
    counts, requirements = counts_of(cell, config), requirements_of(config)
    return CellPlan(
        cell, config, counts, schedule_of(config.train, counts, requirements.unlabeled), requirements.unlabeled
    )


def counts_of(cell: Cell, config: Config) -> Counts:
    """Labelled, unlabelled, validation and test images of a cell of a published data set; of images of one class each
    none are held out for validation, as the cells are not strict.
    """
    if cell.task == "cls":
        return _class_counts(cell, _labeled_among_unlabeled(config))
    known = read_published(cell.dataset)
    labeled, unlabeled = (known.counts["train"], 0) if cell.split == "all" else known.splits[cell.split]
    for source in cell.overrides["data"].get("unlabeled", ()):
        name, part = part_of(source)
        unlabeled += read_published(name).counts[part]
    return Counts(labeled=labeled, unlabeled=unlabeled, val=known.counts["val"], test=known.counts.get("test", 0))


def _labeled_among_unlabeled(config: Config) -> bool:
    data: Any = config.data
    return config.task == "cls" and data.labeled_as_unlabeled


def _class_counts(cell: Cell, labeled_too: bool) -> Counts:
    known = class_set(cell.dataset)
    labeled = known.official[cell.split] * known.classes if cell.split in known.official else int(cell.split)
    counts = known.counts
    unlabeled = known.learned_from - (0 if labeled_too else labeled)
    return Counts(labeled, unlabeled, counts.get("val", 0), counts.get("test", 0))


def published(cell: Cell) -> str:
    """The published values as text: "mIoU 87.9"."""
    return ", ".join(f"{metric} {percent(value)}" for metric, value in cell.values.items())


def facts(plan: CellPlan) -> dict[str, str]:
    """The plan as lines of a name and a text."""
    cell, config = plan.cell, plan.config
    model, optimizer = config.model, config.optimizer
    rate = optimizer.lr if optimizer.encoder_lr is None else optimizer.encoder_lr
    frozen = ", frozen" if model.freeze else ""
    texts = {
        "published": f"{published(cell)} ({cell.reports if cell.reports != 'better' else 'the better network'})",
        "log": ", ".join(f"{name} {percent(value)}" for name, value in cell.logged.items()),
        "note": cell.note,
        "images": _images(plan),
        "method": " · ".join([config.method_name, *changed_settings(config)]),
        "network": " + ".join([f"{model.encoder}{frozen}", *([model.decoder] if hasattr(model, "decoder") else [])]),
        "crop": _crop(config),
        "batch": _batch(plan),
        "length": _length(plan),
        "optimiser": f"{optimizer.name}, encoder {rate:g}, rest {optimizer.lr:g}, decay {optimizer.weight_decay:g}",
        "evaluation": _evaluation(plan),
        "command": command(cell),
    }
    return {name: text for name, text in texts.items() if text}


def changed_settings(config: Config) -> list[str]:
    """Settings of the method that are not its defaults, `key=value`."""
    defaults = type(config.method)().model_dump(mode="json")
    values = config.method.model_dump(mode="json")
    return _changed(defaults, values)


def _changed(defaults: Mapping[str, Any], values: Mapping[str, Any], where: str = "") -> list[str]:
    found: list[str] = []
    for key, value in values.items():
        default = defaults[key]
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            found += _changed(default, value, f"{where}{key}.")
        elif value != default:
            found.append(f"{where}{key}={_short(value)}")
    return found


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key} {item}" for key, item in value.items()) + ")"
    return f"{value}"


def _images(plan: CellPlan) -> str:
    counts = plan.counts
    unlabeled = f"{counts.unlabeled} unlabelled" if plan.learns_unlabeled else "none unlabelled"
    parts = [f"{counts.labeled} labelled", unlabeled]
    if plan.learns_unlabeled and _labeled_among_unlabeled(plan.config):
        parts[1] += " (these among them)"
    parts += [f"{counts.val} for validation"] if counts.val else []
    parts += [f"{counts.test} of the test"] if counts.test else []
    return f"{plan.config.name}: {', '.join(parts)}"


def _crop(config: Config) -> str:
    """Side of the training crop, pixels; nothing where small images are taken whole."""
    views: Any = config.views
    side = views.size if config.task == "cls" else views.weak.crop
    return "" if side is None else f"{side}"


def _batch(plan: CellPlan) -> str:
    train = plan.config.train
    more = f" + {train.batch * train.ratio} unlabelled" if plan.learns_unlabeled else ""
    processes = max(1, train.batch // train.group)
    groups = "1 group" if processes == 1 else f"{processes} groups"
    return f"{train.batch} labelled{more}, in {groups} of {train.group} (published: a process each)"


def _length(plan: CellPlan) -> str:
    train, schedule = plan.config.train, plan.schedule
    epochs = f"{train.epochs} epochs of {schedule.per_epoch} iterations: " if train.epochs else ""
    return f"{epochs}{schedule.iterations} iterations"


def _evaluation(plan: CellPlan) -> str:
    config, every = plan.config, plan.schedule.eval_every
    settings: Any = config.evaluate
    if config.task == "cls":
        how = "each image once"
    elif settings.window == "sliding":
        how = f"windows of {settings.size or _crop(config)} slide"
    else:
        how = "whole images, sides rounded to what the encoder takes"
    on_test = config.train.protocol == "paper" and plan.counts.test
    where = " on the test images, where the best is chosen too (protocol paper)" if on_test else ""
    return f"{how}; every {every} iterations{where}"
