"""LEVIR-CD: scenes of 1024x1024 cut into 16 tiles of 256x256, row by row, or tiles that were cut already.

Tile n of a scene, SCENE_n, lies in row (n - 1) // 4 and column (n - 1) % 4, as in the tiles the official lists name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from semikit.data.published.catalogue import DATES, Published
from semikit.data.published.inputs import Found, Inputs, Progress
from semikit.data.published.masks import change_mask, decode_image
from semikit.data.published.preparers import Plan, Preparer, counted
from semikit.data.published.preparers._tiles import (
    KINDS,
    PARTS,
    SIDE,
    check_whole,
    find_trios,
    jobs_of,
    pair_of,
    sides_of,
    target,
    write_tiles,
)
from semikit.errors import some

SCENE = 1024
_TILES = (SCENE // SIDE) ** 2
_SIDES = {SCENE: "scenes", SIDE: "tiles"}
_REMEDY = "Give train.zip, val.zip and test.zip, or LEVIR-CD.zip of the authors of UniMatch V2, each whole."

Waiting = dict[Found, tuple[str, str]]
"""File of a scene that has to be cut -> which of the three it is, and the scene."""


def plan(inputs: Inputs, published: Published, progress: Progress) -> Plan:
    """Training, validation and test tiles.

    Raises:
        DataError: scenes or tiles of which a file is missing, or whose part is not known or two.
        FileFault: another size.
    """
    found = find_trios(inputs)
    sides = sides_of(inputs, found, _SIDES, progress)
    scenes = {name: trio for name, trio in found.items() if sides[name] == SCENE}
    cut = {tile: trio.part for name, trio in scenes.items() for tile in tiles_of(name)}
    given = {name: trio for name, trio in found.items() if name not in scenes and name not in cut}
    check_whole({**scenes, **given}, _REMEDY)
    parts = {**{name: trio.part for name, trio in given.items()}, **cut}
    waiting: Waiting = {
        trio.files[kind]: (kind, name)
        for name, trio in scenes.items()
        for kind in KINDS
        if any(target(kind, tile) not in inputs.in_place for tile in tiles_of(name))
    }
    summary = {"tiles as given": len(given), f"tiles cut from scenes of {SCENE}x{SCENE}": len(cut)}
    return Plan(
        {part: [pair_of(name) for name in in_order(name for name in parts if parts[name] == part)] for part in PARTS},
        jobs_of(given),
        counted(summary),
        after=_cutting(inputs, waiting) if waiting else None,
        after_bytes=sum(found.size for found in waiting),
        own=_own(parts, published),
        ordered=True,
    )


def tiles_of(scene: str) -> list[str]:
    """The names of a scene's tiles, row by row."""
    return [f"{scene}_{number}" for number in range(1, _TILES + 1)]


def official_names(part: str, published: Published) -> list[str]:
    """The tiles of a part as published, in the order of the official list."""
    return in_order(tile for k in range(published.counts[part] // _TILES) for tile in tiles_of(f"{part}_{k + 1}"))


def in_order(names: Iterable[str]) -> list[str]:
    """Names as the official lists are sorted: like a shell does in English, without `_` and `.`."""
    return sorted(names, key=lambda name: (re.sub("[_.]", "", f"{name}.png"), name.replace("_", " ")))


def _own(parts: Mapping[str, str], published: Published) -> str:
    """Which tiles are none of the published ones of the part they are in."""
    known = {part: frozenset(official_names(part, published)) for part in PARTS}
    other = [f"{name} in {part}" for name, part in sorted(parts.items()) if name not in known[part]]
    return f"{len(other)} tiles are in other parts than published or have other names: {some(other)}" if other else ""


def _cutting(inputs: Inputs, waiting: Waiting) -> Callable[[Progress], None]:
    def after(progress: Progress) -> None:
        for done, (found, data) in enumerate(inputs.read(waiting), start=1):
            kind, scene = waiting[found]
            values = (decode_image if kind in DATES else change_mask)(data, found.where)
            write_tiles(inputs.root, kind, tiles_of(scene), values, inputs.in_place)
            progress("cutting scenes", done, len(waiting))

    return after


plugin = Preparer(
    f"{{train,val,test}}/{{{','.join(KINDS)}}}/*.png of 1024x1024 or 256x256 (train.zip, val.zip, test.zip), or "
    f"{{{','.join(KINDS)}}}/{{train,val,test}}_*.png of 256x256 (LEVIR-CD.zip of the authors of UniMatch V2)",
    plan,
)
