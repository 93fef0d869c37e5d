"""What is told of predicted pairs, each kind once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from semikit.data.faults import some
from semikit.data.images import is_raster
from semikit.data.pairs import aligned
from semikit.data.polygons import PolygonReport
from semikit.data.sampling import depth_notice
from semikit.data.spec import Scale

DEEP, NOTHING, POLYGONS = "have more than 8 bits", "have no pixel that is valid at both dates", "gave polygons"
_ONE, _MOVED, _BARE = "are one file twice", "do not lie on one grid", "have no coordinate reference system"
_DEPTH = "have another depth than the model learned from"


def notices_of(files: tuple[Path, Path], scale: Scale | None) -> dict[str, str]:
    """What a person should know of two images before they are predicted, by its kind; `scale` is the model's."""
    told: dict[str, str] = {}
    if files[0].resolve() == files[1].resolve():
        told[_ONE] = f"{files[0]} was given for both dates: nothing changes between them"
    elif all(map(is_raster, files)):
        alignment = aligned(*files)
        if alignment.notice:
            told[_MOVED] = alignment.notice
        elif not alignment.grid.placed:
            told[_BARE] = f"{files[0]} has no coordinate reference system, and neither has the map"
    depth = depth_notice(files, scale)
    return told if depth is None else {**told, _DEPTH: depth}


def polygons_told(report: PolygonReport, path: Path, placed: bool) -> str:
    """How many polygons were written, and their area."""
    unit = "m2" if placed else "pixels"
    left = f"; {report.dropped} smaller ones left out" if report.dropped else ""
    return f"{report.count} polygon{'s' if report.count != 1 else ''} of {report.area:,.0f} {unit} in {path}{left}"


def gathered(notices: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each kind: of one pair what is told of it, of several their number and the first."""
    return [
        texts[0] if len(texts) == 1 else f"{len(texts)} pairs {kind}: {some(texts)}" for kind, texts in notices.items()
    ]
