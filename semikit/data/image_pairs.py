"""Pairs of images of two dates: how they are described, found and read, the second on the grid of the first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, final

import numpy as np
from pydantic import BeforeValidator, Discriminator, Field, Tag

from semikit.data.file_patterns import (
    by_name,
    chosen_names,
    is_pattern,
    list_masks,
    list_place,
    no_mask_fits,
    real_places,
)
from semikit.data.folders import Listed
from semikit.data.formats.images import is_raster, orientation_of_mask, read_image, read_mask_onto
from semikit.data.formats.mask_values import MaskValues, MaskWatch
from semikit.data.formats.orientation import Orientation
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import Range
from semikit.data.formats.value_range import rescaled
from semikit.data.masked_images import refuse_other_size
from semikit.data.naming import UNKNOWN_CAUSE, likely_causes
from semikit.data.pair_grids import aligned, both_dates, date_grid, mask_grid
from semikit.data.samples import Bytes, DataParts, Mask, Samples
from semikit.data.shards.pool_spec import Shards, kind_of, pool_among
from semikit.data.spec import DEFAULT_SHARE, ClassSpec, Share, part_folders, placed, read_spec, share_or_folder
from semikit.data.unused_files import Unused, unread, unused_masks
from semikit.errors import DataError, FileFault, some
from semikit.raster.reading import Bands
from semikit.raster.region import Region
from semikit.settings.base import Location, Settings, one_or_many

BINARY = ("unchanged", "changed")
_FOLDER, _POOL = Tag("folder"), Tag("pool")


def _with_masks(raw: Any) -> Any:
    """A folder by its path stands for its A/, B/ and label/."""
    if not isinstance(raw, (str, Path)):
        return raw
    return {"images_a": Path(raw, "A"), "images_b": Path(raw, "B"), "masks": Path(raw, "label")}


def _without_masks(raw: Any) -> Any:
    return {"images_a": Path(raw, "A"), "images_b": Path(raw, "B")} if isinstance(raw, (str, Path)) else raw


class PairImages(Settings):
    """Images of two dates. Each entry is a folder, searched with its subfolders, or a pattern such as scenes/*/A.tif or
    data/{stem}_A.png, where the star or {stem} stands for the pair's name.
    """

    images_a: Location
    """Images of the first date; maps are drawn on their grid."""
    images_b: Location
    """Images of the second date, under the same names."""
    names: tuple[str, ...] | None = None
    """Only the pairs of these names; default all."""


@final
class PairFolders(PairImages):
    """Images of two dates and the folder of their masks."""

    masks: Location | None = None
    """Masks of the same names, on the grid of the first date."""


_Scored = Annotated[
    Annotated[PairFolders, BeforeValidator(_with_masks), Tag("folder")] | Annotated[Share, Tag("share")],
    Discriminator(share_or_folder),
]


@final
class PairSpec(ClassSpec):
    """Folders and classes of a change detection data set of the user's own.

    A class that `mapping` leads to is stored as `mapping` says and under no other value: with {255: 1} a mask that
    holds 1 is refused, for in a map of 0 and 255 it would be a mistake.
    """

    classes: Annotated[tuple[str, ...], *ClassSpec.model_fields["classes"].metadata] = BINARY
    """Names of the classes 0..K-1; class 0 is where nothing changed."""
    train: Annotated[PairFolders, BeforeValidator(_with_masks)]
    """Pairs to learn from; those with a mask can be labelled."""
    unlabeled: Annotated[
        tuple[
            Annotated[
                Annotated[PairImages, BeforeValidator(_without_masks), _FOLDER] | Annotated[Shards, _POOL],
                Discriminator(kind_of),
            ],
            ...,
        ],
        BeforeValidator(one_or_many),
    ] = ()
    """More pairs to learn from, without masks; one or a list, or the shards of a large pool."""
    val: _Scored | None = Field(None, validate_default=True)
    """Pairs the best model is chosen on, each with a mask; or a share of those of train (0.2)."""
    test: _Scored | None = None
    """Pairs for the final score, each with a mask; or a share of those of train."""

    @property
    def values(self) -> MaskValues:
        """How mask values become classes."""
        return replace(super().values, exact=True)


def load_pairs(data: Path | Mapping[str, Any], root: Path | None = None) -> PairSpec:
    """The data set of a YAML file or mapping, or of a folder of pairs: train/ and val/ (test/, unlabeled/), each with
    A/ B/ label/. Where there is no val/ a fifth of train is held out.

    Masks of such a folder hold 0 and 255, as those of LEVIR-CD; for others write a YAML file.

    Raises:
        DataError: no such file or folder, or a folder without train/ and val/.
        ConfigError: with everything that is wrong in the file, one line each.
    """
    if isinstance(data, Mapping) or not data.is_dir():
        return read_spec(PairSpec, data, root)
    found = part_folders(data)
    strange = [item for item in data.iterdir() if item.is_dir() and str(item) not in found.values()]
    if "train" not in found or ("val" not in found and strange):
        missing = [part for part in ("train", "val") if part not in found]
        inner = ", ".join(sorted(item.name for item in data.iterdir())[:10]) or "nothing"
        raise DataError(
            f"--data {data} has no {' and no '.join(missing)}/, only {inner}. A folder of pairs holds train/ and val/ "
            "(test/, unlabeled/), each with A/, B/ and label/; other layouts are described by a YAML file."
        )
    spec = PairSpec.model_validate({"val": DEFAULT_SHARE, **found, "mapping": {255: 1}})
    return placed(spec, Path.cwd()).model_copy(update={"folder": data.absolute()})


@final
@dataclass(frozen=True)
class ImagePairs(Samples):
    """Pairs of images and their masks; nothing is opened before it is asked for.

    `before` and `after` are the files of the two dates; `masks`, on the grid of the first, holds None where there is
    none. `unused` are files beside them that are not used.
    `orientation` says whether photos are turned as their cameras ask, and how masks lie on the first.
    """

    names: tuple[str, ...]
    before: tuple[Path, ...]
    after: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    values: MaskValues
    bands: Bands | None = None
    scale: Range | None = None
    watch: RangeWatch | None = None
    orientation: Orientation = "stored"
    unused: tuple[Unused, ...] = ()
    mask_watch: MaskWatch | None = None

    def __len__(self) -> int:
        return len(self.names)

    def extent(self, index: int) -> tuple[int, int] | None:
        """(H, W) of the first date where both are rasters, else None."""
        paths = self.files(index)
        return aligned(*paths).grid.size if all(map(is_raster, paths)) else None

    def files(self, index: int) -> tuple[Path, Path]:
        """The files of both dates."""
        return self.before[index], self.after[index]

    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask | None]:
        """Both dates (2, H, W, C) uint8 on the grid of the first, and valid (H, W) bool, None where all pixels are.

        A pixel is valid where it is valid at both dates.

        Raises:
            FileFault: cannot be read, other sizes or numbers of channels, no place in common.
        """
        before, after = self.files(index)
        onto = date_grid(before, after)
        how: dict[str, Any] = {"upright": self.orientation != "stored", "watch": self.watch}
        first = read_image(before, self.bands, self.scale, region, **how)
        second = read_image(after, self.bands, self.scale, region, onto, **how)
        return both_dates(before, after, first, second)

    def target(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask]:
        """Labels (H, W) uint8, 0 where invalid, and valid (H, W) bool.

        Raises:
            FileFault: cannot be read, a colour mask, a value outside the classes, one that may or may not be turned.
            DataError: there is no mask.
        """
        path = self.masks[index]
        if path is None:
            raise DataError(f"{self.before[index]} has no mask; only pairs with a mask can be labelled or scored.")
        onto = mask_grid(self.before[index], path)
        if region is not None and onto is None:
            refuse_other_size(path, self.extent(index))
        turn = orientation_of_mask(path, self.before[index], self.orientation)
        values, covered = read_mask_onto(path, region, onto, turn, colours=bool(self.values.colours))
        if self.mask_watch is not None:
            self.mask_watch.add(values)
        labels, valid = self.values.decode(values, path)
        return (labels, valid) if covered is None else (np.where(covered, labels, 0).astype(np.uint8), valid & covered)

    def watched(self, images: RangeWatch, masks: MaskWatch) -> ImagePairs:
        """The same samples, of which all that is read is seen."""
        return replace(self, watch=images, mask_watch=masks)

    def has_target(self, index: int) -> bool:
        """Whether there is a mask of the same name."""
        return self.masks[index] is not None

    def target_file(self, index: int) -> Path | None:
        """The mask of the same name, if any."""
        return self.masks[index]


def open_pair_folders(spec: PairSpec) -> DataParts:
    """A data set, opened; lists folders, opens a few images only where a range of values has to be sampled.

    Raises:
        DataError: missing or empty folder, pairs that miss a date, no mask that fits, a file in two parts.
    """

    def opened(part: PairImages, key: str) -> ImagePairs:
        return image_pairs(part, spec.values, key, spec.bands)

    folders, _ = pool_among(spec.unlabeled)
    more = tuple(opened(part, f"unlabeled[{k}]") for k, part in enumerate(folders))
    val, test = (
        opened(part, key) if isinstance(part, PairFolders) else None
        for key, part in (("val", spec.val), ("test", spec.test))
    )
    train, overlap = opened(spec.train, "train"), spec.allow_overlap
    parts = DataParts(train, more, val, test, spec.classes, bands=spec.bands, allow_overlap=overlap)
    return rescaled(parts, spec.scale, spec.orientation)


def image_pairs(part: PairImages, values: MaskValues, key: str, bands: Bands | None = None) -> ImagePairs:
    """The pairs of a part, sorted by name.

    Raises:
        DataError: missing or empty folder, pairs that miss a date, no mask that fits.
    """
    place = part.masks if isinstance(part, PairFolders) else None
    labels = None if place is None else list_masks(place, f"{key}.masks")
    among = labels is not None and place is not None and is_pattern(place)  # masks may lie among the images
    taken = set(real_places(labels.files.values())) if labels is not None and among else ()
    first = list_place(part.images_a, f"{key}.images_a", taken=taken)
    second = list_place(part.images_b, f"{key}.images_b", taken=taken)
    before, after = first.files, by_name(first.files, second, f"{key}.images_b")
    names = chosen_names(part.names, [*before, *after], f"pair in {key}.names:")
    _refuse_single(names, (before, first), (after, second), key)
    _refuse_one_date(names, before, after, key)
    unused = [*unread(first, f"{key}.images_a"), *unread(second, f"{key}.images_b")]
    masks: dict[str, Path] = {}
    if labels is not None and place is not None:
        masks = by_name(before, labels, f"{key}.masks")
        if not any(name in masks for name in names):
            raise no_mask_fits(key, ("images_a", part.images_a, first), ("masks", place, labels))
        unused += unused_masks(f"{key}.masks", labels, masks, first)
    return ImagePairs(
        names=tuple(names),
        before=tuple(before[name] for name in names),
        after=tuple(after[name] for name in names),
        masks=tuple(masks.get(name) for name in names),
        values=values,
        bands=bands,
        unused=tuple(unused),
    )


def paired_files(before: Listed, after: Listed) -> tuple[dict[str, tuple[Path, Path]], list[FileFault]]:
    """Name -> files of both dates, of two folders; and the files of one date alone.

    Raises:
        DataError: no pair has both dates.
    """
    a, b = before.files, after.files
    pairs = {name: (a[name], b[name]) for name in a if name in b}
    if not pairs:
        _refuse_single(dict.fromkeys([*a, *b]), (a, before), (b, after), "prediction")
    faults = []
    for (here, there, place), date in (((a, b, after), "second"), ((b, a, before), "first")):
        alone = {name: path for name, path in here.items() if name not in there}
        causes = likely_causes(alone, {k: v for k, v in there.items() if k not in here}, place.others, "partner")
        kind, remedy = f"no partner of the {date} date", "Both dates of a pair have one name in the same subfolder."
        faults += [
            FileFault(kind, path, f"{cause}: {remark}" if remark else "", remedy)
            for cause, files in causes.items()
            for path, remark in files
        ]
    return pairs, faults


_Date = tuple[Mapping[str, Path], Listed]
"""The files of a date by the names of their pairs, and all that lies in its place."""


def _refuse_single(names: Iterable[str], before: _Date, after: _Date, key: str) -> None:
    """Raise where a name has one date only."""
    for (here, _), (there, place), date in ((before, after, "second"), (after, before, "first")):
        alone = {name: here[name] for name in names if name in here and name not in there}
        if alone:
            free = {name: path for name, path in there.items() if name not in here}
            causes = likely_causes(alone, free, place.others, "partner")
            causes.pop(UNKNOWN_CAUSE.format(other="partner"), None)
            likely = "".join(
                f" {len(files)} {kind}: {some([f'{path} ({remark})' for path, remark in files])}."
                for kind, files in causes.items()
            )
            raise DataError(
                f"{key}: {len(alone)} of {len(here)} images have no partner of the {date} date: {some(list(alone))}. "
                f"Both dates of a pair have one name (the suffix may differ) in the same subfolder.{likely} Add the "
                "missing files or take these out."
            )


def _refuse_one_date(names: Iterable[str], before: dict[str, Path], after: dict[str, Path], key: str) -> None:
    """Raise where both dates are one file: nothing changes between them."""
    same = [name for name in names if os.path.realpath(before[name]) == os.path.realpath(after[name])]
    if same:
        raise DataError(
            f"{key}: images_a and images_b are the same file for {len(same)} pairs: {some(same)}. Give the images of "
            "the second date as images_b."
        )
