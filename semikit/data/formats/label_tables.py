"""Tables of files and labels, and lists of files, as users write them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from semikit.data.file_patterns import real_places
from semikit.data.formats.images import PHOTOS, RASTERS
from semikit.data.formats.name_lists import near
from semikit.data.formats.table_columns import (
    PLAIN,
    Columns,
    file_column,
    lines_of,
    part_of,
    read_cells,
    require,
)
from semikit.data.naming import folded
from semikit.errors import DataError, some

_WHOLE = re.compile(r"/|[A-Za-z]:[\\/]|\\\\")
Table = dict[str, tuple[Path, str | None]]
"""Name -> (file, class name; None where the cell is empty)."""


def read_table(
    path: Path, images: Path | None, key: str, columns: Columns | None = None, part: str | None = None
) -> Table:
    """The images of a table, sorted by name; separated by comma, semicolon or tab.

    Files count from `images`, else from the table's folder; one without a suffix is the image of that name. An empty
    label is an unknown class. `columns` says which are read (file and label), `part` of which rows.

    Raises:
        DataError: not such a table, files that are missing or no images, a file that is named twice.
    """
    base = path.parent if images is None else images
    chosen = PLAIN if columns is None else columns
    cells = read_cells(path, key, numbered=isinstance(chosen.file, int))
    require(cells, chosen, key)
    rows = list(zip(cells.cells(chosen.file), cells.cells(chosen.label), strict=True))
    if part is not None and chosen.split is not None:
        words = cells.cells(chosen.split)
        rows = [row for row, word in zip(rows, words, strict=True) if part_of(word) == part]
    entries = [(file, number) for number, (file, _) in enumerate(rows)]
    found = {
        name: (file, rows[number][1] or None)
        for name, (file, number) in _files(path, base, _with_suffixes(entries, base), key).items()
    }
    if not any(label for _, label in found.values()):
        raise DataError(f"{key}: no image of {path} has a label.")
    return found


def read_list(path: Path, key: str) -> dict[str, Path]:
    """Name -> file of a list with one file a line (from the list's folder), or of a table's column of files.

    Raises:
        DataError: no text, nothing in it, files that are missing or no images, a file that is named twice.
    """
    lines = lines_of(path, key)
    cells = read_cells(path, key)
    column = file_column(cells.names)
    if column is None:
        entries = [(line.strip(), number) for number, line in enumerate(lines) if line.strip()[:1] not in ("", "#")]
    else:
        entries = [(cell, number) for number, cell in enumerate(cells.cells(column))]
    if not entries:
        raise DataError(f"{key}: {path} names no image; write one file a line.")
    files = _files(path, path.parent, _with_suffixes(entries, path.parent), key)
    return {name: file for name, (file, _) in files.items()}


def _with_suffixes(entries: Sequence[tuple[str, int]], base: Path) -> list[tuple[str, int]]:
    """Entries without a suffix (0a1b) as the image of that name in its folder (0a1b.jpg), where there is one."""
    held: dict[Path, dict[str, list[str]]] = {}

    def whole(entry: str) -> str:
        path = base / entry
        if not entry or path.suffix.lower() in PHOTOS | RASTERS:
            return entry
        if path.parent not in held:
            images = held.setdefault(path.parent, {})
            for item in path.parent.iterdir() if path.parent.is_dir() else ():
                if item.suffix.lower() in PHOTOS | RASTERS:
                    images.setdefault(item.stem, []).append(item.suffix)
        suffixes = held[path.parent].get(path.name, [])
        return f"{entry}{suffixes[0]}" if len(suffixes) == 1 else entry

    return [(whole(entry.strip()), number) for entry, number in entries]


def _files(path: Path, base: Path, entries: Sequence[tuple[str, int]], key: str) -> dict[str, tuple[Path, int]]:
    """Name -> (file, number of its row), sorted by name.

    Raises:
        DataError: with all files that are wrong.
    """
    cut = _foreign_parts(base, [entry for entry, _ in entries])
    found = [(_placed(base, entry.strip(), cut), number) for entry, number in entries]
    foreign = [str(file) for file, _ in found if file.suffix.lower() not in PHOTOS | RASTERS]
    if all(file != base and not file.suffix and not file.exists() for file, _ in found):
        foreign = []  # names of images that lie elsewhere
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
            f"Files count from {base}; of a table of labels another folder is said as {{labels: {path.name}, images: "
            "DIR} in the YAML, or by --root DIR."
        )
    named = [(_name(file, base), file, number) for file, number in found]
    places = real_places(file for _, file, _ in named)
    times = Counter(places)
    twice = list(dict.fromkeys(name for (name, _, _), place in zip(named, places, strict=True) if times[place] > 1))
    if twice:
        raise DataError(f"{key}: {path} names {len(twice)} images twice: {some(twice)}. Name each once.")
    return {name: (file, number) for name, file, number in sorted(named)}


def _placed(base: Path, entry: str, cut: int) -> Path:
    """The file of an entry; of a table written on Windows a backslash parts folders, where no file has one in its
    name. Of a whole path that is not here the first `cut` parts are left out.
    """
    file, parted = base / entry, base / entry.replace("\\", "/")
    if cut and _is_foreign(base, entry):
        return base.joinpath(*_parts(entry)[cut:])
    return parted if "\\" in entry and not file.exists() and parted.exists() else file


def _foreign_parts(base: Path, entries: Sequence[str]) -> int:
    """How many first parts of the whole paths of another machine are left out, of all the same number: so many that
    most of the files are found; 0 where none is.
    """
    foreign = [_parts(entry) for entry in entries if _is_foreign(base, entry)]
    columns = zip(*(parts[:-1] for parts in foreign), strict=False)
    common = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    found = {cut: sum(base.joinpath(*parts[cut:]).is_file() for parts in foreign) for cut in range(1, common + 1)}
    best = max(found, key=found.__getitem__, default=0)
    return best if best and found[best] else 0


def _is_foreign(base: Path, entry: str) -> bool:
    """Whether an entry is a whole path, of Windows or of another system, that is not here."""
    path = Path(entry.strip())
    return bool(_WHOLE.match(entry.strip())) and not (base / path).exists() and base.absolute() not in path.parents


def _parts(entry: str) -> tuple[str, ...]:
    return PurePosixPath(entry.strip().replace("\\", "/")).parts


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
