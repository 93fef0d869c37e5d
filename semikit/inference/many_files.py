"""Prediction of many files: which they are, where results may lie, and what becomes of files that cannot be read."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TypeVar, final

from semikit.data.folders import TYPES, Listed, is_image, list_distinct, refuse_odd_name
from semikit.data.formats.images import read_info
from semikit.distributed.together import exchanged, place
from semikit.errors import DataError, FileFault, InputError, RunError, of_one_kind, some
from semikit.files import OUTPUT, make_folder
from semikit.raster.names import raster_name

ERRORS = "errors.csv"
"""Where the files are listed that could not be predicted, beside the results."""
_HEAD = ("file", "error")

T = TypeVar("T")


def find_sources(*sources: str, distinct: bool = True) -> Listed:
    """What `find_source` finds, of several sources together, as a shell makes them of a pattern: of these a file that
    is no image is not read.

    Raises:
        DataError: when nothing is found.
    """
    if len(sources) == 1:
        return find_source(sources[0], distinct=distinct)
    others = [Path(source) for source in sources if Path(source).is_file() and not is_image(source)]
    parts = [find_source(source, distinct=distinct) for source in sources if Path(source) not in others]
    names: dict[str, Path] = {}
    refused = [fault for part in parts for fault in part.refused]
    for stem, path in chain.from_iterable(part.files.items() for part in parts):
        name = stem if distinct else str(path)
        if names.setdefault(name, path) != path:
            refused.append(_twins(path, names[name]))
    if not names:
        raise DataError(f"nothing to predict: {some(list(sources))}: no image. Known types: {TYPES}")
    others += chain.from_iterable(part.others for part in parts)
    return Listed(
        names, tuple(others), tuple(chain.from_iterable(part.special for part in parts)), refused=tuple(refused)
    )


def find_source(source: str, *, distinct: bool = True) -> Listed:
    """The images of a file, a folder (with its subfolders) or a glob, and what lies there and is not read. Where they
    are `distinct`, as files that are named after them have to be, `refused` are those whose name cannot be taken; else
    an image's name is its path.

    Raises:
        DataError: when nothing is found.
    """
    path = file_or_raster(source)
    if not source:
        raise InputError("SOURCE is empty. Give a file, a folder or a pattern; the folder that you are in is `.`.")
    if path.is_file():
        return Listed({path.stem: path}, single=True)
    if path.is_dir():
        return list_distinct(path, "SOURCE", distinct=distinct)
    fitting = sorted(Path(item) for item in glob.glob(source, recursive=True))  # noqa: PTH207
    files = [item for item in fitting if item.is_file()]
    found = [item for item in files if is_image(item.name)]
    if not found and any(_is_special(item) for item in fitting):
        raise DataError(f"nothing to predict: {some([str(item) for item in fitting])} is a pipe or a device, no file.")
    if not found:
        nothing = f"it fits {some([str(item) for item in fitting])}, no image. Known types: {TYPES}"
        raise DataError(
            f"nothing to predict: {source!r} is no file, no folder, and as a pattern "
            f"{nothing if fitting else 'it fits no file'}."
        )
    names, refused = _by_stem(found) if distinct else ({str(item): item for item in found}, ())
    if not names:
        raise DataError(f"nothing to predict that fits {source!r}: {refused[0]}")
    others = tuple(item for item in files if not is_image(item.name))
    special = tuple(filter(_is_special, fitting))
    return Listed(names, others, special, refused=tuple(refused))


def file_or_raster(source: str) -> Path:
    """What a source names: a raster by a name that only GDAL knows, which is opened, else a path.

    Raises:
        FileFault: GDAL cannot open it; InputError: an archive.
    """
    path, named = Path(source), raster_name(source)
    if path.suffix.lower() == ".zip" and path.is_file():
        raise InputError(f"{source} is an archive. Name an image in it, /vsizip/{source}/NAME.tif, or unpack it.")
    if named is None or (glob.glob(source) and not path.is_file()):  # noqa: PTH207
        return path
    read_info(named)
    return named


def _is_special(path: Path) -> bool:
    return path.exists() and not (path.is_file() or path.is_dir())


def _by_stem(paths: Iterable[Path]) -> tuple[dict[str, Path], Sequence[FileFault]]:
    """Files by their names without suffix, the first of several; and those whose name cannot be taken."""
    names: dict[str, Path] = {}
    refused: list[FileFault] = []
    for path in paths:
        try:
            refuse_odd_name(path)
        except FileFault as fault:
            refused.append(fault)
            continue
        first = names.setdefault(path.stem, path)
        if first != path:
            refused.append(_twins(path, first))
    return names, refused


def _twins(path: Path, first: Path) -> FileFault:
    remedy = "Predict one folder after the other, or rename one."
    return FileFault("two files of one name", path, f"the other is {first}", remedy)


def refuse_among_images(results: Iterable[Path], images: Iterable[Path], sources: Iterable[str]) -> None:
    """Raise where a result would lie among the images that are predicted and be taken for one of them the next time.

    Raises:
        InputError: a result in a folder of an image, or below a folder that is searched.
    """
    held = {os.path.realpath(folder) for folder in {path.parent for path in images}}
    searched = [Path(os.path.realpath(folder)) for folder in map(_searched, sources) if folder is not None]
    for folder in {path.parent for path in results}:
        real = Path(os.path.realpath(folder))
        inside = next((place for place in searched if real.is_relative_to(place)), None)
        if str(real) in held or inside is not None:
            raise InputError(
                f"{folder} {'holds' if str(real) in held else f'lies below {inside}, which holds'} the images; results "
                "would lie among them and be taken for images the next time. Choose an -o outside of it."
            )


def _searched(source: str) -> Path | None:
    """The folder that a source is searched in with its subfolders, if any."""
    if Path(source).is_dir():
        return Path(source)
    head, stars, _ = source.partition("**")
    if not stars:
        return None
    return Path(head.rpartition("/")[0] or ("/" if head.startswith("/") else "."))


@contextmanager
def output_folder(out: Path) -> Iterator[None]:
    """The folder of the results, which the first process makes; one that was made for them and holds none after a fault
    is taken away.
    """
    if place()[0]:
        yield
        return
    there = out.exists()
    if there and not out.is_dir():
        raise DataError(f"{out} is a file; -o takes a folder.")
    make_folder(out)
    try:
        yield
    except BaseException:
        if not there and not any(out.iterdir()):
            out.rmdir()
        raise


def caught(read: Callable[[int], T]) -> Callable[[int], T | FileFault]:
    """`read`, with a fault of the file as its result: other threads go on, and the order stays."""

    def attempt(index: int) -> T | FileFault:
        try:
            return read(index)
        except FileFault as fault:
            return fault

    return attempt


@final
class Failures:
    """The files of a prediction that cannot be read: the others are predicted, these are named in `errors.csv`.

    Of a single file (`total` 1), and with `fail_fast`, the first fault ends the prediction. Of several processes the
    first writes the table: line by line its own, in the end, by `shared`, those of all.
    """

    def __init__(self, folder: Path, total: int, *, fail_fast: bool) -> None:
        self.path, self.total, self.fail_fast = folder / ERRORS, total, fail_fast
        self._found: list[tuple[int, FileFault]] = []

    @property
    def found(self) -> list[FileFault]:
        """The faults, in the order of their files."""
        return [fault for _, fault in sorted(self._found, key=itemgetter(0))]

    def add(self, fault: FileFault, results: Iterable[Path] = (), at: int = -1) -> None:
        """Count a file, the one `at` this place among all, and write it into the table; `results` of an earlier
        prediction of it do not stay.

        Raises:
            FileFault: the same, where it ends the prediction.
            RunError: the disk is full.
        """
        if self.fail_fast or self.total == 1:
            raise fault
        self._found.append((at, fault))
        for path in results:
            with suppress(OSError):  # a name that is too long has none
                path.unlink(missing_ok=True)
        if place()[0] == 0:  # line by line: an interruption loses none
            self._write([fault], new=len(self._found) == 1)

    def _write(self, faults: Iterable[FileFault], *, new: bool) -> None:
        rows = [[str(one.file), f"{one.kind}: {one.detail}" if one.detail else one.kind] for one in faults]
        try:
            with self.path.open("w" if new else "a", newline="", encoding="utf-8", errors="surrogateescape") as file:
                csv.writer(file).writerows([_HEAD, *rows] if new else rows)
        except OSError as error:
            raise RunError(f"could not write {self.path}: {error.strerror}. {OUTPUT}") from error

    def shared(self) -> None:
        """Those of all processes, each of which has to call it; the table is in the order of the files then."""
        everyones = exchanged(self._found)
        self._found = list(chain.from_iterable(everyones))
        if any(everyones[1:]) and place()[0] == 0:
            self._write(self.found, new=True)

    def add_all(self, faults: Iterable[FileFault]) -> None:
        """Count files that are known not to be predicted; as `add`."""
        for fault in faults:
            self.add(fault)

    @contextmanager
    def counted(self, notices: list[str]) -> Iterator[None]:
        """While the block predicts; a table of an earlier prediction is removed first. Adds a notice for each kind. Not
        in other processes than the first.

        Raises:
            InputError: a file of that name which is something else.
            DataError: not one file could be predicted.
        """
        if place()[0]:
            yield
            return
        self._remove_former()
        yield
        if len(self.found) == self.total:
            raise DataError(f"none of {self.total} files could be predicted ({self.path}). {' '.join(self._kinds())}")
        notices += [f"{text} All are listed in {self.path}." for text in self._kinds()]

    def _kinds(self) -> list[str]:
        kinds: dict[str, list[FileFault]] = {}
        for fault in self.found:
            kinds.setdefault(fault.kind, []).append(fault)
        return [f"{len(faults)} of {self.total} not predicted, {of_one_kind(faults)}" for faults in kinds.values()]

    def _remove_former(self) -> None:
        if self.path.is_file() and self.path.read_bytes().splitlines()[:1] == [",".join(_HEAD).encode()]:
            self.path.unlink()
        elif self.path.exists() and self.total > 1:
            raise InputError(
                f"{self.path} is no list of an earlier prediction, and files that cannot be read would be listed "
                "there. Move it, or choose another -o."
            )
