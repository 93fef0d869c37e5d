"""Tables `file,label` and lists of files, as users write them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from semikit.data.file_patterns import real_places
from semikit.data.formats.images import PHOTOS, RASTERS
from semikit.data.formats.name_lists import near
from semikit.data.naming import folded
from semikit.errors import DataError, some
from semikit.files import no_such_file

Table = dict[str, tuple[Path, str | None]]
"""Name -> (file, class name; None where the cell is empty)."""

FILE, LABEL = "file", "label"
"""The columns a table must have; others are ignored."""


def read_table(path: Path, images: Path | None, key: str) -> Table:
    """The images of a CSV with the columns file and label, sorted by name; separated by comma, semicolon or tab.

    Files count from `images`, else from the table's folder. An empty label is an unknown class.

    Raises:
        DataError: not such a table, files that are missing or no images, a file that is named twice.
    """
    rows = _rows(path, key)
    base = path.parent if images is None else images
    found: Table = {}
    for name, (file, line) in _files(path, base, [(row.get(FILE, ""), line) for line, row in rows], key).items():
        label = rows[line][1].get(LABEL, "").strip()
        found[name] = (file, label or None)
    if not any(label for _, label in found.values()):
        raise DataError(f"{key}: no image of {path} has a label.")
    return found


def read_list(path: Path, key: str) -> dict[str, Path]:
    """Name -> file of a list with one file a line (from the list's folder), or of a table's column `file`.

    Raises:
        DataError: no text, nothing in it, files that are missing or no images, a file that is named twice.
    """
    lines = _lines(path, key)
    if FILE not in _columns(lines[0]):
        entries = [(line.strip(), number) for number, line in enumerate(lines) if line.strip()[:1] not in ("", "#")]
    else:
        entries = [(row.get(FILE, ""), number) for number, (_, row) in enumerate(_parsed(lines))]
    if not entries:
        raise DataError(f"{key}: {path} names no image; write one file a line.")
    return {name: file for name, (file, _) in _files(path, path.parent, entries, key).items()}


def _rows(path: Path, key: str) -> list[tuple[int, Mapping[str, str]]]:
    """Number and cells of each row.

    Raises:
        DataError: without the columns file and label.
    """
    lines = _lines(path, key)
    columns = _columns(lines[0])
    missing = [name for name in (FILE, LABEL) if name not in columns]
    if missing:
        raise DataError(
            f"{key}: the first line of {path} must name the columns, file,label; it has no {' and no '.join(missing)}: "
            f"{lines[0].strip()[:80]!r}."
        )
    rows = _parsed(lines)
    if not rows:
        raise DataError(f"{key}: {path} has a first line only, and no image.")
    return rows


def _parsed(lines: Sequence[str]) -> list[tuple[int, Mapping[str, str]]]:
    names = {number: name for name, number in _columns(lines[0]).items()}
    rows = [row for row in csv.reader(lines[1:], delimiter=_delimiter(lines[0])) if any(cell.strip() for cell in row)]
    return [
        (number, {names[k]: cell.strip() for k, cell in enumerate(row) if k in names})
        for number, row in enumerate(rows)
    ]


def _columns(first: str) -> dict[str, int]:
    cells = next(csv.reader([first], delimiter=_delimiter(first)), [])
    return {cell.strip().lower(): k for k, cell in enumerate(cells)}


def _delimiter(first: str) -> str:
    return max(",;\t", key=first.count)


def _lines(path: Path, key: str) -> list[str]:
    if not path.is_file():
        raise no_such_file(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{key}: {path} is not a text file (UTF-8).") from None
    if not any(line.strip() for line in lines):
        raise DataError(f"{key}: {path} is empty.")
    return lines


def _files(path: Path, base: Path, entries: Sequence[tuple[str, int]], key: str) -> dict[str, tuple[Path, int]]:
    """Name -> (file, number of its row), sorted by name.

    Raises:
        DataError: with all files that are wrong.
    """
    found = [(_placed(base, entry.strip()), number) for entry, number in entries]
    foreign = [str(file) for file, _ in found if file.suffix.lower() not in PHOTOS | RASTERS]
    if foreign:
        raise DataError(
            f"{key}: {path} names {len(foreign)} files that are no images: {some(foreign)}. "
            f"Known types: {', '.join(sorted(PHOTOS | RASTERS))}."
        )
    missing = [file for file, _ in found if not file.is_file()]
    if missing:
        beside = [item.name for item in missing[0].parent.iterdir()] if missing[0].parent.is_dir() else []
        raise DataError(
            f"{key}: {path} names {len(missing)} of {len(found)} files that are not there: "
            f"{some([str(file) for file in missing])}.{_spelt_otherwise(missing) or near(missing[0].name, beside)} "
            f"Files count from {base}."
        )
    named = [(_name(file, base), file, number) for file, number in found]
    places = real_places(file for _, file, _ in named)
    times = Counter(places)
    twice = list(dict.fromkeys(name for (name, _, _), place in zip(named, places, strict=True) if times[place] > 1))
    if twice:
        raise DataError(f"{key}: {path} names {len(twice)} images twice: {some(twice)}. Name each once.")
    return {name: (file, number) for name, file, number in sorted(named)}


def _placed(base: Path, entry: str) -> Path:
    """The file of an entry; of a table written on Windows a backslash parts folders, where no file has one in its
    name.
    """
    file, parted = base / entry, base / entry.replace("\\", "/")
    return parted if "\\" in entry and not file.exists() and parted.exists() else file


def _spelt_otherwise(missing: Sequence[Path]) -> str:
    """What is said of files that are there under a name in other letters; nothing where none is."""
    held: dict[Path, dict[str, Path]] = {}

    def there(path: Path) -> Path | None:
        """The path as it is stored, each part of it in whatever letters."""
        if path.exists():
            return path
        folder = None if path.parent == path else there(path.parent)
        if folder is None or not folder.is_dir():
            return None
        if folder not in held:
            held[folder] = {folded(item.name): item for item in folder.iterdir()}
        return held[folder].get(folded(path.name))

    parted = ((file, Path(str(file).replace("\\", "/"))) for file in missing)
    found = [f"{file} is {stored}" for file, path in parted if (stored := there(path)) is not None]
    if not found:
        return ""
    return f" {len(found)} are there in other letters (upper and lower case, composed and decomposed): {some(found)}."


def _name(file: Path, base: Path) -> str:
    """The path below `base` without suffix; of a file elsewhere the whole path."""
    inner = file.relative_to(base) if file.is_relative_to(base) else file
    return str(PurePosixPath(inner.as_posix()).with_suffix("")).removeprefix("/")
