"""Which columns of a table hold files, labels and parts: as stated, or by the names that people give them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, final

from pydantic import Field

from semikit.data.formats.images import PHOTOS, RASTERS
from semikit.data.formats.name_lists import near
from semikit.errors import DataError, some
from semikit.files import no_such_file
from semikit.settings.base import Settings

Column = str | Annotated[int, Field(ge=1)]
"""A name of the first line, or a number, counted from 1, where that is an image already."""

_FILES = (
    *("file", "filename", "file_name", "image", "image_name", "img", "path", "filepath", "file_path", "image_path"),
    *("image_id", "id"),
)
_LABELS = ("label", "class", "category", "target", "class_name", "label_name", "class_label")
_SPLITS = ("split", "subset", "set", "partition")
_PART_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SEPARATORS = "|;"
"""What several labels of one image stand between."""


@final
class Columns(Settings):
    """Which columns of a table are read."""

    file: Column
    """The images."""
    label: Column
    """Their classes; an empty cell: not known."""
    split: Column | None = None
    """Whether an image is for train, val or test."""


PLAIN = Columns(file="file", label="label")
"""Of tables in runs that do not say which columns they have."""


@final
@dataclass(frozen=True, slots=True)
class Table:
    """The cells of a text table, stripped: `names` of the first line in small letters, none where it is a row too."""

    path: Path
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def place(self, column: Column) -> int | None:
        """The number of a column, from 0; None where there is none."""
        if isinstance(column, int):
            return column - 1
        name = column.strip().lower()
        return self.names.index(name) if name in self.names else None

    def cells(self, column: Column) -> list[str]:
        """The cells of a column, "" where a row is too short."""
        place = self.place(column)
        assert place is not None, column
        return [row[place] if place < len(row) else "" for row in self.rows]


def lines_of(path: Path, key: str) -> list[str]:
    """The lines of a text file.

    Raises:
        DataError: no such file, no text, nothing in it; `key` stands before it.
    """
    if not path.is_file():
        raise no_such_file(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{key}: {path} is not a text file in UTF-8. Save it as CSV UTF-8.") from None
    if not any(line.strip() for line in lines):
        raise DataError(f"{key}: {path} is empty.")
    return lines


def delimiter_of(line: str) -> str:
    """What separates the cells of a table with this first line: comma, semicolon or tab."""
    return max(",;\t", key=line.count)


def read_rows(path: Path, key: str) -> list[tuple[str, ...]]:
    """The rows of a table separated by comma, semicolon or tab that hold something; cells without blanks around them.

    Raises:
        DataError: as `lines_of`.
    """
    lines = [line for line in lines_of(path, key) if line.strip()]
    rows = (tuple(cell.strip() for cell in row) for row in csv.reader(lines, delimiter=delimiter_of(lines[0])))
    return [row for row in rows if any(row)]


def read_cells(path: Path, key: str, *, numbered: bool = False) -> Table:
    """A table separated by comma, semicolon or tab. The first line is one of names, unless it names an image, or
    columns are called by their numbers (`numbered`) and it has no name that is known.

    Raises:
        DataError: as `lines_of`.
    """
    rows = read_rows(path, key)
    first = tuple(cell.lower() for cell in rows[0])
    known = any(name in (*_FILES, *_LABELS, *_SPLITS) for name in first)
    if any(map(_is_image, first)) or (numbered and not known):
        return Table(path, (), tuple(rows))
    return Table(path, first, tuple(rows[1:]))


def recognised(path: Path, key: str, stated: Columns | None = None, classes: Collection[str] = ()) -> Columns:
    """The columns of a table: as stated, else by the names that are usual; which must say one class of an image.

    `classes` are names that somebody has listed, whatever marks are in them.

    Raises:
        DataError: columns that are not there or cannot be told, several labels of an image.
    """
    table = read_cells(path, key, numbered=stated is not None and isinstance(stated.file, int))
    columns = _told(table, key) if stated is None else stated
    require(table, columns, key)
    _refuse_several_labels(table, columns, key, classes)
    return columns


def require(table: Table, columns: Columns, key: str) -> None:
    """Raise where a table does not have these columns, or no row.

    Raises:
        DataError: names those it has.
    """
    for name in (columns.file, columns.label, columns.split):
        if name is not None and table.place(name) is None:
            known = some(table.names, 10) or "without names; give their numbers, counted from 1"
            raise DataError(
                f"{key}: {table.path} has no column {name!r}.{near(str(name), table.names)} Its columns: {known}."
            )
    if not table.rows:
        raise DataError(f"{key}: {table.path} has a first line only, and no image.")


def parts_in(path: Path, columns: Columns, key: str) -> list[str]:
    """The parts (train, val, test) that a table's column says, in this order; none without that column.

    Raises:
        DataError: another word in it.
    """
    if columns.split is None:
        return []
    found = {part_of(word) for word in read_cells(path, key).cells(columns.split)}
    if None in found:
        words = sorted({word for word in read_cells(path, key).cells(columns.split) if part_of(word) is None})
        raise DataError(
            f"{key}: {path}: the column {columns.split!r} says {some(words)}; train, val and test are known. To leave "
            f"it out, write columns: {{file: {columns.file}, label: {columns.label}}}."
        )
    return [part for part in ("train", "val", "test") if part in found]


def part_of(word: str) -> str | None:
    """The part that a word names: train, val or test."""
    return _PART_WORDS.get(word.strip().lower())


def file_column(names: Sequence[str]) -> str | None:
    """The column of files in a first line, if it has one that is known."""
    return next((name for name in _FILES if name in names), None)


def _told(table: Table, key: str) -> Columns:
    """Columns by their usual names; of an unnamed table of two, the file and the other.

    Raises:
        DataError: they cannot be told; says what to write.
    """
    if not table.names:
        width = max(map(len, table.rows))
        files = [number for number in range(width) if _holds_images(table, number)]
        if width != 2 or len(files) != 1:
            raise DataError(_question(table, key, "has no line of names"))
        return Columns(file=files[0] + 1, label=2 - files[0])
    file, label = _one(table, _FILES, images=True), _one(table, _LABELS)
    if file is None or label is None:
        if file is not None:
            _refuse_one_hot(table, file, key)
        missing = "files" if file is None else "labels"
        raise DataError(
            _question(table, key, f"has the columns {some(table.names, 12)}, of which none is known for {missing}")
        )
    split = next((name for name in _SPLITS if name in table.names), None)
    if split in _SPLITS[1:] and not all(part_of(word) for word in table.cells(split)):
        split = None  # `set` may mean anything
    return Columns(file=file, label=label, split=split)


def _one(table: Table, known: Sequence[str], *, images: bool = False) -> str | None:
    """The one column with a known name: the first of the known, else one alone; of several the one of images."""
    found = [name for name in known if name in table.names]
    if known[0] in found or len(found) == 1:
        return found[0]
    if images:
        found = [name for name in found if _holds_images(table, table.names.index(name))]
    return found[0] if len(found) == 1 else None


def _question(table: Table, key: str, what: str) -> str:
    """What cannot be told, and the line that would say it."""
    width = max(map(len, table.rows), default=len(table.names))
    names: list[Column] = list(table.names) or [number + 1 for number in range(width)]
    files = [name for number, name in enumerate(names) if _holds_images(table, number)] or names[:1]
    others: list[Column] = [name for name in names if name != files[0]] or names
    usual = [name for name in others if name in _LABELS]
    label = usual[0] if usual else min(others, key=lambda name: len(set(table.cells(name))))
    return (
        f"{key}: {table.path} {what}. Say which hold files and classes, in a YAML file beside it:\n"
        f"train: {table.path.name}\ncolumns: {{file: {files[0]}, label: {label}}}"
    )


def _holds_images(table: Table, number: int) -> bool:
    cells = [row[number] for row in table.rows[:100] if number < len(row) and row[number]]
    return bool(cells) and all(map(_is_image, cells))


def _is_image(cell: str) -> bool:
    return PurePosixPath(cell.strip().lower().replace("\\", "/")).suffix in PHOTOS | RASTERS


# ------------------------------------------------------------------------------------------------ one class an image


def _refuse_one_hot(table: Table, file: str, key: str) -> None:
    """Raise where the classes are columns of 0 and 1."""
    columns = [name for name in table.names if name != file]
    ones = [name for name in columns if {cell for cell in table.cells(name) if cell} <= {"0", "1", "0.0", "1.0"}]
    if len(ones) < 2:
        return
    chosen = [table.cells(name) for name in ones]
    counts = Counter(sum(cell in ("1", "1.0") for cell in row) for row in zip(*chosen, strict=True))
    what = f"{key}: {table.path} has a column of 0 and 1 for each of {len(ones)} classes ({some(ones)})"
    if set(counts) == {1}:
        raise DataError(
            f"{what}, of which each image has one. Write its name into one column instead, label, for example with "
            'pandas: table["label"] = table[CLASSES].idxmax(axis=1).'
        )
    none, several = counts[0], sum(count for ones_of, count in counts.items() if ones_of > 1)
    raise DataError(
        f"{what}; {several} images have several and {none} have none. One class is learned for each image; several "
        "labels of one image are not supported. Keep one class an image, or make a class of each combination."
    )


def _refuse_several_labels(table: Table, columns: Columns, key: str, classes: Collection[str]) -> None:
    """Raise where cells hold several classes: what stands between | or ; in them comes in other cells too."""
    labels = Counter(label for label in table.cells(columns.label) if label not in classes)
    for mark in _SEPARATORS:
        joined = [label for label in labels if mark in label]
        pieces = [{piece.strip() for piece in label.split(mark)} for label in joined]
        times = Counter(piece for several in pieces for piece in several if piece)
        if any(count > 1 or piece in labels for piece, count in times.items()):
            of = sum(labels[label] for label in joined)
            raise DataError(
                f"{key}: {table.path} gives {of} images several classes between {mark!r}: {some(joined)}. One class is "
                "learned for each image; several labels of one image are not supported. Keep one class an image, or "
                "list the combinations as `classes`, each of which is then a class of its own."
            )


def similar_names(classes: Iterable[str]) -> list[tuple[str, ...]]:
    """Class names that differ by letter case, blanks, - and _ or an s at their end alone: likely one class."""
    alike: dict[str, list[str]] = {}
    for name in sorted(set(classes)):
        alike.setdefault("".join(name.casefold().replace("-", " ").replace("_", " ").split()), []).append(name)
    groups: list[tuple[str, ...]] = []
    for text, names in alike.items():
        plural = alike.get(f"{text}s", []) if text else []
        if len(names) + len(plural) > 1:
            groups.append((*names, *plural))
    return groups
