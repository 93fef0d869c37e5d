"""Where images and masks lie: in a folder, or where a pattern says with {stem}, {name} or a star.

{stem} (or a star) stands for an image's file name without suffix, {name} for its path below the folder without suffix,
subfolders and all. A pattern without a known suffix, or that ends in ".*", takes images of every type.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from semikit.data.folders import TYPES, Listed, is_image, list_images, named, nearby, walk
from semikit.data.naming import CONVERT, UNKNOWN_CAUSE, folded, likely_causes, naming
from semikit.errors import DataError, some, unknown
from semikit.raster.vector_layers import VECTORS

_LABELS = (*VECTORS, ".json", ".txt", ".xml")
_ANY_SUFFIX = r"\.[^./]+"
_PLACE = re.compile(r"\{stem\}|\{name\}|\*")


def is_pattern(place: Path) -> bool:
    """Whether it is a pattern; a folder that is called like one is a folder."""
    return _PLACE.search(str(place)) is not None and not place.is_dir()


def list_place(
    place: Path, key: str, without: Path | None = None, taken: Collection[str] = (), empty: bool = False
) -> Listed:
    """What lies in a folder, as `list_images` finds it, or fits a pattern.

    Raises:
        DataError: as `list_images`; nothing fits, several stars, or different places in one pattern.
    """
    if not is_pattern(place):
        return list_images(place, key, without, empty, taken)
    base, inner = _cut(place)
    if not base.is_dir():
        raise DataError(f"{key}: no image fits {place}: no such folder: {base}.{nearby(base)}")
    fits, any_suffix = _expression(inner, f"{key}: {place}")
    found = walk(base, None, taken, None if "{name}" in inner else inner.count("/"))
    images = {path: match["at"] for path in found.images if (match := fits.fullmatch(path))}
    if not (images or empty):
        raise DataError(f"{key}: no image fits {place}. Known types: {TYPES}.")
    others = [base / path for path in sorted(found.others) if any_suffix and fits.fullmatch(path)]
    special = [base / path for path in sorted(found.special) if fits.fullmatch(path)]
    near = _near(found.images, images, fits)
    return Listed(
        named(base, images, key),
        tuple(others),
        tuple(special),
        "{name}" not in inner,
        near=tuple(base / path for path in near),
    )


def _near(paths: Collection[str], images: Mapping[str, str], fits: re.Pattern[str]) -> list[str]:
    """What would fit but for upper and lower case or its suffix, and is no twin of an image that fits."""
    loose = re.compile(rf"(?i:{fits.pattern.partition('(?i:')[0].removesuffix(_ANY_SUFFIX)}){_ANY_SUFFIX}")
    names = {folded(name) for name in images.values()}
    found = ((path, loose.fullmatch(path)) for path in sorted(paths) if path not in images)
    return [path for path, match in found if match and folded(match["at"]) not in names]


def list_masks(place: Path, key: str) -> Listed:
    """What `list_place` gives of a place of masks; where it holds other labels in their place, the error says so.

    Raises:
        DataError: as `list_place`.
    """
    found = list_place(place, key, empty=True)
    labels = [path.name for path in found.others if path.suffix.lower() in _LABELS]
    if not found.files:
        more = f" It holds label files ({some(labels)}). {CONVERT}" if labels else ""
        raise DataError(f"{key}: no image in {place}. Known types: {TYPES}.{more}")
    return found


def refuse_one_place(images: Path, masks: Path, part: str) -> None:
    """Raise where images and masks lie in one folder and nothing says which is which.

    Raises:
        DataError: with the pattern that fits, where names have one.
    """
    if is_pattern(images) or not images.is_dir() or os.path.realpath(images) != os.path.realpath(masks):
        return
    every = {Path(path).with_suffix("").as_posix(): images / path for path in walk(images).images}
    named, at = naming(every, every), "name" if any("/" in name for name in every) else "stem"
    line = 'masks: "DIR/{stem}_mask.png"' if named is None else _line("masks", masks, named.mask, Listed(every), at)
    raise DataError(
        f"{part}: images and masks are the same folder, {images}. Say by a pattern which files are masks, such as "
        f"{line}; the others are then the images."
    )


def real_places(paths: Iterable[Path], links: bool = False) -> list[str]:
    """Paths of files below real folders, each of which is followed once; with `links` files that are links too."""
    folders: dict[str, str] = {}
    found = []
    for path in paths:
        if links and path.is_symlink():
            found.append(os.path.realpath(path))
            continue
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        found.append(f"{folders[folder]}{os.sep}{name}")
    return found


def by_name(names: Collection[str], listed: Listed, key: str) -> dict[str, Path]:
    """The files of a place, each under the name of its image; those of no image under their own.

    Raises:
        DataError: a file that would belong to two images.
    """
    if not listed.flat:
        return listed.files
    owner: dict[str, str] = {}
    for name in names:
        stem = name.rpartition("/")[2]
        if stem in listed.files and owner.setdefault(stem, name) != name:
            raise DataError(
                f"{key}: {listed.files[stem]} would belong to both {owner[stem]} and {name}. Write {{name}}, the path "
                "below the folder, in place of {stem}."
            )
    return {owner.get(stem, stem): path for stem, path in listed.files.items()}


def chosen_names(given: Sequence[str] | None, known: Iterable[str], kind: str) -> list[str]:
    """Those of the known names that are `given`, sorted; all of them where none are. `kind` stands in the error.

    Raises:
        UnknownNameError: a name that is not known.
    """
    every = dict.fromkeys(known)
    for name in given or ():
        if name not in every:
            raise unknown(kind, name, every)
    return list(every) if given is None else sorted(set(given))


def no_mask_fits(part: str, images: tuple[str, Path, Listed], masks: tuple[str, Path, Listed]) -> DataError:
    """The error where masks have other names than all images, with the lines of a YAML that would bring them together;
    `images` and `masks` are a key of the part, its place, and what lies there.
    """
    (image_key, image_place, shown), (mask_key, mask_place, found) = images, masks
    what = "image" if image_key == "images" else "pair"
    text = (
        f"{part}: no {what} has a mask. {what.capitalize()}s are named {_first(shown)} in {image_place}, masks "
        f"{_first(found)} in {mask_place}. A mask has its {what}'s name (the suffix may differ) in the same subfolder."
    )
    named = naming(shown.files, found.files)
    subfolders = any("/" in name for name in shown.files)
    if named is None or (subfolders and (named.image[0] or named.mask[0])):
        causes = likely_causes(found.files, shown.files, shown.others)
        causes.pop(UNKNOWN_CAUSE.format(other="image"), None)
        named_causes = (
            f"{len(files)} masks {kind}: {some([str(path) for path, _ in files])}." for kind, files in causes.items()
        )
        return DataError(" ".join([text, *named_causes]))
    lines = [] if named.image == ("", "") else [_line(image_key, image_place, named.image, shown, "name")]
    at = "stem" if named.folder is not None or not subfolders else "name"
    lines.append(_line(mask_key, mask_place, named.mask, found, at, named.folder or ""))
    return DataError(f"{text} {named.count} masks fit where {part} says {', '.join(lines)}.")


def _line(key: str, place: Path, affixes: tuple[str, str], listed: Listed, at: str, folder: str = "") -> str:
    """The line of a YAML that names files by what they have before and behind the image's name, in a subfolder."""
    suffixes = {path.suffix for path in listed.files.values()}
    base = (_cut(place)[0] if is_pattern(place) else place) / folder
    return f'{key}: "{base}/{affixes[0]}{{{at}}}{affixes[1]}{next(iter(suffixes)) if len(suffixes) == 1 else ""}"'


def _first(listed: Listed) -> str:
    return some([repr(name) for name in listed.files])


def _cut(place: Path) -> tuple[Path, str]:
    """The fixed folder of a pattern, and the rest of it."""
    first = next(k for k, part in enumerate(place.parts) if _PLACE.search(part))
    return Path(*place.parts[:first]), "/".join(place.parts[first:])


def _expression(inner: str, where: str) -> tuple[re.Pattern[str], bool]:
    """What fits a pattern, with the name as group "at", and whether any suffix does."""
    head = inner.removesuffix(".*")
    if not _PLACE.search(head):
        head = inner
    suffix = Path(head).suffix if is_image(head) else ""
    head = head.removesuffix(suffix)
    places = _PLACE.findall(head)
    if places.count("*") > 1:
        raise DataError(f"{where} has several stars; one stands where the name is.")
    if len(set(places)) != 1:
        raise DataError(
            f"{where} holds {' and '.join(sorted(set(places))) or 'no place'}; use one of {{stem}}, {{name}} and *."
        )
    first, *rest = (re.escape(text) for text in _PLACE.split(head))
    at = r"(?P<at>.+)" if places[0] == "{name}" else r"(?P<at>[^/]+)"
    text = f"{first}{at}{'(?P=at)'.join(rest)}"
    return re.compile(text + (f"(?i:{re.escape(suffix)})" if suffix else _ANY_SUFFIX)), not suffix
