"""WHU-CD: the 7434 released tiles, apart as the official lists say, or tiles of one's own from the large GeoTIFFs.

The order in which the released tiles were cut is not published, so tiles that are cut here have names of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from semikit.data.faults import some
from semikit.data.published.catalogue import Published
from semikit.data.published.inputs import Inputs, Progress
from semikit.data.published.official import SPLITS, known_lists
from semikit.data.published.preparers import Plan, Preparer
from semikit.data.published.preparers._mosaics import OWN, find_mosaics, plan_mosaics
from semikit.data.published.preparers._tiles import (
    KINDS,
    PARTS,
    SIDE,
    Trio,
    check_whole,
    find_trios,
    jobs_of,
    pair_of,
    sides_of,
)
from semikit.errors import DataError

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
            f"are missing. Fetch them first: semikit data fetch whu --splits --root {inputs.root}"
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
