"""Images of one class each: how they are found and read, from files or from memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from semikit.data.file_patterns import list_place, real_places
from semikit.data.folders import TYPES, Listed, list_images
from semikit.data.formats.images import image_size, read_rgb
from semikit.data.formats.label_tables import read_list, read_table
from semikit.data.formats.name_lists import near
from semikit.data.formats.photos import Reduce
from semikit.data.label_spec import LabelledImages, LabelSpec
from semikit.data.samples import UNKNOWN, Bytes, DataParts, Labels, Samples, refuse_overlap
from semikit.data.shards.pool_spec import pool_among
from semikit.data.unused_files import Unused, unread
from semikit.errors import DataError, some
from semikit.raster.region import Region

LARGEST = 96
"""Side up to which images of one size are held in memory (and on the device), pixels."""


@final
@dataclass(frozen=True, eq=False)
class LabeledArrays(Samples):
    """Images in memory: `data` (N, H, W, 3) uint8, `labels` (N,) int64; names are "part/00042"."""

    part: str
    data: Bytes
    labels: Labels

    def __post_init__(self) -> None:
        assert self.data.ndim == 4, self.data.shape
        assert self.data.shape[3] == 3, self.data.shape
        assert len(self.data) == len(self.labels), (len(self.data), len(self.labels))

    @cached_property
    def names(self) -> Sequence[str]:  # type: ignore[override]
        """The part and the number of each image."""
        return [f"{self.part}/{index:05d}" for index in range(len(self.labels))]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, None]:
        """One image (H, W, 3) uint8, a view."""
        return self.data[index], None

    def arrays(self) -> Bytes:
        """All of them (N, H, W, 3) uint8, not copied."""
        return self.data


@final
@dataclass(frozen=True, eq=False)
class LabeledFiles(Samples):
    """Images in files, decoded when they are asked for; `names` are paths below their folder without suffix; `unused`
    are files beside them that are not used.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: Labels
    upright: bool = False
    """Whether photos are turned as their cameras ask."""
    unused: tuple[Unused, ...] = ()
    reduce: Reduce | None = None
    """By what factor JPEGs may be reduced; None: by none."""

    def __len__(self) -> int:
        return len(self.paths)

    def files(self, index: int) -> tuple[Path, ...]:
        """The image's file."""
        return (self.paths[index],)

    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, None]:
        """One image (H, W, 3) uint8; gray, palette and CMYK become RGB, alpha is dropped.

        Raises:
            FileFault: cannot be read, more than 8 bits, or a raster that has not three bands.
        """
        return read_rgb(self.paths[index], upright=self.upright, reduce=self.reduce), None

    def reduced(self, by: Reduce | None) -> LabeledFiles:
        """The same images, JPEGs reduced where `by` allows."""
        return replace(self, reduce=by)

    def arrays(self) -> Bytes | None:
        """All images (N, H, W, 3) uint8, decoded by threads once, where all have one size of at most 96 pixels a side.

        Raises:
            FileFault: as `image`.
        """
        return self._decoded

    @cached_property
    def _decoded(self) -> Bytes | None:
        size = image_size(self.paths[0], self.upright)
        if max(size) > LARGEST:
            return None
        found = np.empty((len(self), *size, 3), np.uint8)

        def decoded(numbers: range) -> bool:
            for index in numbers:
                image, _ = self.image(index)
                if image.shape[:2] != size:
                    return False
                found[index] = image
            return True

        with ThreadPoolExecutor() as threads:
            pieces = [range(start, min(start + 500, len(self))) for start in range(0, len(self), 500)]
            return found if all(threads.map(decoded, pieces)) else None


@final
@dataclass(frozen=True, slots=True)
class Listing:
    """The images of a part: name -> (file, class name; None where it is not known), sorted by name; and the files
    beside them that are not read.
    """

    images: dict[str, tuple[Path, str | None]]
    where: str
    unused: tuple[Unused, ...] = ()

    @property
    def classes(self) -> list[str]:
        """The classes that occur, sorted."""
        return sorted({label for _, label in self.images.values() if label is not None})

    def merged(self, merge: Mapping[str, str]) -> Listing:
        """The same images, their classes named as `merge` says (name as written -> class)."""
        if not merge:
            return self
        images = {
            name: (path, None if label is None else merge.get(label, label))
            for name, (path, label) in self.images.items()
        }
        return replace(self, images=images)

    def source(self, classes: Sequence[str], owner: str = "train") -> LabeledFiles:
        """The images with the numbers of their classes; `owner` of the classes stands in errors.

        Raises:
            DataError: a class that is not among `classes`.
        """
        numbers = {name: number for number, name in enumerate(classes)}
        foreign = [name for name in self.classes if name not in numbers]
        if foreign:
            of = sum(label in foreign for _, label in self.images.values())
            examples = "; ".join(f"{name!r}{near(name, classes)}" for name in foreign[:3])
            more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            raise DataError(
                f"{self.where}: {of} images are of classes that {owner} does not have: {examples}{more}. "
                f"Classes of {owner}: {some(list(classes), 10)}."
            )
        labels = [UNKNOWN if label is None else numbers[label] for _, label in self.images.values()]
        paths = tuple(path for path, _ in self.images.values())
        return LabeledFiles(tuple(self.images), paths, np.array(labels, np.int64), unused=self.unused)


def open_labeled(spec: LabelSpec) -> DataParts:
    """A data set, opened; lists folders and reads tables, opens no image.

    Raises:
        DataError: missing or empty folders, images beside class folders, wrong tables, classes that do not fit, a file
            in two parts.
    """
    train = find_images(spec.train, "train").merged(spec.merge)
    classes = tuple(train.classes) if spec.classes is None else spec.classes
    if spec.classes is not None and (absent := [name for name in classes if name not in set(train.classes)]):
        raise DataError(
            f"{train.where}: no image of the classes {some([repr(name) for name in absent])}, which `classes` names. "
            f"Found: {some(train.classes, 10)}."
        )
    if len(classes) < 2:
        raise DataError(f"{train.where}: {len(classes)} class ({some(classes)}); at least 2 are needed.")
    first = train.source(classes, "`classes`")
    places = enumerate(pool_among(spec.unlabeled)[0])
    more = tuple(unlabeled_files(place, f"unlabeled[{k}]") for k, place in places)
    val, test = (_scored(part, key, classes, spec.merge) for key, part in (("val", spec.val), ("test", spec.test)))

    def read(part: Any) -> Any:
        return part and replace(part, upright=spec.orientation != "stored")

    parts = DataParts(
        read(first),
        tuple(map(read, more)),
        read(val),
        read(test),
        classes,
        balanced=True,
        allow_overlap=spec.allow_overlap,
    )
    if not parts.allow_overlap:
        refuse_overlap(parts.named())
    unlisted = tuple(_in_no_table(spec, parts))
    return replace(parts, train=replace(read(first), unused=(*first.unused, *unlisted))) if unlisted else parts


def _in_no_table(spec: LabelSpec, parts: DataParts) -> Iterator[Unused]:
    """What a folder of images holds beside those that its table names, and no other part uses."""
    tables = {"train": spec.train, "val": spec.val, "test": spec.test}
    folders = {
        part.images: f"{key}.images"
        for key, part in reversed(tables.items())
        if isinstance(part, LabelledImages) and part.images is not None and part.labels is not None
    }
    if not folders:
        return
    every = parts.named().values()
    used = set(real_places(path for source in every for k in range(len(source)) for path in source.files(k)))
    for folder, key in folders.items():
        left = list_images(folder, key, empty=True, taken=used)
        if left.files:
            remedy = "Add them to the table (with an empty label where it is not known), or list them in `unlabeled`."
            yield Unused.of(key, "images that no table names", left.files.values(), remedy)
        yield from unread(left, key)


def find_images(part: LabelledImages, key: str) -> Listing:
    """The images of a folder of classes or of a table; `key` stands in errors.

    Raises:
        DataError: missing or empty folder, images beside class folders, a wrong table.
    """
    if part.labels is not None:
        return Listing(read_table(part.labels, part.images, key, part.columns, part.rows), f"{key} ({part.labels})")
    assert part.images is not None
    listed = list_images(part.images, key, empty=True)
    unused = tuple(unread(listed, key))
    return Listing(_in_class_folders(part.images, listed, key), f"{key} ({part.images})", unused)


def unlabeled_files(place: Path, key: str) -> LabeledFiles:
    """Images without labels: of a folder with its subfolders, or of a list with one file a line.

    Raises:
        DataError: missing or empty folder, a wrong list, two files of one name.
    """
    listed = Listed(read_list(place, key)) if place.is_file() else list_place(place, key)
    found, unused = listed.files, tuple(unread(listed, key))
    return LabeledFiles(tuple(found), tuple(found.values()), np.full(len(found), UNKNOWN, np.int64), unused=unused)


def _scored(
    part: LabelledImages | float | None, key: str, classes: Sequence[str], merge: Mapping[str, str]
) -> LabeledFiles | None:
    if not isinstance(part, LabelledImages):
        return None
    source = find_images(part, key).merged(merge).source(classes)
    unknown = [source.names[k] for k in np.flatnonzero(source.labels == UNKNOWN)[:4]]
    if unknown:
        raise DataError(f"{key}: images without a label: {some(unknown)}. Every image that is scored needs one.")
    return source


def _in_class_folders(folder: Path, listed: Listed, key: str) -> dict[str, tuple[Path, str | None]]:
    files = listed.files
    beside = [path.name for name, path in files.items() if "/" not in name]
    names = sorted(item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    if not names:
        raise DataError(f"{key}: {folder} has no class folders. Put each image into a folder named after its class.")
    if beside:
        raise DataError(
            f"{key}: {len(beside)} images lie beside the class folders of {folder}: {some(beside)}. "
            "Put each image into the folder of its class."
        )
    held = {name.partition("/")[0] for name in files}
    empty = [name for name in names if name not in held]
    if empty:
        raise DataError(
            f"{key}: class folders without an image in {folder}: {some(empty)}. Add images or remove the folders. "
            f"Known types: {TYPES}.{f' Not used: {some(list(map(str, listed.others)))}.' if listed.others else ''}"
        )
    return {name: (path, name.partition("/")[0]) for name, path in files.items()}
