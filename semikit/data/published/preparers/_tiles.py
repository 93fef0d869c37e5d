"""Pairs of two dates as A/NAME.png, B/NAME.png and label/NAME.png, and the tiles that larger ones are cut into."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import final

from semikit.data.published.catalogue import DATES, LABEL
from semikit.data.published.inputs import Found, Inputs, Progress, is_archive
from semikit.data.published.masks import PNG_HEAD, Bytes, change_mask, png_size, write_png
from semikit.data.published.prepared import Pair, read_list
from semikit.data.published.preparers import Job
from semikit.errors import DataError, FileFault, some

KINDS = (*DATES, LABEL)
PARTS = ("train", "val", "test")
SIDE = 256
"""Of a tile, pixels."""
TILE_BYTES = 300_000
"""About what the three files of a tile take as PNG."""

_FILES = r"(?:(train|val|test)/)?(A|B|label)/([^/\s]+)\.(?:png|PNG)"


@final
@dataclass(slots=True)
class Trio:
    """The files of one pair (A, B, label) and its part; empty where nothing tells it."""

    part: str = ""
    files: dict[str, Found] = field(default_factory=dict)


def find_trios(inputs: Inputs) -> dict[str, Trio]:
    """Every pair by its name. Its part is that of its folder, else of an earlier run, of its archive, of its name.

    Raises:
        DataError: a pair that lies in two parts.
    """
    trios: dict[str, Trio] = {}
    for match, found in inputs.find(_FILES):
        part, kind, name = match.groups()
        trio = trios.setdefault(name, Trio())
        if part and trio.part and part != trio.part:
            raise DataError(
                f"{name}.png lies in both {trio.part}/ and {part}/ ({found.where}), and a pair belongs to one part. "
                "Take it out of one of them, or give another --source."
            )
        trio.part = trio.part or part or ""
        trio.files.setdefault(kind, found)
    earlier = _earlier(inputs.root)
    for name, trio in trios.items():
        trio.part = trio.part or earlier.get(name) or _archive(trio) or _prefix(name)
    return trios


def sides_of(inputs: Inputs, trios: Mapping[str, Trio], sides: Mapping[int, str], progress: Progress) -> dict[str, int]:
    """The side of every pair's files, pixels; reads headers. `sides` are those that may occur, and what they are.

    Raises:
        FileFault: a file of another size, or files of one pair that differ.
    """
    owner = {found: name for name, trio in trios.items() for found in trio.files.values()}
    seen: dict[str, int] = {}
    for done, (found, head) in enumerate(inputs.heads(owner, PNG_HEAD), start=1):
        height, width = png_size(head, found.where)
        size = f"{width}x{height} (width x height)"
        if height != width or height not in sides:
            allowed = " or ".join(f"{side}x{side} ({what})" for side, what in sides.items())
            remedy = f"Give files of {allowed}; data of your own go by `semikit train cd --data`."
            raise FileFault("image of another size than the data set's", found.where, size, remedy)
        if seen.setdefault(owner[found], height) != height:
            remedy = "A, B and label of a pair have one size; give files of one release."
            raise FileFault("files of one pair that differ in size", found.where, size, remedy)
        progress("looking at sizes", done, len(owner))
    return seen


def check_whole(trios: Mapping[str, Trio], remedy: str) -> None:
    """Raise where files of pairs or their parts are missing.

    Raises:
        DataError: three of each and their number.
    """
    missing = []
    for kind in KINDS:
        lost = [name for name, trio in trios.items() if kind not in trio.files]
        if lost:
            missing.append(f"{len(lost)} of {len(trios)} pairs have no file in {kind}/ ({some(sorted(lost))})")
    bare = sorted(name for name, trio in trios.items() if not trio.part)
    if bare:
        missing.append(
            f"of {len(bare)} neither folder nor name says whether they are train, val or test ({some(bare)})"
        )
    if missing:
        raise DataError(f"{'; '.join(missing)}. {remedy}")


def jobs_of(trios: Mapping[str, Trio]) -> list[Job]:
    """Lay the files of tiles where they belong: images as they are, labels as 0 and 255."""
    every = [(kind, name, found) for name, trio in trios.items() for kind, found in trio.files.items()]
    return [
        Job(found, target(kind, name), change_mask) if kind == LABEL else Job(found, target(kind, name), keep=False)
        for kind, name, found in every
    ]


def target(kind: str, name: str) -> str:
    """Path of a pair's file below the root."""
    return f"{kind}/{name}.png"


def pair_of(name: str) -> Pair:
    """First date and mask of a pair, as lists have it."""
    return target(DATES[0], name), target(LABEL, name)


def cut(values: Bytes) -> Iterator[Bytes]:
    """The whole tiles of an image (H, W, ...), row by row."""
    for top in range(0, values.shape[0] - SIDE + 1, SIDE):
        for left in range(0, values.shape[1] - SIDE + 1, SIDE):
            yield values[top : top + SIDE, left : left + SIDE]


def write_tiles(root: Path, kind: str, names: Sequence[str], values: Bytes, there: Container[str]) -> None:
    """Cut an image into the tiles of these names, and write those that are not there yet; by threads.

    Raises:
        RunError: a tile cannot be written.
    """
    waiting = [(target(kind, name), tile) for name, tile in zip(names, cut(values), strict=True)]
    with ThreadPoolExecutor() as threads:
        futures = [threads.submit(write_png, root / file, tile) for file, tile in waiting if file not in there]
    for future in futures:
        future.result()


def _earlier(root: Path) -> dict[str, str]:
    """Name -> part, of the lists an earlier run left in the root."""
    parts = [part for part in PARTS if (root / "lists" / f"{part}.txt").is_file()]
    return {PurePosixPath(image).stem: part for part in parts for image, _ in read_list(root, part)}


def _archive(trio: Trio) -> str:
    """The part that an archive is named by: train.zip."""
    stems = [found.place.path.stem for found in trio.files.values() if is_archive(found.place.path)]
    return next((stem for stem in stems if stem in PARTS), "")


def _prefix(name: str) -> str:
    head = name.partition("_")[0]
    return head if head in PARTS else ""
