"""From the folders of images to the task they are for, part by part."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from semikit.data.survey.layout import Layout, Matched, Place, Tails, is_mask_tail, kind_of, part_of, stems, tails

_LEAST = 0.3
"""Share of the masks that have to fit images of a folder to be theirs."""
_TABLE_HEAD = 20
_SPLITS = ("train", "val", "test")
_ALIKE = 3
"""Folders that may be two dates and masks."""


def understood(folder: Path, places: Sequence[Place], other: Sequence[str]) -> Layout | None:
    """What masks make of a folder: pairs of dates, or images with masks; None where there are no masks of images."""
    return _pairs(places, other) or _dates_side_by_side(places, other) or _segmentation(places, other)


def _pairs(places: Sequence[Place], other: Sequence[str]) -> Layout | None:
    second = {_without_date(place.folder): place for place in places if kind_of(place.folder) == "date 2"}
    parts: dict[str, Matched] = {}
    for before in (place for place in places if kind_of(place.folder) == "date 1"):
        after = second.get(_without_date(before.folder))
        common = stems(before).keys() & stems(after).keys() if after else set()
        if after is None or not common:
            continue
        part = part_of(before.folder) or "train"
        images = {name: path for name, path in stems(before).items() if name in common}
        entry = {"images_a": before.folder, "images_b": after.folder}
        found = _best_masks(images, _of_part(places, part))
        masks = {} if found is None else _by_image(images, *found)
        entry |= {} if found is None else {"masks": _mask_text(*found)}
        parts[part] = Matched(tuple(images.values()), masks, entry)
    unlabeled = {name: parts.pop(name) for name in list(parts) if not parts[name].masks}
    return Layout("cd", _with_train(parts), tuple(unlabeled.values()), other=other) if parts else None


def _dates_side_by_side(places: Sequence[Place], other: Sequence[str]) -> Layout | None:
    """A folder for each pair that holds both dates, and the mask where it is labelled: paris/A.tif, paris/B.tif."""
    for place in places:
        pairs: dict[str, dict[str, Path]] = defaultdict(dict)
        for name, path in stems(place).items():
            above, _, last = name.rpartition("/")
            kind = kind_of(last)
            if above and kind is not None:
                pairs[above][kind] = path
        whole = {name: found for name, found in pairs.items() if {"date 1", "date 2"} <= found.keys()}
        masks = {name: found["mask"] for name, found in whole.items() if "mask" in found}
        if masks:
            shown = next(whole[name] for name in masks)
            keys = {"images_a": "date 1", "images_b": "date 2", "masks": "mask"}
            entry = {key: _below(place.folder, f"*/{shown[kind].name}") for key, kind in keys.items()}
            images = tuple(found["date 1"] for found in whole.values())
            return Layout("cd", {"train": Matched(images, masks, entry)}, other=other)
    return None


def _without_date(folder: str) -> str:
    pieces = PurePosixPath(folder).parts
    return "/".join("*" if str(kind_of(piece)).startswith("date") else piece for piece in pieces)


def _segmentation(places: Sequence[Place], other: Sequence[str]) -> Layout | None:
    parts: dict[str, Matched] = {}
    unlabeled: list[Matched] = []
    strange = [*other]
    for place in (place for place in places if kind_of(place.folder) != "mask"):
        part = part_of(place.folder) or "train"
        found = _with_masks(place, _of_part(places, part))
        if found is not None and part not in parts and part != "unlabeled":
            parts[part] = found
        elif part == "unlabeled" or kind_of(place.folder) == "image":
            unlabeled.append(Matched(tuple(place.files.values()), {}, {"images": place.folder}))
        else:
            strange += [f"{len(place.files)} images in {place.folder}"]
    return Layout("seg", _with_train(parts), unlabeled, other=strange) if parts else None


def _with_masks(place: Place, masks: Sequence[Place]) -> Matched | None:
    """The images of a folder with masks of another, or of the same one."""
    images = stems(place)
    found = _best_masks(images, masks)
    if found is None:
        return _in_one_folder(place)
    mask, how = found
    entry = {"images": _text(place, how.image, always=False), "masks": _mask_text(mask, how)}
    return Matched(tuple(place.files.values()), _by_image(images, mask, how), entry)


def _of_part(places: Sequence[Place], part: str) -> list[Place]:
    """The folders of masks of a part."""
    return [place for place in places if kind_of(place.folder) == "mask" and (part_of(place.folder) or "train") == part]


def _best_masks(images: Mapping[str, Path], masks: Sequence[Place]) -> tuple[Place, Tails] | None:
    tried = [(mask, tails(images, stems(mask))) for mask in masks]
    fitting = [(mask, how) for mask, how in tried if how.fitting >= max(1, _LEAST * min(len(mask.files), len(images)))]
    return max(fitting, key=lambda entry: entry[1].fitting, default=None)


def _by_image(images: Mapping[str, Path], mask: Place, how: Tails) -> dict[str, Path]:
    """Name of an image -> its mask."""
    named = {
        f"{name.removesuffix(how.mask)}{how.image}": path
        for name, path in stems(mask).items()
        if name.endswith(how.mask)
    }
    return {name: path for name, path in named.items() if name in images}


def _mask_text(mask: Place, how: Tails) -> str:
    return _text(mask, how.mask, always=False)


def _text(place: Place, tail: str, always: bool) -> str:
    """A folder, or a pattern where the names of its files have a tail of their own."""
    if not (tail or always):
        return place.folder
    suffix = Counter(path.suffix for name, path in place.files.items() if name.rpartition(".")[0].endswith(tail))
    deep = any("/" in name for name in place.files)
    return _below(place.folder, f"{'{name}' if deep else '{stem}'}{tail}{suffix.most_common(1)[0][0]}")


def _below(folder: str, inner: str) -> str:
    return inner if folder == "." else f"{folder}/{inner}"


def _in_one_folder(place: Place) -> Matched | None:
    """Images and masks side by side: a.jpg and a.png, or a.jpg and a_mask.png."""
    known = stems(place)
    ends: Counter[str] = Counter()
    for name in known:
        ends.update(tail for tail in _ends(name) if is_mask_tail(tail) and name.removesuffix(tail) in known)
    if ends:
        tail = ends.most_common(1)[0][0]
        images = {name: path for name, path in known.items() if not name.endswith(tail)}
        masks = {name: known[f"{name}{tail}"] for name in images if f"{name}{tail}" in known}
        rest = Place(place.folder, {f"{name}{path.suffix}": path for name, path in images.items()})
        entry = {"images": _text(rest, "", always=True), "masks": _text(place, tail, always=True)}
        return Matched(tuple(images.values()), masks, entry)
    kinds: dict[str, dict[str, Path]] = defaultdict(dict)
    for name, path in place.files.items():
        kinds[path.suffix.lower()][name.rpartition(".")[0]] = path
    photos = kinds.get(".jpg") or kinds.get(".jpeg") or {}
    masks = {name: path for name, path in kinds.get(".png", {}).items() if name in photos}
    if not masks:
        return None
    deep = "{name}" if any("/" in name for name in place.files) else "{stem}"
    suffix = next(iter(photos.values())).suffix
    entry = {"images": _below(place.folder, f"{deep}{suffix}"), "masks": _below(place.folder, f"{deep}.png")}
    return Matched(tuple(photos.values()), masks, entry)


def _ends(name: str) -> list[str]:
    return [name[k:] for k, character in enumerate(name) if character in "_-." and k]


def _with_train(parts: Mapping[str, Matched]) -> dict[str, Matched]:
    """In the usual order; a single part is what is learned from."""
    if len(parts) == 1:
        return {"train": next(iter(parts.values()))}
    return {name: parts[name] for name in _SPLITS if name in parts}


# -------------------------------------------------------------------------------------------------------- classes


def of_classes(folder: Path, places: Sequence[Place], other: Sequence[str]) -> Layout | None:
    """Images of one class each: a folder for each class, or tables file,label; None where there are neither."""
    return _class_folders(places, other) or _tables(folder, places, other)


def _class_folders(places: Sequence[Place], other: Sequence[str]) -> Layout | None:
    parts: dict[str, Matched] = {}
    classes: dict[str, Mapping[str, int]] = {}
    unlabeled: list[Matched] = []
    doubts: list[dict[str, str]] = []
    for place in places:
        part = part_of(place.folder) or "train"
        inner = Counter(name.partition("/")[0] if "/" in name else "" for name in place.files)
        if part == "unlabeled":
            unlabeled.append(Matched(tuple(place.files.values()), {}, {"": place.folder}))
        elif "" not in inner and len(inner) > 1:
            parts[part] = Matched(tuple(place.files.values()), {}, {"": place.folder})
            classes[part] = dict(sorted(inner.items()))
            doubts += _other_forms(place, sorted(inner), places)
    if not parts:
        return None
    if len(parts) == 1:
        classes = {"train": next(iter(classes.values()))}
    return Layout("cls", _with_train(parts), unlabeled, classes, other, doubts)


def _other_forms(place: Place, folders: Sequence[str], places: Sequence[Place]) -> list[dict[str, str]]:
    """What two or three folders whose files have the same names may be instead of classes: images and masks, or dates
    (with the masks of a folder that is called so).
    """
    names: dict[str, set[str]] = {folder: set() for folder in folders}
    for name in stems(place):
        folder, _, inner = name.partition("/")
        names[folder].add(inner)
    first, *others = names.values()
    if len(folders) > _ALIKE or any(found != first for found in others) or len(first) < 2:
        return []
    masks = [other.folder for other in places if kind_of(other.folder) == "mask" and stems(other).keys() == first]
    where = [*(_below(place.folder, folder) for folder in folders), *masks][:_ALIKE]
    pairs = dict(zip(("images_a", "images_b", "masks"), where, strict=False))
    return [pairs] if len(where) == _ALIKE else [dict(zip(("images", "masks"), where, strict=True)), pairs]


def _tables(folder: Path, places: Sequence[Place], other: Sequence[str]) -> Layout | None:
    parts: dict[str, Matched] = {}
    bases = [folder, *(folder / place.folder for place in places)]
    for name in other:
        if PurePosixPath(name).suffix.lower() != ".csv":
            continue
        found = next(((base, rows) for base in bases if (rows := _files_in(folder / name, base))), None)
        if found is not None:
            base, count = found
            place = base.relative_to(folder).as_posix()
            entry = {"labels": name} | ({"images": place} if base != (folder / name).parent else {})
            parts.setdefault(part_of(PurePosixPath(name).stem) or "train", Matched((folder / name,) * count, {}, entry))
    used = {part.entry["labels"] for part in parts.values()}
    return Layout("cls", _with_train(parts), other=[name for name in other if name not in used]) if parts else None


def _files_in(table: Path, base: Path) -> int:
    """Rows of a table of two columns whose first is a file below `base`; 0 where it is not one."""
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    head = rows[1:_TABLE_HEAD]
    fits = bool(head) and all(len(row) >= 2 and (base / row[0].strip()).is_file() for row in head)
    return len(rows) - (not (base / rows[0][0].strip()).is_file()) if fits else 0
