"""Files that a user supplied and that are not used: counted, three of them named, with the likely cause.

What nobody would call a supplied image is not among them: hidden files, texts and tables, vectors, and what programs
lay beside images (`_ASIDE`, `_NAMES`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from semikit.data.file_patterns import real_places
from semikit.data.folders import TYPES, Listed
from semikit.data.naming import CONVERT, likely_causes
from semikit.errors import some
from semikit.raster.vector_layers import VECTORS

_TEXTS = r"txt|md|rst|log|csv|tsv|jsonl?|xml|ya?ml|toml|ini|cfg|html|py|sh|ipynb|md5|sha256"
_VECTORS = r"geojson|gpkg|shp|shx|dbf|cpg|sbn|sbx|qix|qgz|qgs|kml|kmz"
_SIDECARS = r"aux|ovr|prj|tfw|tifw|jgw|jpw|pgw|j2w|wld|rrd|msk|imd|rpb|xmp|thm|db"
_ASIDE = re.compile(rf"\.({_TEXTS}|{_VECTORS}|{_SIDECARS})")
"""Suffixes of what lies beside images and is none."""
_NAMES = frozenset({"thumbs.db", "desktop.ini", "readme", "license", "licence", "copying", "notice", "makefile"})
"""Names of the same kind, without regard to case."""


@final
@dataclass(frozen=True, slots=True)
class Unused:
    """Files of a part that are not used, all for one reason, each with a remark."""

    part: str
    kind: str
    files: tuple[tuple[Path, str], ...]
    remedy: str

    @classmethod
    def of(cls, part: str, kind: str, files: Iterable[Path], remedy: str) -> Unused:
        """Of files without a remark."""
        return cls(part, kind, tuple((path, "") for path in files), remedy)

    def without(self, used: Collection[str]) -> Unused:
        """The same without files that another part uses, given by their real places."""
        places = real_places(path for path, _ in self.files)
        left = (file for file, place in zip(self.files, places, strict=True) if place not in used)
        return replace(self, files=tuple(left))

    def __str__(self) -> str:
        """Part, number, kind, three files, remedy: one sentence for the user."""
        names = [f"{_shown(path)} ({remark})" if remark else _shown(path) for path, remark in self.files[:3]]
        more = f" and {len(self.files) - 3} more" if len(self.files) > 3 else ""
        return f"{self.part}: {len(self.files)} not used, {self.kind}: {', '.join(names)}{more}. {self.remedy}"


def _shown(path: Path) -> str:
    """A path as text; what cannot be printed (bytes that are no text, line breaks) as escapes."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def unread(listed: Listed, part: str) -> list[Unused]:
    """Of what a folder or pattern holds, the files that cannot be read here."""
    foreign = [path for path in listed.others if not aside(path)]
    found = []
    if foreign:
        suffixes = sorted({path.suffix.lower() or "no suffix" for path in foreign})
        remedy = f"Known types: {TYPES}; convert them to one of these."
        kind = f"of a type that is not read ({some(suffixes)})"
        found.append(Unused.of(part, kind, foreign, remedy))
    if listed.near:
        kind = "which the pattern would fit but for upper and lower case or the suffix"
        found.append(Unused.of(part, kind, listed.near, "Rename them, or give a pattern that fits."))
    if listed.special:
        found.append(Unused.of(part, "no regular file (a pipe or a device)", listed.special, "Save images as files."))
    return found


_REMEDIES = {
    "without an image": "Add the images, or take the masks away.",
    "whose image is of a type that is not read": "Convert the images.",
    "whose image lies in another subfolder": "Put both into the same subfolder, or give a pattern with {stem}.",
}


def unused_masks(key: str, masks: Listed, named: Mapping[str, Path], images: Listed) -> list[Unused]:
    """What a place of masks holds and no image uses; `named` are the masks by the names of their images."""
    spare = {name: path for name, path in named.items() if name not in images.files}
    free = {name: path for name, path in images.files.items() if name not in named}
    causes = likely_causes(spare, free, images.others)
    found = [
        Unused(key, f"masks {kind}", tuple(files), _REMEDIES.get(kind, "Give both one name."))
        for kind, files in causes.items()
    ]
    stems = {name.rpartition("/")[2] for name in images.files}
    labels = [path for path in masks.others if _is_label(path, stems)]
    if labels:
        found.append(Unused.of(key, "label files that are no masks", labels, CONVERT))
    others = tuple(path for path in masks.others if path not in set(labels))
    return [*found, *unread(Listed({}, others, masks.special, near=masks.near), key)]


def _is_label(path: Path, stems: Collection[str]) -> bool:
    """Whether a file in a place of masks holds labels: texts and XML only under the name of an image."""
    suffix = path.suffix.lower()
    return suffix in (*VECTORS, ".json") or (suffix in (".txt", ".xml") and path.stem in stems)


def aside(path: Path) -> bool:
    """Whether a file is one of those that lie beside images, and no image."""
    name = path.name.lower()
    return _ASIDE.fullmatch(Path(name).suffix) is not None or name in _NAMES or name.partition(".")[0] in _NAMES
