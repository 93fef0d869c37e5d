"""Folders of pairs without a YAML: how they are laid out, and the classes of their masks where these are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from semikit.data.file_patterns import is_pattern
from semikit.data.folders import image_files
from semikit.data.formats.colours import COLOUR, packed, unpacked
from semikit.data.formats.images import read_mask
from semikit.data.spec import part_folders
from semikit.errors import DataError, some
from semikit.files import text_lines
from semikit.settings.yaml_text import in_one_line

_XBD = {
    key: f"{folder}/{{stem}}_{date}_disaster{end}.png"
    for key, folder, date, end in (
        ("images_a", "images", "pre", ""),
        ("images_b", "images", "post", ""),
        ("masks_a", "targets", "pre", "_target"),
        ("masks_b", "targets", "post", "_target"),
    )
}
_LAYOUTS: tuple[Mapping[str, str], ...] = (
    {"images_a": "A", "images_b": "B", "masks_a": "masks_a", "masks_b": "masks_b"},
    {"images_a": "im1", "images_b": "im2", "masks_a": "label1", "masks_b": "label2"},
    _XBD,
    {"images_a": "Image1", "images_b": "Image2", "masks": "label"},
    {"images_a": "time1", "images_b": "time2", "masks": "label"},
    {"images_a": "t1", "images_b": "t2", "masks": "mask"},
)
"""Of a part: with a mask of each date as SECOND and xBD, with one as S2Looking, SYSU-CD and CLCD, DSIFN."""
GRADES = ("no building", "no damage", "minor damage", "major damage", "destroyed")
"""Of xBD, in the order of the values of its targets."""
SECOND = {
    "unchanged": (255, 255, 255),
    "water": (0, 0, 255),
    "ground": (128, 128, 128),
    "low vegetation": (0, 128, 0),
    "tree": (0, 255, 0),
    "building": (128, 0, 0),
    "playground": (255, 0, 0),
}
"""The colours of SECOND's masks."""
_OPENED = 20


def part_places(data: Path) -> dict[str, str]:
    """Part -> its folder; without train/ the folder itself, where it is laid out as a part. Of xBD hold is val."""
    places = part_folders(data)
    if "train" not in places and _layout(data) is not None:
        places["train"] = str(data)
    if "val" not in places and _layout(data / "hold") is _XBD:
        places["val"] = str(data / "hold")
    return places


def has_pairs(data: Path) -> bool:
    """Whether a folder is laid out so."""
    return _layout(data) is not None or _layout(data / "train") is not None


def described_pairs(data: Path, places: Mapping[str, str]) -> dict[str, Any]:
    """What a YAML would say of the parts of a folder, and of their classes: each part by its folder where it has A/, B/
    and label/, else by the places of images and masks.

    Raises:
        DataError: masks of both dates whose classes nobody has named.
        FileFault: a mask that cannot be read.
    """
    found = {part: (_layout(Path(place)), Path(place)) for part, place in places.items()}
    parts: dict[str, Any] = {
        part: {key: str(place / inner) for key, inner in layout.items()} if layout else str(place)
        for part, (layout, place) in found.items()
    }
    if "unlabeled" in parts and isinstance(parts["unlabeled"], dict):
        parts["unlabeled"] = {key: parts["unlabeled"][key] for key in ("images_a", "images_b")}
    layout, _ = found.get("train", (None, data))
    if layout is None or "masks" in layout:
        return parts | {"mapping": {255: 1}}
    if layout is _XBD:
        return parts | {"classes": GRADES, "damage": True}
    return parts | _land_cover(data, parts)


def _layout(part: Path) -> Mapping[str, str] | None:
    """How images and masks lie in a part, or where it is without masks, its images; None of other layouts."""

    def there(inner: str) -> bool:
        place = part / inner
        return any(place.parent.glob(place.name.replace("{stem}", "*"))) if is_pattern(place) else place.is_dir()

    both = [layout for layout in _LAYOUTS if all(map(there, layout.values()))]
    plain = (layout for layout in _LAYOUTS[1:] if there(layout["images_a"]) and there(layout["images_b"]))
    return next(iter(both), None) or next(plain, None)


def _land_cover(data: Path, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Classes by `classes.txt`, or of masks in the colours of SECOND those of SECOND."""
    names = data / "classes.txt"
    if names.is_file():
        return {"classes": text_lines(names)}
    files = list(image_files(Path(parts["train"]["masks_a"]), "train.masks_a").values())
    values = {value for path in files[:_OPENED] for value in np.unique(read_mask(path, colours=True)).tolist()}
    if values <= {packed(colour) for colour in SECOND.values()}:
        return {"colors": SECOND}
    held = some([str(list(unpacked(value)) if value >= COLOUR else value) for value in sorted(values)], 12)
    lines = "\n".join(f"{key}: {in_one_line(value)}" for key, value in parts.items())
    raise DataError(
        f"--data {data}: nobody says which classes there are. Masks of train hold {held}. Write their names into "
        f"{names}, one a line in the order of their numbers, the first for what is unchanged; or give a YAML file, in "
        f"which colours have names:\n{lines}\ncolors: {{unchanged: [255, 255, 255], …}}"
    )
