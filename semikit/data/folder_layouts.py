"""A folder of images and masks without a YAML: how it is laid out, and which classes its masks hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from semikit.data.folders import image_files
from semikit.data.formats.images import read_mask
from semikit.data.spec import DEFAULT_SHARE, PART_FOLDERS
from semikit.errors import DataError
from semikit.files import shell_word, text_lines
from semikit.settings.yaml_text import in_one_line

_PARTS = {part: names for part, names in PART_FOLDERS.items() if part != "unlabeled"}
_IMAGES = ("images", "image", "imgs", "img")
_MASKS = ("masks", "mask", "annotations", "labels", "label", "gt")
_ENDINGS = ("annot", "_annotations", "_labels", "_masks", "_mask", "_gt")
"""Of a folder of masks beside the part's folder of images, train and trainannot."""
_UNLABELED = PART_FOLDERS["unlabeled"]
_SAMPLED = 200
"""Masks that are opened to see which classes there are."""
_VOID = 255
_FORMS = (
    "train/images with train/masks and val/images with val/masks, images/train with masks/train and images/val with "
    "masks/val, train with train_masks and val with val_masks, or images with masks, of which a fifth is held out to "
    "validate"
)


def described_folder(folder: Path) -> dict[str, Any]:
    """What a data YAML in this folder would say: parts, classes, values of masks.

    Names of classes are those of `classes.txt` (one a line, in the order of their numbers) or, where masks hold 0 and 1
    or 0 and 255 alone, background and foreground.

    Raises:
        DataError: another layout, or classes nobody has named, with the YAML to write.
        FileFault: a mask that cannot be read.
    """
    parts = _parts(folder)
    if "train" not in parts or ("val" not in parts and _strange(folder)):
        inner = ", ".join(sorted(item.name for item in folder.iterdir() if item.name[0] != ".")[:10]) or "nothing"
        yamls = sorted(path.name for pattern in ("*.yaml", "*.yml") for path in folder.glob(pattern))
        hint = f" It holds {', '.join(yamls[:3])}: give that as --data." if yamls else ""
        raise DataError(
            f"--data {folder} holds {inner}, which is no layout that is known. A folder holds {_FORMS}; others are "
            f"described by a YAML file.{hint}"
        )
    places = [above / name for above in (folder, *(folder / images for images in _IMAGES)) for name in _UNLABELED]
    more = [place.relative_to(folder).as_posix() for place in places if place.is_dir()]
    found: dict[str, Any] = {"val": DEFAULT_SHARE, **parts, **({"unlabeled": more} if more else {})}
    return found | _classes(folder, found)


def has_masks(folder: Path) -> bool:
    """Whether images and masks of a part, or of the whole, lie as one of the layouts has them."""
    return bool(_parts(folder))


def _strange(folder: Path) -> bool:
    """Whether there are folders that no layout has, so that one of them may be what is validated on."""
    parts = [name for names in _PARTS.values() for name in names]
    known = {*_UNLABELED, *_IMAGES, *_MASKS, *parts, *(f"{part}{ending}" for part in parts for ending in _ENDINGS)}
    return any(item.is_dir() and item.name[0] != "." and item.name not in known for item in folder.iterdir())


def _parts(folder: Path) -> dict[str, dict[str, str]]:
    """Part -> its folders of images and masks, below the folder."""
    found: dict[str, dict[str, str]] = {}
    for part, names in _PARTS.items():
        for name in names:
            place = _inside(folder / name) or _across(folder, name) or _beside(folder, name)
            if place is not None:
                found[part] = {key: str(path.relative_to(folder).as_posix()) for key, path in place.items()}
                break
    if not found and (whole := _inside(folder)) is not None:
        found["train"] = {key: path.name for key, path in whole.items()}
    return found


def _inside(place: Path) -> dict[str, Path] | None:
    """PLACE/images and PLACE/masks."""
    return _pair(_first(place / name for name in _IMAGES), _first(place / name for name in _MASKS))


def _across(folder: Path, part: str) -> dict[str, Path] | None:
    """images/PART and masks/PART."""
    return _pair(_first(folder / name / part for name in _IMAGES), _first(folder / name / part for name in _MASKS))


def _beside(folder: Path, part: str) -> dict[str, Path] | None:
    """PART and PARTannot."""
    return _pair(_first([folder / part]), _first(folder / f"{part}{ending}" for ending in _ENDINGS))


def _first(places: Any) -> Path | None:
    return next((place for place in places if place.is_dir()), None)


def _pair(images: Path | None, masks: Path | None) -> dict[str, Path] | None:
    return None if images is None or masks is None else {"images": images, "masks": masks}


# ---------------------------------------------------------------------------------------------------------- classes


def _classes(folder: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """The names of the classes, and what has to be said of values that are none."""
    places = {part: folder / found[part]["masks"] for part in _PARTS if isinstance(found.get(part), Mapping)}
    values = _values(folder, places)
    names = folder / "classes.txt"
    if names.is_file():
        known = text_lines(names)
        void = _VOID in values and len(known) <= _VOID
        return {"classes": known, **({"ignore": [_VOID]} if void else {})}
    if set(values) == {0, 1}:
        return {"classes": ["background", "foreground"]}
    if set(values) == {0, _VOID}:
        return {"classes": ["background", "foreground"], "mapping": {_VOID: 1}}
    raise DataError(_question(folder, found, values))


def _values(folder: Path, places: Mapping[str, Path]) -> Counter[int]:
    """Value -> pixels, in a sample of the masks.

    Raises:
        DataError: text files in place of masks.
        FileFault: a mask that cannot be read, or a colour mask.
    """
    files: list[Path] = []
    for part, place in places.items():
        texts = [path for pattern in ("*.txt", "*.json", "*.xml") for path in place.rglob(pattern)]
        masks = image_files(place, f"{part} masks", empty=bool(texts))
        if not masks:
            yolo = texts[0].suffix == ".txt" and (folder / "labels").is_dir()
            source = shell_word(folder) if yolo else f"{shell_word(place)} --images FOLDER_OF_IMAGES"
            raise DataError(
                f"{place} holds {len(texts)} files such as {texts[0].name} and no mask. Make masks of the labels, and "
                f"a data YAML, by: semikit data convert {source} -o {shell_word(folder.name)}-masks"
            )
        files += masks.values()
    sample = files[:: max(1, -(-len(files) // _SAMPLED))]

    def counted(path: Path) -> Counter[int]:
        found, counts = np.unique(read_mask(path), return_counts=True)
        return Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    with ThreadPoolExecutor() as threads:
        return sum(threads.map(counted, sample), Counter())


def _question(folder: Path, found: Mapping[str, Any], values: Counter[int]) -> str:
    """What the masks hold, and the YAML that would say what it means."""
    numbers = sorted(value for value in values if value != _VOID)
    total = sum(values.values())
    shares = [f"{value} ({100 * count / total:.1f} %)" for value, count in sorted(values.items())]
    shown = ", ".join(shares[:12]) + (f" and {len(shares) - 12} more" if len(shares) > 12 else "")
    contiguous = bool(numbers) and numbers[0] == 0 and numbers[-1] < min(2 * len(numbers) + 1, _VOID)
    count = numbers[-1] + 1 if contiguous else len(numbers)
    described: dict[str, Any] = {**found, "classes": [f"class {number}" for number in range(max(count, 2))]}
    if not contiguous:
        described["mapping"] = {value: number for number, value in enumerate(numbers)}
    if _VOID in values:
        described["ignore"] = [_VOID]
    return (
        f"--data {folder}: nobody says which classes there are. A sample of its masks holds the values {shown}. Write "
        f"their names into {folder / 'classes.txt'}, one a line in the order of their numbers, or write a YAML file "
        f"({folder / 'data.yaml'}) and give it as --data:\n{_text(described)}"
    )


def _text(described: Mapping[str, Any]) -> str:
    """A YAML with each key on a line of its own."""
    return "\n".join(f"{key}: {in_one_line(value)}" for key, value in described.items())
