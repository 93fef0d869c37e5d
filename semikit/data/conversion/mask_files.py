"""Masks that other programs write: palette PNGs as Pascal VOC has them, and colour images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semikit.data.conversion.labels import (
    IGNORED,
    IGNORED_COLOUR,
    PART,
    Bytes,
    Drawing,
    LabeledImage,
    LabelSet,
    Numbers,
    Size,
    part_named,
    refuse_nothing,
)
from semikit.data.folders import image_files
from semikit.data.formats.colours import Colour, described_colours, packed, read_colours
from semikit.data.formats.images import faults_of, read_mask
from semikit.data.published.catalogue import read_published
from semikit.data.survey.layout import Tails, tails
from semikit.errors import ConfigError, FileFault, mask_size_fault, some
from semikit.files import text_lines

_VOC_MASKS = ("SegmentationClass", "SegmentationClassAug")
_LISTS = "ImageSets/Segmentation"
COLOUR_TABLES = ("labelmap.txt", "label_colors.txt", "class_dict.csv", "colors.yaml")
"""Lists of colours that lie beside masks."""
_IMAGES = ("images", "JPEGImages", "imgs", "image")


@final
@dataclass(frozen=True, slots=True)
class MaskFile(Drawing):
    """A mask file; `labels` says which stored value (or packed colour) is which label, None: it does not count."""

    path: Path
    labels: Mapping[int, str | None]
    colours: bool

    def digest(self, numbers: Numbers) -> str:
        """Of the file and what its values are called."""
        known = ", ".join(f"{value}: {numbers.of(label)}" for value, label in sorted(self.labels.items()))
        return hashlib.sha256(self.path.read_bytes() + f"{self.colours} {known}".encode()).hexdigest()

    def drawn(self, size: Size, numbers: Numbers) -> Bytes:
        """Its values as class numbers."""
        stored = read_mask(self.path, colours=self.colours)
        if stored.shape != size:
            raise mask_size_fault(self.path, size, (stored.shape[0], stored.shape[1]))
        values, places = np.unique(stored, return_inverse=True)
        other = np.array([int(value) not in self.labels for value in values])
        if other.any():
            raise self._fault(values[other], np.bincount(places.reshape(-1))[other])
        table = np.array([numbers.of(self.labels[int(value)]) for value in values], dtype=np.uint8)
        return table[places].reshape(size)

    def _fault(self, values: NDArray[Any], counts: NDArray[np.int64]) -> FileFault:
        if self.colours:
            known = {value: label or "what does not count" for value, label in self.labels.items()}
            detail = described_colours(values, counts, known)
            return FileFault("mask of colours that are no class", self.path, detail, "Add them to --colors FILE.")
        detail = ", ".join(f"{value}: {count} pixels" for value, count in zip(values[:5], counts[:5], strict=True))
        remedy = (
            "Put labelmap.txt beside the masks (a line `name:r,g,b::` for each class). Masks of class numbers need not "
            "be converted: name their folder in the data YAML."
        )
        return FileFault(f"mask value outside the {len(self.labels) - 1} classes", self.path, detail, remedy)


def is_voc(source: Path) -> bool:
    """Whether a folder is laid out as Pascal VOC is."""
    return source.name in _VOC_MASKS or any((source / name).is_dir() for name in _VOC_MASKS)


def read_voc(
    source: Path, colours: Mapping[str, Colour] | None, classes: Sequence[str] | None, images: Path | None = None
) -> LabelSet:
    """Palette PNGs below SegmentationClass: with labelmap.txt (or `colours`) by their colours, else by their indices,
    which are the `classes` given or, with the palette of Pascal VOC, its 21; 255 does not count. Parts are as
    ImageSets/Segmentation lists them.

    Raises:
        ConfigError: indices that nobody names.
        DataError: no mask.
    """
    root = source.parent if source.name in _VOC_MASKS else source
    folder = source if source.name in _VOC_MASKS else next(root / name for name in _VOC_MASKS if (root / name).is_dir())
    known = colours or table_beside(root)
    if known is None:
        names = classes or _names_of_voc(folder)
        indices: dict[int, str | None] = {**dict(enumerate(names)), IGNORED: None}
        return _label_set("palette PNG of VOC", folder, indices, False, names, root, images)
    labels: dict[int, str | None] = {packed(colour): name for name, colour in known.items()}
    labels.setdefault(packed(IGNORED_COLOUR), None)  # what VOC draws around objects
    return replace(_label_set("palette PNG of VOC", folder, labels, True, tuple(known), root, images), colours=known)


def _names_of_voc(folder: Path) -> tuple[str, ...]:
    """The classes of Pascal VOC, where the first mask has its palette or, as SegmentationClassAug, none."""
    pascal = read_published("pascal")
    first = next(iter(image_files(folder, "masks").values()))
    with faults_of(first), Image.open(first) as image:
        stored = (image.getpalette() or [])[: 3 * len(pascal.palette)]
    if stored != [part for colour in pascal.palette for part in colour] and (stored or folder.name != _VOC_MASKS[1]):
        raise ConfigError(
            f"{folder}: the palette is not that of Pascal VOC, so it is not known what the values are called. Say it "
            "with --classes a,b,c (value 0 is the first), with --colors FILE, or with labelmap.txt beside the masks."
        )
    return pascal.classes


def read_colour_masks(source: Path, colours: Mapping[str, Colour] | None, images: Path | None = None) -> LabelSet:
    """A folder of colour images; `colours` of the classes, else those of a list beside them (labelmap.txt …). `images`
    tells how names of masks end where they are not those of images (1_L.png).

    Raises:
        ConfigError: no colours are known.
        DataError: no mask.
    """
    known = colours or table_beside(source) or table_beside(source.parent)
    if known is None:
        raise ConfigError(
            f"{source}: which colour is which class? Say it with --colors FILE, a YAML with a line "
            "`road: [128, 64, 128]` for each class."
        )
    labels: dict[int, str | None] = {packed(colour): name for name, colour in known.items()}
    found = _label_set("colour masks", source, labels, True, tuple(known), source.parent, images)
    return replace(found, colours=known)


def table_beside(folder: Path) -> dict[str, Colour] | None:
    """The colours of a list in a folder, if there is one."""
    found = next((folder / name for name in COLOUR_TABLES if (folder / name).is_file()), None)
    return None if found is None else read_colours(found)


def _label_set(
    what: str,
    folder: Path,
    labels: Mapping[int, str | None],
    colours: bool,
    names: Iterable[str],
    root: Path,
    images: Path | None,
) -> LabelSet:
    place = next((root / name for name in _IMAGES if (root / name).is_dir() and root / name != folder), None)
    masks = _named(image_files(folder, "masks"), images or place)
    listed = _listed(root / _LISTS)
    labeled = [
        LabeledImage(f"{name}.png", MaskFile(path, labels, colours), path, listed.get(name) or _part(name))
        for name, path in masks.items()
    ]
    refuse_nothing(labeled, folder, "mask")
    folders: dict[str, Path] = {} if place is None else {image.part: place for image in labeled}
    return LabelSet(what, tuple(names), labeled, "masks hold one value a pixel", folders, _without_mask(listed, masks))


def _named(masks: Mapping[str, Path], images: Path | None) -> dict[str, Path]:
    """Masks by the names of their images, without the ends that only names of masks have."""
    if images is None:
        return dict(masks)
    ends = tails(image_files(images, "images"), masks)
    return {_stem(name, ends): path for name, path in masks.items()}


def _stem(name: str, ends: Tails) -> str:
    return f"{name.removesuffix(ends.mask)}{ends.image}" if ends.mask and name.endswith(ends.mask) else name


def _without_mask(listed: Iterable[str], masks: Mapping[str, Path]) -> list[str]:
    names = [name for name in listed if name not in masks]
    return [f"{len(names)} names in {_LISTS} are of no mask: {some(names)}"] if names else []


def _part(name: str) -> PART:
    return part_named(name.rpartition("/")[0])


def _listed(folder: Path) -> dict[str, PART]:
    """Part of each name in train.txt, val.txt and test.txt."""
    parts: dict[str, PART] = {}
    for part in ("train", "val", "test"):
        path = folder / f"{part}.txt"
        parts |= dict.fromkeys(text_lines(path) if path.is_file() else [], part)
    return parts
