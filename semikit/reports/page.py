"""A page about runs: what their folders hold, their networks image by image, and the template that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite, nan
from pathlib import Path
from typing import Any, final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from torch import Tensor

from semikit import __version__
from semikit.core.network import Network
from semikit.core.task import Inference, Task
from semikit.errors import InputError
from semikit.files import write_text
from semikit.inference.inspection import Calibration, Examined, ImageRecord, Inspection, chosen, ranked
from semikit.reports.baselines import baselines
from semikit.reports.charts import Chart, Line, sparkline
from semikit.reports.records import Entry, differences
from semikit.reports.thumbnails import BUDGET, Album
from semikit.run.evaluate import open_run

Progress = Callable[[str, int, int], None]

_MATRIX = 24
"""Classes up to which the confusion matrix is shown; of more its largest cells."""
_CELLS = 20
_CLASSES = 60
"""Images' classes that a page filters by, at most."""


@final
@dataclass(frozen=True)
class Study:
    """The network of a run over all validation images of its data."""

    title: str
    task: Task
    network: Network
    inference: Inference
    metadata: Mapping[str, Any]
    names: Sequence[str]
    inspection: Inspection
    calibration: Calibration

    def examined(self, indices: Sequence[int]) -> Iterator[Examined]:
        """Some of the images again."""
        return self.task.examined(self.network, "val", self.inference, indices)[1]

    def confusions(self) -> dict[str, Any]:
        """The matrix in shares of each true class, or of many classes its largest cells off the diagonal."""
        matrix: Tensor = self.inspection.matrix.double()
        shares, names = matrix / matrix.sum(1, keepdim=True).clamp(min=1), self.task.class_names
        if len(names) <= _MATRIX:
            return {"rows": list(zip(names, shares.tolist(), strict=True)), "names": names}
        off = shares.clone().fill_diagonal_(0).flatten()
        cells = [divmod(int(place), len(names)) for place in off.topk(_CELLS).indices]
        return {"cells": [(names[true], names[found], float(shares[true, found])) for true, found in cells]}


def write_report(
    entries: Sequence[Entry], out: Path, images: int, data: Path | None, root: Path | None, device: str | None,
    progress: Progress,
) -> list[str]:  # fmt: skip
    """Write the page; returns what it could not show, a sentence each. At most `images` images are shown.

    Raises:
        RunError: the disk is full.
    """
    studies: list[Study | None] = []
    missing: list[str] = []
    for entry in entries:
        try:
            studies.append(_study(entry, data, root, device, progress))
        except InputError as error:
            studies.append(None)
            missing.append(f"{entry.name}: no images, confusion and calibration. {error}")
    gallery, beside = _gallery(entries, studies, images), None
    try:
        beside = baselines(entries)
    except InputError as error:
        missing.append(f"What unlabelled images bring is not compared. {error}")
    environment = Environment(
        loader=PackageLoader("semikit.reports"), autoescape=select_autoescape(), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {"sparkline": sparkline}
    page = environment.get_template("page.html").render(
        entries=entries, studies=studies, missing=missing, gallery=gallery, charts=_charts(entries),
        baselines=beside, differences=differences(entries),
        version=__version__, made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        classes=list(dict.fromkeys(name for entry in entries for name in entry.first.per_class["score"])),
        metric=entries[0].first.results["metric"], task=entries[0].first.config["task"], most_cells=_MATRIX,
    )  # fmt: skip
    write_text(out, page)
    return missing


def _study(entry: Entry, data: Path | None, root: Path | None, device: str | None, progress: Progress) -> Study:
    task, network, metadata, inference = open_run(entry.shown.folder, data, root, device)
    names, every = task.examined(network, "val", inference)
    background = getattr(getattr(task, "evaluation", None), "background", None)
    inspection = Inspection(len(task.class_names), len(names), background)
    for done, found in enumerate(every, 1):
        inspection.add(found)
        progress(f"{entry.name}: validation images", done, len(names))
    return Study(entry.name, task, network, inference, metadata, names, inspection, inspection.calibration())


# ------------------------------------------------------------------------------------------------------------- images


def _gallery(entries: Sequence[Entry], studies: Sequence[Study | None], most: int) -> dict[str, Any] | None:
    """The images of the first run that has some, with what every run on the same images says of them."""
    lead = next((k for k, study in enumerate(studies) if study is not None), None)
    if lead is None or not most:
        return None
    first = studies[lead]
    assert first is not None
    records = chosen(first.inspection.records, most)
    # Of every other run one more map is shown, of the first its own, the truth, the confidence and the image.
    album = Album(first.metadata.get("palette", ()), BUDGET // len(entries))
    cards = _cards(first, records, album)
    predictors = [entries[lead].name]
    for entry, study in zip(entries[lead + 1 :], studies[lead + 1 :], strict=True):
        alike = study is not None and study.names == first.names and study.task.class_names == first.task.class_names
        if study is not None and alike:
            predictors.append(entry.name)
            for card, found in zip(cards, study.examined([card["index"] for card in cards]), strict=True):
                card["predictions"].append(_prediction(study, found, album))
    classes = sorted({number for card in cards for number in card["by_class"]})[:_CLASSES]
    names, palette = first.task.class_names, first.metadata.get("palette")
    return {
        "cards": sorted(cards, key=lambda card: card["ranks"]["worst"]),
        "predictors": predictors,
        "classes": [(number, names[number]) for number in classes],
        "legend": [(name, "rgb({}, {}, {})".format(*palette[k])) for k, name in enumerate(names)] if palette else [],
        "of": len(first.inspection.records),
        "dates": first.task.dates[0],
    }


def _cards(study: Study, records: Sequence[ImageRecord], album: Album) -> list[dict[str, Any]]:
    """Until the album is full."""
    ranks: dict[int, dict[str, int]] = {}
    for order, every in ranked(study.inspection.records).items():
        for place, one in enumerate(every):
            ranks.setdefault(one.index, {})[order] = place
    cards: list[dict[str, Any]] = []
    for record, found in zip(records, study.examined([one.index for one in records]), strict=True):
        if album.full:
            break
        maps = found.labels.ndim > 0
        cards.append({
            "index": record.index, "name": study.names[record.index], "photos": album.photos(found), "maps": maps,
            "truth": album.labels(found.labels, found.valid) if maps else study.task.class_names[int(found.labels)],
            "predictions": [_prediction(study, found, album)],
            "confidence_map": album.confidence(found.confidence) if maps else None,
            "confidence": record.confidence, "score": record.score, "ranks": ranks[record.index],
            "by_class": record.by_class,
        })  # fmt: skip
    return cards


def _prediction(study: Study, found: Examined, album: Album) -> dict[str, Any]:
    if found.labels.ndim:
        return {"map": album.labels(found.classes, found.valid.new_ones(found.valid.shape))}
    right = bool(found.classes == found.labels)
    return {"class": study.task.class_names[int(found.classes)], "share": float(found.confidence), "right": right}


# ------------------------------------------------------------------------------------------------------------- curves


def _charts(entries: Sequence[Entry]) -> dict[str, list[Chart]]:
    """Curves of scores and losses, and those of the pseudo-labels."""
    metric, first = entries[0].first.results["metric"], entries[0].first

    def logged(key: str) -> list[Line]:
        """What the authors' logs have of the first run's data set."""
        return [
            Line(f"authors' log, {name}", points, 5 - number % 3, marks=True)
            for number, (name, early) in enumerate(first.references())
            if (points := [(step, found[key]) for step, found in early.items() if key in found])
        ]

    scores = [*_lines(entries, f"student_{metric}", "student"), *_lines(entries, f"teacher_{metric}", "teacher", True)]
    parts = {"loss": "total", "loss_x": "labelled", "loss_u": "unlabelled"}
    losses = [(f"Loss, {what}", _lines(entries, column, "")) for column, what in parts.items()]
    several = len(first.per_class["score"]) > 2
    sure = [
        ("Confident pseudo-labels, share", [*_lines(entries, "confident", ""), *logged("confident")]),
        ("Right among the confident, share", _lines(entries, "pseudo_accuracy", "")),
        ("Classes among the pseudo-labels", _lines(entries, "classes_predicted", "") if several else []),
    ]
    return {
        "curves": [
            Chart(f"{metric}, %", [*scores, *logged("teacher")]),
            *(Chart(title, lines) for title, lines in losses if lines),
        ],
        "pseudo": [Chart(title, lines) for title, lines in sure if lines],
    }


def _lines(entries: Sequence[Entry], column: str, what: str, dashed: bool = False) -> list[Line]:
    """A column of every run that has it, over iterations."""
    found = []
    for number, entry in enumerate(entries):
        for run in entry.runs:
            points = [(row["iteration"], row[column]) for row in run.rows if isfinite(row.get(column, nan))]
            names = [part for part in (entry.name if len(entries) > 1 else "", what) if part]
            if points:
                found.append(Line(", ".join(names) or entry.name, points, number % 6, dashed))
    return found
