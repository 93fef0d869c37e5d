"""The draft of a data YAML: what was found, with a comment for each line that says how sure it is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, final

from semikit.core.census import percent
from semikit.data.conversion.label_formats import FORMATS, Reading, recognised
from semikit.data.conversion.mask_files import COLOUR_TABLES, table_beside
from semikit.data.conversion.yaml_file import relative
from semikit.data.formats.colours import unpacked
from semikit.data.pair_layouts import described_pairs, has_pairs, part_places
from semikit.data.pair_spec import BINARY
from semikit.data.spec import DEFAULT_SHARE, FEWEST_CLASSES
from semikit.data.survey.layout import Layout, Matched, look
from semikit.data.survey.mask_samples import Classes, Histogram, classes_of, histogram
from semikit.data.survey.tasks import of_classes, understood
from semikit.errors import ConfigError, DataError, some
from semikit.files import shell_word
from semikit.settings.yaml_text import in_one_line

_NAMES = ("classes.txt", "class_names.txt", "labels.txt", "names.txt")
_TITLES = {"seg": "images with masks", "cd": "pairs of two dates", "cls": "one class an image"}
_MANY = 40
_TABLE_FORMATS = {"coco", "labelme", "yolo", "cvat", "voc"}


@final
@dataclass(frozen=True, slots=True)
class Draft:
    """The text of a YAML, the task it is for, and what a user should know."""

    task: str
    text: str
    notices: Sequence[str]


def draft(folder: Path, target: Path) -> Draft:
    """Look at a folder and write down what would describe it, for a YAML at `target`.

    Raises:
        DataError: no such folder, no image, or nothing that is a label.
        ConfigError: labels that have to be converted first; says how.
    """
    if not folder.is_dir():
        raise DataError(f"{'not a folder' if folder.exists() else 'no such folder'}: {folder}.")
    if has_pairs(folder):
        return Draft("cd", _of_pairs(folder, relative(folder, target.absolute().parent)), [])
    places, other = look(folder)
    if not places and not other:
        raise DataError(f"{folder} is empty.")
    kind, masks = recognised(Reading(folder)), shell_word(f"{folder.name or 'labels'}-masks")
    layout = None if kind == "voc" else understood(folder, places, other)
    if layout is None and kind in _TABLE_FORMATS:
        raise ConfigError(
            f"{folder} holds labels in the format {FORMATS[kind]}, which are made into masks first: "
            f"semikit data convert {shell_word(folder)} -o {masks}. It writes the YAML too."
        )
    layout = layout or of_classes(folder, places, other)
    if layout is None and kind == "vector" and places:
        rasters = os.path.commonpath([path.parent for place in places for path in place.files.values()])
        raise ConfigError(
            f"{folder} holds polygons on a map, which are made into masks of rasters first: semikit data convert "
            f"{shell_word(folder)} --images {shell_word(rasters)} -o {masks}. It writes the YAML too."
        )
    if layout is None:
        listed = [f"{place.folder} ({len(place.files)} images)" for place in places] or ["nowhere"]
        raise DataError(
            f"{folder}: it was not understood what is labelled here. Looked for masks with the names of images, two "
            f"dates (A/, B/), a folder for each class, and tables file,label. Images are in: {some(listed, 8)}."
        )
    writer = _Writer(folder, relative(folder, target.absolute().parent), layout)
    return Draft(layout.task, writer.text(), writer.notices)


def _of_pairs(folder: Path, base: str) -> str:
    """The YAML of a folder that needs none, to be changed; `base` is the folder as the YAML has it."""
    described = {"val": DEFAULT_SHARE, **described_pairs(folder, part_places(folder))}
    lines = [f"{key}: {in_one_line(value)}" for key, value in described.items()]
    head = f"# Drafted by `semikit data init` from {folder}, which is understood without it.\n"
    return head + "\n".join(lines).replace(f"{folder}/", f"{base}/") + "\n"


@final
class _Writer:
    """Writes the lines of a layout; `base` is the folder as the YAML has it."""

    def __init__(self, folder: Path, base: str, layout: Layout) -> None:
        self.folder, self.base, self.layout = folder, base, layout
        self.notices: list[str] = []

    def text(self) -> str:
        """The whole YAML."""
        layout = self.layout
        self.notices += self._doubts()
        lines = [
            f"# Drafted by `semikit data init` from {self.folder}: {_TITLES[layout.task]}.",
            "# Look through it, then: semikit data check FILE -o sheet.png",
            "",
            *(f"# But {doubt}." for doubt in self._doubts()),
        ]
        for part, found in layout.parts.items():
            lines += [self._part(part, found)]
        if "val" not in layout.parts:
            lines.append("val: 0.2    # no part to validate on was found; this share of the labelled images does")
        lines += self._unlabeled()
        lines += self._classes() if layout.task == "cls" else self._values()
        return "\n".join([*lines, *self._other()]) + "\n"

    def _doubts(self) -> list[str]:
        forms = [f"train: {in_one_line(self._value(form))}" for form in self.layout.doubts]
        if not forms:
            return []
        return [
            "all these folders hold files of the same names. If they are no classes but images and masks, or two "
            f"dates, write {' or '.join(forms)}, and the classes of the masks"
        ]

    def _part(self, part: str, found: Matched) -> str:
        what = "rows" if "labels" in found.entry else "pairs" if "images_b" in found.entry else "images"
        comment = f"{len(found.images)} {what}"
        if self.layout.task != "cls":
            bare = len(found.images) - len(found.masks)
            comment += f", {len(found.masks)} masks" + (f": {bare} are unlabelled" if bare else "")
        return f"{part}: {in_one_line(self._value(found.entry))}    # {comment}"

    def _value(self, entry: Mapping[str, str]) -> Any:
        """Places as the YAML has them; one without a key stands alone."""
        moved = {key: self._place(text) for key, text in entry.items()}
        return moved.get("", moved)

    def _place(self, text: str) -> str:
        return PurePosixPath(self.base, text).as_posix()

    def _unlabeled(self) -> list[str]:
        found = self.layout.unlabeled
        if not found:
            return []
        value = [self._value(part.entry) for part in found]
        return [f"unlabeled: {in_one_line(value)}    # {sum(len(part.images) for part in found)} images without labels"]

    def _classes(self) -> list[str]:
        lines = []
        for part, counts in self.layout.classes.items():
            shown = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:_MANY])
            lines.append(f"# images of each class in {part}: {shown}{', …' if len(counts) > _MANY else ''}")
        if self.layout.classes.get("train"):
            lines.insert(0, f"classes: {in_one_line(list(self.layout.classes['train']))}")
        return lines

    def _values(self) -> list[str]:
        found = histogram([path for part in self.layout.parts.values() for path in part.masks.values()])
        if found.faults:
            self.notices.append(f"{len(found.faults)} masks could not be read: {some(found.faults, 1)}")
        if found.odd:
            self.notices.append(f"the classes were not understood: {found.odd}")
            return ["", f"# classes: not understood, as {found.odd}; name them: [first, second, …]"]
        names = [] if found.coloured else _names(self.folder)
        if self.layout.task == "cd" and not names and not found.coloured and len(found.shares) == len(BINARY):
            names = list(BINARY)
        made = classes_of(found, names, table_beside(self.folder) if found.coloured else None)
        if names and made.guessed:
            values = some([str(value) for value in found.shares], 12)
            self.notices.append(
                f"a list beside the images names {len(names)} classes, but the masks hold {len(found.shares)} values "
                f"({values}); the list was not used. Write down which value is which class, and which do not count"
            )
        if len(made.names) < FEWEST_CLASSES:
            held = f"one class ({made.names[0]!r})" if made.names else "no class"
            self.notices.append(
                f"the masks that were counted hold {held}; two are needed. Write down all classes, or label others too"
            )
        return ["", *_class_lines(made, found)]

    def _other(self) -> list[str]:
        other = [name for name in self.layout.other if PurePosixPath(name).name not in (*_NAMES, *COLOUR_TABLES)]
        if not other:
            return []
        kinds = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in other)
        counted = ", ".join(f"{count} {suffix}" for suffix, count in kinds.most_common(6))
        self.notices.append(f"{len(other)} files were not understood: {some(list(other))}")
        return ["", f"# Not understood ({counted}): {some(list(other))}"]


def _names(folder: Path) -> list[str]:
    path = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    lines = [] if path is None else path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _class_lines(made: Classes, found: Histogram) -> list[str]:
    """Classes or colors, ignore and mapping, each with what was counted."""
    head = f"# counted in {found.opened} masks" + ("; the names are guesses, write your own" if made.guessed else "")
    lines = [head]
    if made.colours:
        lines.append("colors:")
        for name, colour, share in zip(made.names, made.colours, made.shares, strict=True):
            lines.append(f"  {in_one_line(name)}: {list(colour)}    # {_percent(share)}")
        void = {value: found.shares.get(value, 0.0) for value in made.ignore}
        if void:
            listed = [list(unpacked(value)) for value in void]
            lines.append(f"ignore_colors: {listed}    # {_percent(sum(void.values()))} of the pixels")
        return lines
    lines.append("classes:")
    for name, value, share in zip(made.names, made.values, made.shares, strict=True):
        lines.append(f"  - {in_one_line(name)}    # value {value}: {_percent(share)}")
    if made.ignore:
        shown = ", ".join(f"{value}: {_percent(found.shares.get(value, 0.0))}" for value in made.ignore)
        lines.append(f"ignore: {list(made.ignore)}    # {shown} of the pixels")
    if made.mapping:
        lines.append(f"mapping: {in_one_line(made.mapping)}    # mask value: class")
    return lines


def _percent(share: float) -> str:
    return "not seen" if share == 0 else percent(share)
