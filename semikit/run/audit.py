"""Are my labels right: the labelled images of a run against its network, or networks that have not seen the label."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.core.network import Network
from semikit.core.task import Inference, Progress, Task
from semikit.data.palette import palette
from semikit.data.samples import Samples, spread
from semikit.errors import DataError, InputError, some
from semikit.files import OUTPUT, make_folder, short_name, write_table, write_text
from semikit.inference.contact_sheets import drawn_sheet
from semikit.inference.inspection import Examined
from semikit.inference.label_quality import LabelAudit, average_confidence, suggested
from semikit.inference.many_files import refuse_among_images
from semikit.inference.pictures import (
    Example,
    Pixels,
    captioned,
    gallery,
    save_png,
    sheet,
    sheet_legend,
    striped_outside,
)  # fmt: skip
from semikit.run.begun import read_begun
from semikit.run.evaluate import open_run
from semikit.run.folder import existing_run
from semikit.run.lifecycle import begin, go_on, one_of_many
from semikit.run.load import load_network
from semikit.run.recipes import merge
from semikit.run.reporters import default_progress, default_reporter
from semikit.training.reporter import Reporter

_SAMPLED = 200
"""Images whose pixels say how certain networks are of each class on average."""
_FOLDS, _DRAWN = "folds", ("images", "sheet.png")
_SIDE = 400
"""Pixels that pictures of a contact sheet keep, about."""
_LINES = ("rank and name", "label", "what the network says")
"""Of an image of one class on the sheet."""

Place = str | PathLike[str]
Rows = list[dict[str, Any]]
Parts = Sequence[tuple[Callable[[], Network], Sequence[int]]]
"""What gives a network, and the images that it is asked about."""


def audit(
    run: Place, *, out: Place = "audit", n: int = 50, folds: int | None = None, data: Place | None = None,
    device: str | None = None, progress: Progress | None = None,
    reporter: Callable[[], Reporter] = default_reporter,
) -> tuple[dict[str, Rows], list[str]]:  # fmt: skip
    """Which labels of a run are likely wrong, as `semikit audit` does: those it learned from, or all of `data`. `out`
    is a new folder with tables, and pictures of `n` images. With `folds` so many networks are trained first, in `out`,
    each without a part of the labels; those that are there already are not trained again. `reporter` makes what follows
    each training. Returns the rows of the tables audit, noise, duplicates and shifts, the worst first, and notices.

    Raises:
        InputError: an option that does not fit, a folder that holds something else, data that are not there any more.
    """
    place, folder = existing_run(run), Path(out)
    _refuse(place, folder, n, folds, data)
    listed = (place if place.is_dir() else place.parent.parent) / "labeled.txt"
    labels = str(listed.absolute()) if data is None and listed.is_file() else "all"
    try:
        task, network, metadata, inference = open_run(place, None if data is None else Path(data), None, device, labels)
    except DataError as error:
        if data is not None:
            raise
        raise DataError(f"{error} Labels that lie elsewhere, all of them, are audited by --data.") from error
    samples, indices = task.labeled()
    refuse_among_images([folder / "sheet.png"], *_places(samples, indices))
    known = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() and folds is None else []
    learned = len({samples.names[k] for k in indices}.intersection(known))
    notice = f"the run learned from {learned} of these {len(indices)} labels, and finds fewer of their errors"
    most = min(3, len(indices) // 2)
    able = data is None and place.is_dir() and most > 1
    notice += f"; --folds {most} asks networks that have not seen them" if able else ""
    parts: Parts = [(lambda: network, indices)]
    notices = [notice] if learned else []
    make_folder(folder)
    if folds is not None:
        raw, given = _alone(read_begun(place))
        parts = _trained(place, raw, folder / _FOLDS, task, folds, inference, reporter)
        notices += [f"the networks have nothing of {given}, which may have learned these labels"] if given else []
        notices += _seen_by_none(samples, indices, metadata["class_names"])
    asked = _Asked(task, metadata, inference, samples, parts, progress or default_progress())
    found = asked.counted()
    tables = asked.tables(found)
    if tables["audit"]:
        asked.draw(folder, found, n)
    for name, rows in tables.items():  # last: a folder without them is that of an audit that was stopped
        if rows:
            write_table(folder / f"{name}.csv", [list(rows[0]), *(list(row.values()) for row in rows)], "\n")
    return tables, notices


def _refuse(run: Path, out: Path, n: int, folds: int | None, data: Place | None) -> None:
    if n < 1:
        raise InputError(f"-n {n}: give how many images are drawn, 1 or more.")
    if folds is not None and folds < 2:
        raise InputError(f"--folds {folds}: each network needs labels that another has not seen. Give 2 or more.")
    if run.suffix == ".onnx":
        raise InputError(f"{run} is an export, which does not know its labels. Give the run that it was made of.")
    if folds is not None and (data is not None or not (run / "config.yaml").is_file()):
        what = f"give one in place of {run}" if data is None else "leave out --data"
        raise InputError(f"--folds trains as a run folder says, with its own data: {what}.")
    if out.is_file() or (out.is_dir() and any(one.name not in (_FOLDS, *_DRAWN) for one in out.iterdir())):
        raise InputError(f"{out} is not an empty folder. Choose another -o, or remove it to audit anew.")


def _places(samples: Samples, indices: Sequence[int]) -> tuple[list[Path], list[str]]:
    """The files of images, and the folders that their names count from."""
    files = {file: samples.names[k].count("/") for k in indices for file in samples.files(k)}
    return [*files], [*{str(file.parents[min(depth, len(file.parents) - 1)]) for file, depth in files.items()}]


@final
@dataclass(frozen=True, slots=True)
class _Asked:
    """The labelled images of a run, and the networks that are asked about them."""

    task: Task
    metadata: Mapping[str, Any]
    inference: Inference
    samples: Samples
    parts: Parts
    progress: Progress

    def examined(self, what: str, wanted: Sequence[Sequence[int]]) -> Iterator[Examined]:
        """Images by their numbers, those that each network is asked about."""
        done, total = 0, sum(map(len, wanted))
        for (network, _), mine in zip(self.parts, wanted, strict=True):
            for found in self.task.examined(network(), "train", self.inference, mine)[1] if mine else ():
                done += 1
                self.progress(what, done, total)
                yield found

    def counted(self) -> LabelAudit:
        """What is said of all images; of maps some are enough to know how certain networks are."""
        every = [part for _, part in self.parts]
        some = every if self.metadata["task"] == "cls" else [spread(part, _SAMPLED // len(every) + 1) for part in every]
        classes = len(self.metadata["class_names"])
        audited = LabelAudit(classes, average_confidence(self.examined("confidence", some), classes))
        for found in self.examined("labelled images", every):
            audited.add(found)
        return audited

    def tables(self, found: LabelAudit) -> dict[str, Rows]:
        """The rows of every table, by its name."""
        names, noise, by_class = self.metadata["class_names"], found.noise(), Rows()
        for k in np.flatnonzero(~np.isnan(noise.diagonal())):
            others = np.where(np.arange(len(names)) == k, 0, noise[k])
            row = {"class": names[k], "certain": int(found.joint[k].sum()), "wrong": round(float(others.sum()), 4)}
            by_class.append({**row, "instead": names[others.argmax()] if others.any() else ""})
        return {
            "audit": [
                {"rank": rank, **self._files(one.index), "score": round(one.score, 4), "label": names[one.label],
                 "network": names[one.suggested], "confidence": round(one.confidence, 4), "share": round(one.share, 4)}
                for rank, one in enumerate(found.ranked(), 1)
            ],
            "noise": sorted(by_class, key=lambda row: -row["wrong"]),
            "duplicates": [
                {**self._files(one), "same_picture": self._files(two)["file"], "different": round(share, 4)}
                for one, two, share in found.duplicates()
            ],
            "shifts": [
                {**self._files(one[0]), **dict(zip(("down", "right", "clear"), one[1:], strict=True))}
                for one in sorted(found.shifts, key=lambda one: -np.hypot(one[1], one[2]))
            ],
        }  # fmt: skip

    def _files(self, index: int) -> dict[str, str]:
        """Those of each date, or the name where there is none, and of the label."""
        files = [str(file) for file in self.samples.files(index)] or [self.samples.names[index]]
        masks = ";".join(map(str, self.samples.target_files(index)))
        return {**dict(zip(("file", "file_b"), files, strict=False)), **({"mask": masks} if masks else {})}

    def draw(self, out: Path, found: LabelAudit, most: int) -> None:
        """The contact sheet of the first suspects, and of maps a picture of each."""
        ranked = {one.index: (rank, one) for rank, one in enumerate(found.ranked()[:most], 1)}
        names, cells, maps = self.metadata["class_names"], dict[int, Any](), self.metadata["task"] != "cls"
        for one in self.examined("pictures", [[index for index in part if index in ranked] for _, part in self.parts]):
            rank, why = ranked[one.index]
            name, says = self.samples.names[one.index], f"{names[why.suggested]} {why.confidence:.0%}"
            if not maps:
                lines = (f"{rank} {name.rpartition('/')[2]}", f"label {names[why.label]}", says)
                cells[rank] = Example(one.dates[0], [(text, None) for text in lines])
                continue
            text, file = f"{rank} {name}: {names[why.label]} → {says}", f"{rank:04d} {short_name(Path(name))}.png"
            make_folder(out / "images")
            small = self._picture(one, suggested(one, found.thresholds).cpu().numpy(), text, out / "images" / file)
            cells[rank] = text, small
        ordered, title = [cells[rank] for rank in sorted(cells)], f"Labels to check: the first {len(cells)}"
        note = "image, label, what the network says instead"
        drawn = drawn_sheet(title, note, ordered, names, self._colours()) if maps else gallery(ordered, _LINES)
        save_png(drawn, out / "sheet.png", OUTPUT)

    def _colours(self) -> NDArray[np.uint8]:
        return palette(len(self.metadata["class_names"]), self.metadata.get("palette"))

    def _picture(self, one: Examined, instead: NDArray[np.int64], text: str, file: Path) -> list[Pixels]:
        """Write dates, label, prediction, and what is contradicted in the network's colours over a dim image; returns
        what of it the contact sheet shows.
        """
        names, colours = self.metadata["class_names"], self._colours()
        labels, valid, classes = (part.cpu().numpy() for part in (one.labels, one.valid, one.most))
        wrong = (instead >= 0) & (instead != labels)
        near = np.pad(wrong, 1)
        near = near[2:, 1:-1] | near[:-2, 1:-1] | near[1:-1, 2:] | near[1:-1, :-2]
        marked = (one.dates[-1].mean(axis=2, keepdims=True) * 0.5 + 50).repeat(3, axis=2).astype(np.uint8)
        marked[near], marked[wrong] = 255, colours[instead[wrong]]
        pictures = [*one.dates, striped_outside(colours[labels], valid), colours[classes], marked]
        present = np.union1d(labels[valid], classes[valid]).tolist()
        legend = sheet_legend([(names[k], colours[k]) for k in present], ignored=not valid.all(), confidence=False)
        dates = ("earlier", "later") if len(one.dates) > 1 else ("image",)
        titles = (*dates, "label", "network", "contradicted with confidence")
        save_png(captioned(sheet([pictures], titles, legend), text), file, OUTPUT)
        step = max(1, max(labels.shape) // _SIDE)
        return [picture[::step, ::step] for picture in (*pictures[:-2], marked)]


# --------------------------------------------------------------------------------------------------------- out of fold


def _alone(raw: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A configuration without the runs, or the table, that its weights or pseudo-labels come from, and their names."""
    begun, table = raw["train"].get("start_from"), raw["data"].get("also_labeled")
    teacher = raw["method"].get("teacher")
    distilled = teacher["run"] if isinstance(teacher, Mapping) else None
    above: dict[str, Any] = {"train": {"start_from": None}}
    above |= {"method": {"teacher": "ema"}} if distilled else {}
    above |= {"data": {"also_labeled": None}} if table else {}
    return merge(raw, above), " and ".join(str(place) for place in (begun, distilled, table) if place)


def _seen_by_none(samples: Samples, indices: Sequence[int], names: Sequence[str]) -> list[str]:
    """At most one notice: classes of whole images with one label, which lies in the part that is left out."""
    labels = getattr(samples, "labels", None)
    if labels is None:
        return []
    counts = np.bincount(labels[list(indices)], minlength=len(names))
    alone = [name for name, count in zip(names, counts, strict=True) if count == 1]
    what = f"{some(alone)}: of a class with one label the network that is asked about it has seen none"
    return [f"{what}, and contradicts it"] if alone else []


def _trained(
    run: Path,
    raw: Mapping[str, Any],
    out: Path,
    task: Task,
    folds: int,
    inference: Inference,
    reporter: Callable[[], Reporter],
) -> Parts:
    """A network for each part of the labelled images, trained as `raw` says, as `run` was, but without the labels of
    that part.

    Raises:
        InputError: fewer images than folds; networks in `out` are of other labels or another run.
    """
    samples, indices = task.labeled()
    if len(indices) < 2 * folds:
        remedy = f"give at most {len(indices) // 2}" if len(indices) > 3 else "4 images are the fewest; leave it out"
        raise InputError(f"--folds {folds} of {len(indices)} labelled images: {remedy}.")
    parts = list[tuple[Callable[[], Network], Sequence[int]]]()
    make_folder(out)
    classes = getattr(samples, "labels", np.zeros(len(samples), np.int64))
    digests = {k: hashlib.blake2b(samples.names[k].encode(errors="surrogateescape")).digest() for k in indices}
    ordered = sorted(indices, key=lambda k: (classes[k], digests[k]))  # in every part as many of each class
    for number in range(folds):
        folder, listed = out / f"{number + 1}-of-{folds}", out / f"{number + 1}-of-{folds}.txt"
        part = sorted(ordered[number::folds])
        names = [samples.names[k] for k in sorted(set(indices) - set(part))]
        text = "\n".join([f"# labels of {run.absolute()}", *names, ""])
        if listed.is_file() and listed.read_text(encoding="utf-8") != text:
            raise InputError(f"{out} holds networks of another run, or of other labels. Choose another -o.")
        write_text(listed, text)
        with one_of_many():
            if not (folder / "config.yaml").is_file():
                above = {"data": {"labels": str(listed.absolute())}, "train": {"device": str(inference.device)}}
                begin(merge(raw, above), folder, None, reporter)
            elif not (folder / "results.json").is_file():
                go_on(raw["task"], str(folder), {}, reporter)
        parts.append((lambda folder=folder: load_network(folder)[0].to(inference.device), part))  # type: ignore[misc]
    return parts
