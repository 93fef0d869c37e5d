"""Pairs of images of two dates: how they are found and read, the second on the grid of the first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from semikit.core.transitions import without_arrow
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
from semikit.data.masked_images import corrected_masks, refuse_other_size
from semikit.data.naming import UNKNOWN_CAUSE, likely_causes
from semikit.data.pair_grids import aligned, both_dates, date_grid, mask_grid, other_size
from semikit.data.pair_spec import PairFolders, PairImages, PairSpec
from semikit.data.samples import Bytes, DataParts, Mask, Samples
from semikit.data.shards.pool_spec import pool_among
from semikit.data.two_masks import TwoMasks
from semikit.data.unused_files import Unused, unread, unused_masks
from semikit.errors import DataError, FileFault, some
from semikit.raster.reading import Bands
from semikit.raster.region import Region


@final
@dataclass(frozen=True)
class ImagePairs(Samples):
    """Pairs of images and their masks; nothing is opened before it is asked for.

    `before` and `after` are the files of the two dates; `masks`, on the grid of the first, holds None where there is
    none. Where each date has a mask `masks` are those of the first and `later_masks` those of the second, which
    `two_masks` makes one of. Masks that are `corrected` hold class numbers, and 255 where nothing is labelled. `unused`
    are files beside them that are not used.
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
    later_masks: tuple[Path | None, ...] = ()
    two_masks: TwoMasks | None = None
    corrected: frozenset[Path] = frozenset()

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
            FileFault: cannot be read, a colour mask, a value outside the classes, one that may or may not be turned,
                masks of two dates of other sizes.
            DataError: there is no mask.
        """
        files = self.target_files(index)
        if not files:
            raise DataError(f"{self.before[index]} has no mask; only pairs with a mask can be labelled or scored.")
        if self.two_masks is None:
            values = self.values.numbers() if files[0] in self.corrected else self.values
            return self._mask(index, files[0], values, region)
        both = zip(files, self.two_masks.values, strict=True)
        first, second = (self._mask(index, path, values, region) for path, values in both)
        if first[0].shape != second[0].shape:
            raise other_size(files[0], files[1], first[0].shape, second[0].shape, "masks of two dates")
        return self.two_masks.joined(first, second)

    def _mask(self, index: int, path: Path, values: MaskValues, region: Region | None) -> tuple[Bytes, Mask]:
        """What one of the masks says."""
        onto = mask_grid(self.before[index], path)
        if region is not None and onto is None:
            refuse_other_size(path, self.extent(index))
        turn = orientation_of_mask(path, self.before[index], self.orientation)
        stored, covered = read_mask_onto(path, region, onto, turn, colours=bool(values.colours))
        if self.mask_watch is not None and path not in self.corrected:
            self.mask_watch.add(stored)
        labels, valid = values.decode(stored, path)
        return (labels, valid) if covered is None else (np.where(covered, labels, 0).astype(np.uint8), valid & covered)

    def watched(self, images: RangeWatch, masks: MaskWatch) -> ImagePairs:
        """The same samples, of which all that is read is seen."""
        return replace(self, watch=images, mask_watch=masks)

    def has_target(self, index: int) -> bool:
        """Whether there is a mask of the same name."""
        return self.masks[index] is not None

    def target_files(self, index: int) -> tuple[Path, ...]:
        """The mask of the same name, or those of both dates; none where there is none."""
        every = (self.masks, self.later_masks) if self.two_masks else (self.masks,)
        return tuple(path for masks in every if (path := masks[index]) is not None)


def open_pair_folders(spec: PairSpec) -> DataParts:
    """A data set, opened; lists folders, opens a few images only where a range of values has to be sampled.

    Raises:
        DataError: missing or empty folder, pairs that miss a date, no mask that fits, a file in two parts.
    """

    def opened(part: PairImages, key: str) -> ImagePairs:
        found = image_pairs(part, spec.values, key, spec.bands)
        return replace(found, two_masks=both) if found.later_masks else found

    both = spec.two_masks

    folders, _ = pool_among(spec.unlabeled)
    more = tuple(opened(part, f"unlabeled[{k}]") for k, part in enumerate(folders))
    val, test = (
        opened(part, key) if isinstance(part, PairFolders) else None
        for key, part in (("val", spec.val), ("test", spec.test))
    )
    train, overlap = opened(spec.train, "train"), spec.allow_overlap
    names = spec.classes if both is None else both.names
    odd = () if spec.damage else _odd_ones(names)
    parts = DataParts(train, more, val, test, names, bands=spec.bands, allow_overlap=overlap, notices=odd)
    return rescaled(parts, spec.scale, spec.orientation)


def _odd_ones(classes: Sequence[str]) -> tuple[str, ...]:
    """At most one notice: classes that are no transitions, among some that are."""
    odd = without_arrow(classes[1:])
    if not odd or len(odd) == len(classes) - 1:
        return ()
    text = (
        f"class {odd[0]!r} is no transition, while others are (from -> to, {len(classes) - 1 - len(odd)} of "
        f"{len(classes) - 1}): there is no SeK and no table of transitions, which need all of them"
    )
    return (text,)


def image_pairs(part: PairImages, values: MaskValues, key: str, bands: Bands | None = None) -> ImagePairs:
    """The pairs of a part, sorted by name.

    Raises:
        DataError: missing or empty folder, pairs that miss a date, no mask that fits.
    """
    places = part.places if isinstance(part, PairFolders) else {}
    labels = {name: list_masks(place, f"{key}.{name}") for name, place in places.items()}
    among = [name for name, place in places.items() if is_pattern(place)]  # masks may lie among the images
    taken = {real for name in among for real in real_places(labels[name].files.values())}
    first = list_place(part.images_a, f"{key}.images_a", taken=taken)
    second = list_place(part.images_b, f"{key}.images_b", taken=taken)
    before, after = first.files, by_name(first.files, second, f"{key}.images_b")
    names = chosen_names(part.names, [*before, *after], f"pair in {key}.names:")
    _refuse_single(names, (before, first), (after, second), key)
    _refuse_one_date(names, before, after, key)
    unused = [*unread(first, f"{key}.images_a"), *unread(second, f"{key}.images_b")]
    masks: list[dict[str, Path]] = []
    for name, place in places.items():
        masks.append(by_name(before, labels[name], f"{key}.{name}"))
        if not any(pair in masks[-1] for pair in names):
            raise no_mask_fits(key, ("images_a", part.images_a, first), (name, place, labels[name]))
        unused += unused_masks(f"{key}.{name}", labels[name], masks[-1], first)
    _refuse_single_masks(names, masks, key)
    corrected = part.corrected if isinstance(part, PairFolders) else None
    new = {} if corrected is None else corrected_masks(corrected, ("images_a", part.images_a, first), key, unused)
    masks = [{**masks[0], **new}, *masks[1:]] if new else masks
    return ImagePairs(
        names=tuple(names),
        before=tuple(before[name] for name in names),
        after=tuple(after[name] for name in names),
        masks=tuple(masks[0].get(name) if masks else None for name in names),
        values=values,
        bands=bands,
        unused=tuple(unused),
        later_masks=tuple(found.get(name) for found in masks[1:] for name in names),
        corrected=frozenset(new.values()),
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


def _refuse_single_masks(names: Iterable[str], masks: list[dict[str, Path]], key: str) -> None:
    """Raise where a pair has the mask of one date only."""
    single = [name for name in names if len({name in found for found in masks}) > 1]
    if single:
        raise DataError(
            f"{key}: {len(single)} pairs have a mask of one date only: {some(single)}. Both have the pair's name, in "
            "masks_a and in masks_b; add the missing files, or take both out."
        )


def _refuse_one_date(names: Iterable[str], before: dict[str, Path], after: dict[str, Path], key: str) -> None:
    """Raise where both dates are one file: nothing changes between them."""
    same = [name for name in names if os.path.realpath(before[name]) == os.path.realpath(after[name])]
    if same:
        raise DataError(
            f"{key}: images_a and images_b are the same file for {len(same)} pairs: {some(same)}. Give the images of "
            "the second date as images_b."
        )
