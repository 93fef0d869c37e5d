"""What a conversion writes beside its masks: the list of classes and the YAML that `semikit train` takes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path, PurePosixPath
from typing import Any, final

from semikit.data.conversion.label_formats import Reading
from semikit.data.conversion.labels import IGNORED, IGNORED_COLOUR, LabeledImage, LabelSet, Numbers
from semikit.data.folders import image_files
from semikit.data.formats.images import is_raster
from semikit.data.spec import read_yaml
from semikit.errors import DataError
from semikit.files import write_text
from semikit.raster.cog import BESIDE
from semikit.settings.yaml_text import in_one_line

_HEAD = "# Written by `semikit data convert`"
_PARTS = ("train", "val", "test")
_WORLD_FILES = (".tfw", ".tifw", ".j2w", ".wld")
_HELD_OUT = 0.2
"""Share of the labelled images that validate where the labels name none that do."""


@final
@dataclass(frozen=True, slots=True)
class Described:
    """What the YAML says: where images are (part -> folder), and what was read."""

    reading: Reading
    found: LabelSet
    numbers: Numbers
    images: Mapping[str, Path]
    second: Mapping[str, Path] | None = None
    """Of pairs, where the images of the second date are."""
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """Of all classes, where the labels have some."""

    def folder_of(self, part: str) -> str:
        """The folder of a part's masks, below that of all."""
        return _folder_of(part, len(self.images))


def images_of_parts(
    matched: Sequence[tuple[LabeledImage, tuple[str, Path]]], folders: Mapping[str, Path], links: Path
) -> dict[str, Path]:
    """The folder of images of each part: where they are or, where several parts share one, LINKS/PART with links.

    Images that have no label go to train, where they are learned from as unlabelled.
    """
    places = {part: folders[part].absolute() for part in _PARTS if part in folders}
    if not any(a.is_relative_to(b) for a, b in permutations(places.values(), 2)):
        return places
    named = {path: (image.part, name) for image, (name, path) in matched}
    former = {path for path in links.rglob("*") if path.is_symlink()}
    for folder in dict.fromkeys(folders.values()):
        for name, path in image_files(folder, "images").items():
            part, place = named.get(path, ("train", name))
            former.difference_update(_link_all(path, links / part / f"{place}{path.suffix}"))
    for path in former:  # of images that are in another part now, or gone
        path.unlink()
    return {part: links / part for part in places}


def _link_all(path: Path, place: Path) -> list[Path]:
    """Links to an image and to what belongs to a raster (its place on the map, overviews, a mask)."""
    pairs = [(path, place)]
    if is_raster(path):
        pairs += [(path.with_suffix(suffix), place.with_suffix(suffix)) for suffix in _WORLD_FILES]
        pairs += [(Path(f"{path}{suffix}"), Path(f"{place}{suffix}")) for suffix in BESIDE]
    there = [(file, link) for file, link in pairs if file.is_file()]
    for file, link in there:
        _link(file, link)
    return [link for _, link in there]


def _link(path: Path, place: Path) -> None:
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError, NotImplementedError):  # Windows lets few users make links
        place.symlink_to(os.path.relpath(path.resolve(), place.parent.resolve()))
        return
    shutil.copy2(path, place)


def refuse_foreign(out: Path) -> None:
    """Raise where a data.yaml or classes.txt lies in OUT that was not written here.

    Raises:
        DataError: names it.
    """
    path = out / "data.yaml"
    ours = path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(_HEAD)
    foreign = [place for place in (path, out / "classes.txt") if place.exists() and not ours]
    if foreign:
        raise DataError(f"{foreign[0]} was not written by this command and is not replaced. Choose another -o.")


def refuse_other_masks(out: Path, classes: Sequence[str], parts: Sequence[str]) -> None:
    """Raise where a data.yaml that was edited, and so is kept, would not fit the masks that are to be written.

    Raises:
        DataError: classes would have other numbers than they had, or masks lie in other folders than it names.
    """
    path, before = out / "data.yaml", former_classes(out) or list(classes)
    if not _edited(path):
        return
    remedy = f"Take {path} away to have it written anew (put your lines in again), or choose another -o."
    if before != list(classes):
        raise DataError(
            f"{path} was edited and is kept, but its classes would get other numbers: they were {', '.join(before)}; "
            f"the labels have {', '.join(classes)} now. Keep the numbers with --classes {','.join(before)}. {remedy}"
        )
    raw = read_yaml(path)
    entries = [raw.get(part) for part in _PARTS] if isinstance(raw, dict) else []
    named = [entry.get("masks") for entry in entries if isinstance(entry, dict)]
    written = [Path("masks", _folder_of(part, len(parts))).as_posix() for part in parts]
    ours = [text for text in named if isinstance(text, str) and PurePosixPath(text).parts[:1] == ("masks",)]
    other = [text for text in ours if text not in written and not set(text) & set("{*")]
    if other:
        raise DataError(
            f"{path} was edited and is kept, but names {', '.join(other)}, and masks would be written to "
            f"{', '.join(written)} now. {remedy}"
        )


def former_classes(out: Path) -> list[str] | None:
    """The classes of the masks that a former conversion wrote; None where there was none."""
    listed = out / "classes.txt"
    return listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else None


def _folder_of(part: str, parts: int) -> str:
    """The folder of a part's masks below that of all, of so many parts."""
    return part if parts > 1 else ""


def _edited(path: Path) -> bool:
    """Whether it is there and not as it was written."""
    if not path.exists():
        return False
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    return _digest(rest) not in first


def write_description(out: Path, described: Described) -> list[str]:
    """Write classes.txt and data.yaml; one that was edited is kept, which a notice says."""
    path, text = out / "data.yaml", _text(out, described)
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in described.numbers.classes))
    if _edited(path):
        return [f"{path} was edited and is kept as it is"]
    write_text(path, f"{_HEAD} ({_digest(text)})\n{text}")
    return []


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _text(out: Path, described: Described) -> str:
    found, numbers, images = described.found, described.numbers, described.images
    labeled: list[str] = [image.part for image in found.images]
    counts = ", ".join(f"{part} {labeled.count(part)}" for part in images)
    inside = (
        "does not count"
        if numbers.uncovered == IGNORED
        else f"is class {numbers.uncovered}, {numbers.classes[numbers.uncovered]}"
    )
    lines = [
        f"# Labels: {found.format} from {described.reading.source}; labelled images: {counts}.",
        f"# A pixel belongs to the area its centre lies in; {found.rule}; a pixel in no area {inside}.",
    ]
    for part, folder in images.items():
        masks = Path("masks", described.folder_of(part)).as_posix()
        images_of = {"images": folder}
        if described.second is not None:
            images_of = {"images_a": folder, "images_b": described.second[part]}
        lines.append(_entry(part, {**{key: relative(place, out) for key, place in images_of.items()}, "masks": masks}))
    if "val" not in images:
        lines.append(f"val: {_HELD_OUT}  # of the labelled images")
    lines += [_entry("classes", list(numbers.classes)), _entry("ignore", [IGNORED])]
    if described.colours:
        lines.append(_entry("colors", {name: list(colour) for name, colour in described.colours.items()}))
        lines.append(_entry("ignore_colors", [list(IGNORED_COLOUR)]))
    return "\n".join(lines) + "\n"


def relative(path: Path, base: Path) -> str:
    """A path as it is written into a YAML of the folder `base`: relative where both lie below one folder."""
    path, base = path.absolute(), base.absolute()
    common = Path(os.path.commonpath([path, base])) if path.drive == base.drive else Path(path.anchor)
    near = len(base.relative_to(common).parts) <= 2 and common != Path(path.anchor)
    return Path(os.path.relpath(path, base)).as_posix() if near else path.as_posix()


def _entry(key: str, value: Any) -> str:
    return f"{key}: {in_one_line(value)}"
