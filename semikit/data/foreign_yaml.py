"""Data YAMLs of other programs, read where their meaning is exact, else answered with the text to write.

ultralytics (docs.ultralytics.com/datasets): `path`, `train`, `val`, `test`, `names`, `nc`, and `masks_dir`, which takes
the place of `images` in the paths of masks, where 255 does not count. lightly-train (docs.lightly.ai/train): `train`
and `val` with images and masks as here, `classes` by the number stored in masks, with several stored numbers as
`{name, labels}`, and `ignore_classes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semikit.errors import ConfigError, DataError, some
from semikit.files import at_home, shell_word

_PARTS = ("train", "val", "test")
_UNUSED = ("nc", "path", "download", "roboflow", "masks_dir", "names")
"""Keys of ultralytics that are understood here, or say nothing about the data."""
_VOID = 255


def in_own_keys(raw: Any, where: Path, root: Path | None, *, maps: bool = False) -> Any:
    """The description of a data set in the keys of this program; what is none of another program's comes back as it is.

    `where` is the YAML's path, `root` replaces `path`; `maps`: targets are masks, whose folders have to be found.

    Raises:
        ConfigError: keys whose meaning is not exact, with the text to write; DataError: labels to be converted.
    """
    if not isinstance(raw, Mapping):
        return raw
    if "classes" not in raw and ("names" in raw or "nc" in raw):
        return _of_ultralytics(raw, where, root, maps)
    return _of_lightly(raw, where) if _is_lightly(raw) else raw


def _of_ultralytics(raw: Mapping[str, Any], where: Path, root: Path | None, maps: bool) -> dict[str, Any]:
    if "names" not in raw:
        raise ConfigError(
            f"{where}: nc is {raw['nc']}, but `names` says no name. Write classes: [NAME, …] in its place."
        )
    names, count = raw["names"], raw.get("nc")
    if count is not None and isinstance(names, (list, Mapping)) and len(names) != count:
        raise ConfigError(f"{where}: nc is {count}, but `names` has {len(names)} entries. Correct one of them.")
    base = at_home(root) if root is not None else _base(raw.get("path"), where)
    found = {key: value for key, value in raw.items() if key not in _UNUSED}
    for part in _PARTS:
        if isinstance(raw.get(part), str):
            found[part] = str(base / raw[part])
        elif isinstance(raw.get(part), list):
            raise ConfigError(f"{where}: {part} names several places, {raw[part]}; put their images below one folder.")
    found = {key: value for key, value in found.items() if key not in _PARTS or value not in (None, "")}
    found["classes"] = names
    return _with_masks(found, raw, where, base) if maps else found


def _base(path: Any, where: Path) -> Path:
    """What `path` names: below the YAML's folder or, as ultralytics has it, below the current one."""
    if not path:
        return where.parent.absolute()
    given = at_home(Path(str(path)))
    places = [place.absolute() for place in (where.parent / given, given)]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        tried = " and ".join(dict.fromkeys(str(place) for place in places))
        raise DataError(f"{where}: `path: {path}` is no folder here (tried {tried}). Say where it is: --root DIR.")
    return found


def _with_masks(found: dict[str, Any], raw: Mapping[str, Any], where: Path, base: Path) -> dict[str, Any]:
    """The same description with the folder of each part's masks."""
    places = {part: Path(found[part]) for part in _PARTS if isinstance(found.get(part), str)}
    lists = [str(place) for place in places.values() if place.suffix == ".txt"]
    if lists:
        raise ConfigError(f"{where}: {lists[0]} is a list of files; folders of images and masks are read.")
    folder = raw.get("masks_dir")
    if folder is None:
        raise DataError(
            f"{where} describes labels in text files (YOLO). Make masks of them, which writes a data YAML too:\n"
            f"semikit data convert {shell_word(where)} -o {shell_word(base / 'semikit')}\n"
            f"If there are masks already, {_masks_of(places, base)}"
        )
    for part, place in places.items():
        found[part] = {"images": str(place), "masks": str(_beside(place, base, str(folder), where))}
    return {"ignore": [_VOID], **found}


def _masks_of(places: Mapping[str, Path], base: Path) -> str:
    """How the masks of these folders of images are named."""
    if all("images" in _below(place, base) for place in places.values()):
        return "name their folder as ultralytics does: masks_dir: masks."
    return "write, with classes: in place of names:\n" + "\n".join(
        f"{part}: {{images: {place}, masks: FOLDER}}" for part, place in places.items()
    )


def _below(images: Path, base: Path) -> list[str]:
    return list(images.relative_to(base).parts) if images.is_relative_to(base) else list(images.parts)


def _beside(images: Path, base: Path, folder: str, where: Path) -> Path:
    """The folder of masks: `images` in the path below the root replaced."""
    parts = _below(images, base)
    if "images" not in parts:
        raise ConfigError(
            f"{where}: masks_dir takes the place of `images` in a path, but {images} has none. Write, for each part, "
            f"train: {{images: {images}, masks: FOLDER}}, and classes: in place of names:."
        )
    last = len(parts) - 1 - parts[::-1].index("images")
    parts[last] = folder
    return base.joinpath(*parts)


def _is_lightly(raw: Mapping[str, Any]) -> bool:
    classes = raw.get("classes")
    described = isinstance(classes, Mapping) and any(isinstance(entry, Mapping) for entry in classes.values())
    return described or "ignore_classes" in raw


def _of_lightly(raw: Mapping[str, Any], where: Path) -> dict[str, Any]:
    classes = raw.get("classes")
    if not isinstance(classes, Mapping):
        raise ConfigError(f"{where}: with ignore_classes, classes are written as {{number: name}}, got {classes!r}.")
    left_out = set(raw.get("ignore_classes") or ())
    entries = {number: _entry(number, entry, where) for number, entry in classes.items()}
    found = {key: value for key, value in raw.items() if key != "ignore_classes"}
    found["classes"] = [name for number, (name, _) in entries.items() if number not in left_out]
    ignored = [value for number, (_, stored) in entries.items() if number in left_out for value in stored]
    if any(isinstance(value, list) for _, stored in entries.values() for value in stored):
        several = [name for number, (name, stored) in entries.items() if len(stored) > 1 and number not in left_out]
        if several:
            raise ConfigError(
                f"{where}: {some(several)}: several colours; of each class one is read. Recolour the masks."
            )
        colours = {name: stored[0] for number, (name, stored) in entries.items() if number not in left_out}
        return {**found, "colors": colours, "ignore_colors": ignored}
    kept = [stored for number, (_, stored) in entries.items() if number not in left_out]
    mapping = {value: number for number, stored in enumerate(kept) for value in stored}
    plain = all(value == number for value, number in mapping.items())
    return {**found, "ignore": [*raw.get("ignore", ()), *ignored], "mapping": {} if plain else mapping}


def _entry(number: Any, entry: Any, where: Path) -> tuple[str, list[Any]]:
    """The name of a class and the values that masks hold for it; of colours lists."""
    if isinstance(entry, Mapping):
        stored = entry.get("labels", entry.get("values"))
        if not isinstance(entry.get("name"), str) or not isinstance(stored, list):
            raise ConfigError(f"{where}: class {number} is {dict(entry)!r}; lightly-train has {{name, labels: [...]}}.")
        return entry["name"], stored
    return str(entry), [number]
