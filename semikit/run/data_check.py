"""The checks of a dry run alone: the user's own data, without a model, with a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from PIL import Image

from semikit.core.census import Census
from semikit.data.folder_layouts import has_masks
from semikit.data.pair_layouts import has_pairs
from semikit.data.spec import TABLES
from semikit.errors import ConfigError, DataError, InputError
from semikit.files import no_such_file
from semikit.run.build import build_task
from semikit.run.compose import compose
from semikit.run.config import resolve
from semikit.run.recipes import merge
from semikit.settings.yaml_text import parse

_TITLES = {"seg": "segmentation", "cd": "change detection", "cls": "classification"}
_SHOWN = {"seg": (12, 6), "cd": (6, 4), "cls": (10**6, 10**6)}
"""Labelled and validation samples on a sheet."""
_EIGHTH = 16
"""Labelled images from which an eighth of them is some."""
_DATES = ("images_a", "images_b")


@final
@dataclass(frozen=True, slots=True)
class CheckedData:
    """What was found: the task, facts by their name, the census, notices for the user (`unused` are those of files no
    part uses), and the sheet.
    """

    task: str
    facts: Mapping[str, str]
    census: Census | None
    notices: Sequence[str]
    unused: Sequence[str]
    sheet: Image.Image | None
    next_labels: str = ""
    """The flag that training needs where every image is labelled, or a number is always asked for; with a blank."""


def check_data(
    data: Path, task: str | None = None, root: Path | None = None, fold: int | None = None, sheet: bool = False
) -> CheckedData:
    """Open every file of a data YAML or folder, and count; the task is that of the description unless it is given.

    Raises:
        InputError: all that is wrong with the data, or a description that does not say which task it is of.
    """
    name = task or task_of(data)
    above: dict[str, Any] = {"method": {"name": "supervised"}}
    above |= {"data": {"fold": fold}} if fold is not None else {}
    above |= {"data": {**above.get("data", {}), "labels": "all"}, "views": {"size": 224}} if name == "cls" else {}
    raw = compose(name, data=data, root=root, above=above)
    made: Any = build_task(resolve(merge(raw, {"train": {"seed": 0}})))
    made.check(thorough=True)
    counts = made.counts
    facts = {
        "task": _TITLES.get(name, name),
        "labelled": str(counts.labeled),
        "unlabelled": "in shards" if counts.unlabeled is None else str(counts.unlabeled),
        "val": str(counts.val),
        **({"test": str(counts.test)} if counts.test else {}),
        **made.facts(),
    }
    shown = _sheet(name, data, made) if sheet else None
    whole = counts.unlabeled == 0 or name == "cls"
    return CheckedData(
        name, facts, made.census, made.notices, made.unused, shown, _fewer(counts.labeled) if whole else ""
    )


def _fewer(labeled: int) -> str:
    """The labels to begin with, where all images have one."""
    return " --method supervised" if labeled < 2 else f" --labels {'1/8' if labeled >= _EIGHTH else '1/2'}"


def _sheet(name: str, data: Path, task: Any) -> Image.Image:
    from semikit.data.samples import spread
    from semikit.inference.contact_sheets import Section, class_sheet, known, mask_sheet

    learned, (first, second) = task.learned, _SHOWN[name]
    parts = [("labelled", learned.train, list(learned.split.labeled), first)]
    parts.append(("validation", learned.val, known(learned.val), second))
    sections = [
        Section(_counted(what, len(chosen), most), source, spread(chosen, most))
        for what, source, chosen, most in parts
        if chosen
    ]
    title = f"{data.name} · {_TITLES[name]} · {len(task.class_names)} classes"
    if name == "cls":
        return class_sheet(title, sections, task.class_names)
    return mask_sheet(title, sections, task.class_names, task.parts.palette, task.titles)


def _counted(what: str, count: int, most: int) -> str:
    return f"{what} · {most} of {count}" if count > most else f"{what} · {count}" if most < 10**6 else what


def task_of(data: Path) -> str:
    """The task that a data YAML or a folder is laid out for.

    Raises:
        DataError: there is no such file.
        ConfigError: it cannot be told.
    """
    if data.is_dir():
        if has_pairs(data):
            return "cd"
        return "seg" if has_masks(data) else _task_of_folder(data / "train" if (data / "train").is_dir() else data)
    if not data.is_file():
        raise no_such_file(data)
    if data.suffix.lower() in TABLES:
        return "cls"
    raw = parse(data.read_bytes(), str(data))
    if not isinstance(raw, dict):
        raise ConfigError(f"{data}: expected a mapping (key: value).")
    return _task_of_description(raw, data)


def _task_of_description(raw: Mapping[str, Any], data: Path) -> str:
    train = raw.get("train")
    if isinstance(train, dict):
        if any(key in train for key in _DATES):
            return "cd"
        return "seg" if "masks" in train or "colors" in raw or "ignore" in raw else "cls"
    if isinstance(train, str):
        if "masks_dir" in raw or ("names" in raw and "classes" not in raw):  # of ultralytics
            return "seg"
        place = data.parent / train
        return "cls" if place.suffix.lower() in TABLES else _task_of_folder(place)
    raise InputError(f"{data}: no `train` says what is learned from. Add it, or name the task: seg | cd | cls.")


def _task_of_folder(folder: Path) -> str:
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}.")
    if (folder / "A").is_dir() and (folder / "B").is_dir():
        return "cd"
    return "seg" if (folder / "images").is_dir() else "cls"
