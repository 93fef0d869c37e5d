"""YOLO's text files: a line for each object, its class and the corners of its outline as shares of width and height."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from semikit.data.conversion.labels import (
    PART,
    Area,
    Areas,
    LabeledImage,
    LabelSet,
    Rings,
    part_named,
    points,
    rectangle,
    refuse_nothing,
    smaller_on_top,
)
from semikit.data.spec import read_yaml
from semikit.errors import DataError, FileFault, some
from semikit.files import text_lines

_PARTS: tuple[PART, ...] = ("train", "val", "test")
_NAMES = ("classes.txt", "obj.names", "names.txt")
_BOX = 5
"""Numbers of a line that is a box: class, centre, width and height."""
_OUTSIDE = 0.5
"""Shares so far outside of the image are no shares."""


def is_yolo(source: Path) -> bool:
    """Whether this is a data YAML, or a folder with one, or with labels/*.txt."""
    if source.is_file():
        return source.suffix.lower() in (".yaml", ".yml") and _is_list(source)
    labels = source / "labels" if (source / "labels").is_dir() else source
    return any(_is_list(path) for path in (*source.glob("*.y*ml"), *list(labels.rglob("*.txt"))[:1]))


def _is_list(path: Path) -> bool:
    """Whether it is a YAML with names, or text whose first line begins with numbers."""
    if path.suffix != ".txt":
        raw = read_yaml(path)
        return isinstance(raw, dict) and "names" in raw
    words = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].split()
    return path.name not in _NAMES and (not words or not _wrong(words, ()))


def read_yolo(source: Path) -> LabelSet:
    """The labels that a data YAML of ultralytics names, or of a folder with labels/ (and images/ beside it).

    Raises:
        DataError: no label file; boxes only.
        FileFault: a YAML that does not describe labels.
    """
    yaml = source if source.is_file() else next(iter(sorted(source.glob("*.y*ml"))), None)
    raw = read_yaml(yaml) if yaml is not None else {}
    described = isinstance(raw, dict) and "names" in raw
    places = _described(yaml, raw) if yaml is not None and described else _found(source)
    names = _listed(raw["names"]) if described else _names_beside(source)
    images: list[LabeledImage] = []
    bad: list[str] = []
    boxes: list[str] = []
    largest = -1
    for part, folder, _ in places:
        for path in sorted(folder.rglob("*.txt")):
            if path.name in _NAMES:
                continue
            areas, most = _areas(path, names, bad, boxes)
            largest = max(largest, most)
            drawing = Areas(smaller_on_top(areas), relative=True)
            stem = path.relative_to(folder).with_suffix("").as_posix()
            images.append(LabeledImage(f"{stem}.jpg", drawing, path, part))
    refuse_nothing(images, source, "label file of YOLO (labels/*.txt)")
    if boxes and sum(len(image.areas) for image in images) == len(boxes):
        raise DataError(f"{source}: all lines are boxes (class, centre, size), no outlines; masks cannot be drawn.")
    notices = [f"{len(bad)} lines cannot be read and are left out: {some(bad)}"] if bad else []
    if boxes:
        notices.append(f"{len(boxes)} lines are boxes without an outline, whose pixels do not count: {some(boxes)}")
    folders: dict[str, Path] = {part: folder for part, _, folder in places if folder is not None}
    known = names or tuple(f"class {number}" for number in range(largest + 1))
    return LabelSet("YOLO txt", known, images, "of overlapping areas the smaller lies on top", folders, notices)


Place = tuple[PART, Path, Path | None]
"""A part, the folder of its labels, and that of its images."""


def _described(yaml: Path, raw: Mapping[str, Any]) -> list[Place]:
    places: list[Place] = []
    for part in _PARTS:
        given = raw.get(part) or (raw.get("valid") if part == "val" else None)
        if not given:
            continue
        if not isinstance(given, str) or given.endswith(".txt"):
            remedy = "Give the folder of label files as SOURCE, and --images DIR."
            raise FileFault("data YAML with a list in place of a folder", yaml, f"{part}: {given}", remedy)
        images = _folder(yaml.parent, str(raw.get("path") or ""), given)
        places.append((part, _labels_beside(images), images))
    if not places:
        raise FileFault("data YAML without parts", yaml, f"none of {', '.join(_PARTS)}", "Name one.")
    return places


def _folder(base: Path, root: str, given: str) -> Path:
    """The folder of images: `path` counts from the YAML, which some programs get wrong by one folder."""
    tries = [base / root / given, base / given, base / given.removeprefix("../")]
    found = next((path for path in tries if path.is_dir()), None)
    if found is None:
        raise DataError(f"{base}: no folder of images {tries[0]}. Correct the data YAML, or give --images DIR.")
    return found


def _labels_beside(images: Path) -> Path:
    """The folder of labels: the last `images` of the path being `labels`."""
    parts = list(images.parts)
    places = [k for k, part in enumerate(parts) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts)


def _found(source: Path) -> list[Place]:
    """The folders of labels below a folder without YAML; parts are those whose folders are called so."""
    labels = next((path for path in (source / "labels", source) if path.is_dir()), source)
    inner = [path for path in sorted(labels.iterdir()) if path.is_dir()] if labels.is_dir() else []
    parts = {part_named(path.name): path for path in inner if path.name in ("train", "val", "valid", "test")}
    images = Path(*(("images" if part == "labels" else part) for part in labels.parts)) if labels.parts else labels
    if parts:
        return [(part, path, _there(images / path.name)) for part, path in parts.items()]
    return [("train", labels, _there(images))]


def _there(folder: Path) -> Path | None:
    return folder if folder.is_dir() else None


def _listed(raw: Any) -> tuple[str, ...]:
    if isinstance(raw, dict):
        numbered = {int(key): str(name) for key, name in raw.items()}
        return tuple(numbered.get(number, f"class {number}") for number in range(max(numbered) + 1))
    return tuple(str(name) for name in raw)


def _names_beside(source: Path) -> tuple[str, ...]:
    base = source if source.is_dir() else source.parent
    for folder in (base, base.parent, base / "labels"):
        for name in _NAMES:
            if (folder / name).is_file():
                return tuple(text_lines(folder / name))
    return ()


def _areas(path: Path, names: tuple[str, ...], bad: list[str], boxes: list[str]) -> tuple[list[Area], int]:
    """The areas of a file, and the largest class number in it; lines that cannot be read go to `bad`."""
    areas: list[Area] = []
    largest = -1
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{path}, line {number}"
        words = line.split()
        if not words:
            continue
        wrong = _wrong(words, names)
        if wrong:
            bad.append(f"{where} ({wrong})")
            continue
        largest = max(largest, int(float(words[0])))
        name = names[int(float(words[0]))] if names else f"class {int(float(words[0]))}"
        values = np.array(words[1:], dtype=np.float64)
        if len(words) == _BOX:
            x, y, width, height = values
            areas.append(Area(None, rectangle(x - width / 2, y - height / 2, width, height)))
            boxes.append(where)
        else:
            areas.append(Area(name, Rings((values.reshape(-1, 2),))))
    return areas, largest


def _wrong(words: list[str], names: Iterable[str]) -> str:
    """What is wrong with a line; empty where nothing is."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        return "not all are numbers"
    known = len(tuple(names))
    if values[0] != int(values[0]) or values[0] < 0 or (known and values[0] >= known):
        return f"class {words[0]}, of {known}" if known else f"class {words[0]}"
    if len(words) == _BOX:
        return ""
    if points(values[1:]) is None:
        return f"{len(words) - 1} numbers after the class; an outline has pairs of them, three at least"
    if min(values[1:]) < -_OUTSIDE or max(values[1:]) > 1 + _OUTSIDE:
        return "no shares of the image's size, which lie between 0 and 1"
    return ""
