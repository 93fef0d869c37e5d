"""WHU-CD: the 7434 released tiles, apart as the official lists say, or tiles of one's own from the large GeoTIFFs.

The order in which the released tiles were cut is not published, so tiles that are cut here have names of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from semikit.data.formats.images import read_image, read_info, read_mask
from semikit.data.published.catalogue import DATES, LABEL, Published
from semikit.data.published.inputs import Found, Inputs, Progress
from semikit.data.published.masks import CHANGED, Bytes, refuse_other_changes
from semikit.data.published.official import SPLITS, known_lists
from semikit.data.published.preparers import Plan, Preparer
from semikit.data.published.preparers._tiles import (
    KINDS,
    PARTS,
    SIDE,
    TILE_BYTES,
    Trio,
    check_whole,
    find_trios,
    jobs_of,
    pair_of,
    sides_of,
    target,
    write_tiles,
)
from semikit.errors import DataError, FileFault, some
from semikit.files import shell_word
from semikit.raster.region import Region

_RELEASED = re.compile(r"whucd_\d{5}")
_CUT = re.compile(r"(?:train|val|test)_r\d+_c\d+")
_REMEDY = "Give WHU-CD.zip of the authors of UniMatch V2, whole."
_OTHERS = (
    "WHU-CD here are the 7434 tiles whucd_00001.png to whucd_07434.png of SemiCD and UniMatch (5947 / 743 / 744). "
    "Other tilings, such as 6096 / 762 / 762, are other data sets. Give WHU-CD.zip, or train on yours by "
    "`semikit train cd --data FOLDER`."
)


def plan(inputs: Inputs, published: Published, progress: Progress) -> Plan:
    """Training, validation and test tiles.

    Raises:
        DataError: no lists, tiles in none of them or of another tiling, missing files, GeoTIFFs that do not fit.
        FileFault: tiles of another size.
    """
    found = find_trios(inputs)
    released = {name: trio for name, trio in found.items() if _RELEASED.fullmatch(name)}
    if released:
        return _released(inputs, released, published, progress)
    if mosaics := find_mosaics(inputs):
        return plan_mosaics(inputs, mosaics)
    own = {name: trio for name, trio in found.items() if _CUT.fullmatch(name)}
    if found and not own:
        raise DataError(f"{len(found)} pairs are named otherwise than WHU-CD's ({some(sorted(found))}). {_OTHERS}")
    check_whole(own, "Give the GeoTIFFs again.")
    parts = {part: [pair_of(name) for name in sorted(own) if name.startswith(part)] for part in PARTS}
    return Plan(parts, jobs_of(own), f"{len(own)} tiles cut from GeoTIFFs", own=OWN, ordered=True)


def _released(inputs: Inputs, tiles: Mapping[str, Trio], published: Published, progress: Progress) -> Plan:
    lists, own = _lists(inputs, published)
    listed = {name: part for part, names in lists.items() for name in names}
    strange = sorted(tiles.keys() - listed.keys())
    if strange:
        raise DataError(f"{len(strange)} of {len(tiles)} tiles are in none of the lists ({some(strange)}). {_OTHERS}")
    sides_of(inputs, tiles, {SIDE: "tiles"}, progress)
    check_whole({name: Trio(part, tiles[name].files) for name, part in listed.items() if name in tiles}, _REMEDY)
    whole = sum(published.counts.values())
    return Plan(
        {part: [pair_of(name) for name in names if name in tiles] for part, names in lists.items()},
        jobs_of(tiles),
        f"{len(tiles)} tiles as given",
        [] if len(tiles) == whole else [f"{len(tiles)} of {whole} tiles. {_OTHERS}"],
        own=own,
        ordered=True,
    )


def _lists(inputs: Inputs, published: Published) -> tuple[dict[str, list[str]], str]:
    """Part -> names of its tiles in the order of the list, and what is not official about these lists."""
    texts = dict(_texts(inputs, published))
    missing = [f"{part}.txt" for part in PARTS if part not in texts]
    if missing:
        raise DataError(
            f"whu: which tile is for training, validation or test is told by the official lists, and {some(missing)} "
            f"are missing. Fetch them first: semikit data fetch whu --splits --root {shell_word(inputs.root)}"
        )
    lines = {part: [line.strip() for line in texts[part].splitlines() if line.strip()] for part in PARTS}
    foreign = [f"{part}.txt" for part in PARTS if f"{published.lists}/{part}.txt" not in known_lists(lines[part])]
    own = f"parts by lists that are not the official ones ({', '.join(foreign)})" if foreign else ""
    return {part: [line.removesuffix(".png") for line in lines[part]] for part in PARTS}, own


def _texts(inputs: Inputs, published: Published) -> Iterator[tuple[str, str]]:
    """Part -> content of its list, from the source or else, and before it, from the root."""
    found = {member: match[1] for match, member in inputs.find(rf"{SPLITS}/{published.name}/(train|val|test)\.txt")}
    for member, data in inputs.read(found):
        yield found[member], data.decode("utf-8-sig", errors="replace")
    for part in PARTS:
        path = inputs.root / SPLITS / f"{part}.txt"
        if path.is_file():
            yield part, path.read_text(encoding="utf-8-sig", errors="replace")


plugin = Preparer(
    f"{{{','.join(KINDS)}}}/whucd_*.png (WHU-CD.zip of the authors of UniMatch V2) with the official lists, or the "
    "original GeoTIFFs: paths with 2012, 2016 or change_label, and train or test",
    plan,
)


_YEARS = {"2012": DATES[0], "2016": DATES[1]}
_VALIDATION = 10
"""One of so many rows of the training area is for validation."""


@final
@dataclass(frozen=True, slots=True)
class Mosaic:
    """One area: its three files, and how many rows and columns of whole tiles it has."""

    part: str
    files: Mapping[str, Path]
    rows: int
    columns: int

    def names(self, row: int) -> list[str]:
        """The tiles of a row."""
        part = "val" if self.part == "train" and row >= self.rows - self.validation else self.part
        return [f"{part}_r{row:03}_c{column:03}" for column in range(self.columns)]

    @property
    def validation(self) -> int:
        """Rows for validation, where this is the training area."""
        return max(1, round(self.rows / _VALIDATION))


def find_mosaics(inputs: Inputs) -> dict[str, dict[str, Found]]:
    """GeoTIFFs by area (train, test) and by what they are (A, B, label), read off their path.

    Raises:
        DataError: two files for the same.
    """
    found: dict[str, dict[str, Found]] = {}
    for _, member in inputs.find(r"(?i:[^/]+\.tiff?)"):
        read = _what(member.name.lower())
        if read is None:
            continue
        other = found.setdefault(read[0], {}).setdefault(read[1], member)
        if other.place is member.place and other is not member:
            raise DataError(f"two files for {read[1]} of {read[0]}: {other.where} and {member.where}. Take one out.")
    return found


def plan_mosaics(inputs: Inputs, found: Mapping[str, Mapping[str, Found]]) -> Plan:
    """What is to be cut; reads headers.

    Raises:
        DataError: a file that is missing, in an archive, of another size than the others, or too small.
        FileFault: a file that cannot be read, or is no 8-bit image.
    """
    mosaics = [_opened(part, files) for part, files in sorted(found.items(), reverse=True)]
    names = [name for mosaic in mosaics for row in range(mosaic.rows) for name in mosaic.names(row)]
    summary = f"{len(names)} tiles cut from GeoTIFFs"
    if "train" in found:
        summary += f", validation: the last {mosaics[0].validation} of {mosaics[0].rows} rows of the training area"
    missing = [name for name in names if any(target(kind, name) not in inputs.in_place for kind in KINDS)]
    return Plan(
        {part: [pair_of(name) for name in names if name.startswith(part)] for part in ("train", "val", "test")},
        [],
        summary,
        after=_cutting(inputs, mosaics) if missing else None,
        after_bytes=len(missing) * TILE_BYTES,
        own=OWN,
        ordered=True,
    )


OWN = "tiles cut here from the GeoTIFFs, validation from the training area"


def _what(path: str) -> tuple[str, str] | None:
    """Area, and which of the three files; None for others: small images, and buildings of one date."""
    folders = path.split("/")[:-1]
    areas = re.findall(r"(?<![a-z])(train|test)(?![a-z])", path)
    years = re.findall(r"(?<!\d)(2012|2016)(?!\d)", path)
    if not areas or any(folder.startswith("split") for folder in folders):
        return None
    if re.search(r"change[ _-]?label", path):
        return areas[-1], LABEL
    return (areas[-1], _YEARS[years[-1]]) if years and LABEL not in folders else None


def _opened(part: str, found: Mapping[str, Found]) -> Mosaic:
    missing = [kind for kind in KINDS if kind not in found]
    if missing:
        wanted = {DATES[0]: "of 2012", DATES[1]: "of 2016", LABEL: "change_label"}
        there = ", ".join(member.where for member in found.values())
        raise DataError(
            f"{part}: no GeoTIFF {' and none '.join(wanted[kind] for kind in missing)} was found beside {there}. "
            f"Their paths hold 2012, 2016 or change_label, and {part}."
        )
    packed = [member.place.path for member in found.values() if member.place.path.is_file()]
    if packed:
        raise DataError(f"{packed[0]} has to be unpacked first: its GeoTIFFs are too large to be read from an archive.")
    files = {kind: member.place.path / member.name.removeprefix(member.place.prefix) for kind, member in found.items()}
    infos = {kind: read_info(path) for kind, path in files.items()}
    if len({info.size for info in infos.values()}) > 1:
        sizes = ", ".join(f"{files[kind].name} {info.size[1]}x{info.size[0]}" for kind, info in infos.items())
        raise DataError(f"{part}: files of other sizes: {sizes} (width x height). Give files of one release.")
    deep = [kind for kind in DATES if infos[kind].dtype != "uint8"]
    if deep:
        remedy = "Give the original images of 8 bits."
        raise FileFault("image of more than 8 bits", files[deep[0]], infos[deep[0]].dtype, remedy)
    rows, columns = (side // SIDE for side in infos[LABEL].size)
    if rows < 2 or columns < 1:
        raise DataError(f"{files[LABEL]}: too small; {part} needs two rows of tiles of {SIDE}x{SIDE} pixels.")
    return Mosaic(part, files, rows, columns)


def _cutting(inputs: Inputs, mosaics: list[Mosaic]) -> Callable[[Progress], None]:
    def after(progress: Progress) -> None:
        total, done = sum(mosaic.rows for mosaic in mosaics), 0
        for mosaic in mosaics:
            _check_label(mosaic)
            for row in range(mosaic.rows):
                _cut_row(inputs, mosaic, row)
                done += 1
                progress("cutting rows", done, total)

    return after


def _cut_row(inputs: Inputs, mosaic: Mosaic, row: int) -> None:
    names = mosaic.names(row)
    for kind, path in mosaic.files.items():
        if all(target(kind, name) in inputs.in_place for name in names):
            continue
        strip = Region(row * SIDE, 0, SIDE, mosaic.columns * SIDE)
        values = _changes(path, strip) if kind == LABEL else read_image(path, region=strip)[0][..., :3]
        write_tiles(inputs.root, kind, names, values, inputs.in_place)


def _changes(path: Path, strip: Region) -> Bytes:
    return np.where(read_mask(path, strip) > 0, np.uint8(CHANGED), np.uint8(0))


def _check_label(mosaic: Mosaic) -> None:
    """Raise where the map of change as a whole holds other values than 0 and 255, or 0 and 1."""
    path, present = mosaic.files[LABEL], set[int]()
    for strip in _strips(read_info(path).size):
        present |= set(np.unique(read_mask(path, strip)).tolist())
    refuse_other_changes(present, str(path))


def _strips(size: tuple[int, int]) -> Iterator[Region]:
    for top in range(0, size[0], SIDE):
        yield Region(top, 0, min(SIDE, size[0] - top), size[1])
