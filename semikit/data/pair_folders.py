"""Folders of image pairs -> sources."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from semikit.data.folders import Sources, image_files, put_together
from semikit.data.formats.images import PHOTOS, RASTERS
from semikit.data.formats.mask_values import MaskValues
from semikit.data.pair_spec import PairFolders, PairImages, PairSpec
from semikit.data.pairs import PairSource
from semikit.data.shards.spec import pool_among
from semikit.errors import DataError, some, unknown


def resolve_pairs(spec: PairSpec) -> Sources[PairSource]:
    """The sources of a data set; lists folders, opens a few images only where a range of values has to be sampled.

    Raises:
        DataError: missing or empty folder, pairs that miss a date, no mask that fits, a file in two parts.
    """

    def opened(part: PairImages, key: str) -> PairSource:
        return pair_source(part, spec.values, spec.bands, key)

    train, val = opened(spec.train, "train"), opened(spec.val, "val")
    test = None if spec.test is None else opened(spec.test, "test")
    folders, _ = pool_among(spec.unlabeled)
    unlabeled = [opened(part, f"unlabeled[{k}]") for k, part in enumerate(folders)]
    return put_together(spec, train, unlabeled, val, test)


def pair_source(part: PairImages, values: MaskValues, bands: tuple[int, ...] | None, key: str) -> PairSource:
    """The pairs of a part, sorted by name.

    Raises:
        DataError: missing or empty folder, pairs that miss a date, no mask that fits.
    """
    before = _files(part.images_a, f"{key}.images_a")
    after = _files(part.images_b, f"{key}.images_b")
    names = _chosen(part.names, before, after, key)
    _refuse_single(names, before, after, key)
    _refuse_one_date(names, before, after, key)
    masks: dict[str, Path] = {}
    if isinstance(part, PairFolders) and part.masks is not None:
        masks = _files(part.masks, f"{key}.masks")
        if not any(name in masks for name in names):
            raise DataError(
                f"{key}: no pair has a mask. Pairs are named {some(names)}, masks {some(list(masks))} in {part.masks}. "
                "A mask has its pair's name; the suffix may differ."
            )
    return PairSource(
        names=tuple(names),
        before=tuple(before[name] for name in names),
        after=tuple(after[name] for name in names),
        masks=tuple(masks.get(name) for name in names),
        values=values,
        bands=bands,
    )


def paired_files(before: Path, after: Path) -> dict[str, tuple[Path, Path]]:
    """Name -> files of both dates, of two folders.

    Raises:
        DataError: missing or empty folder, pairs that miss a date.
    """
    a, b = image_files(before, "SOURCE"), image_files(after, "SOURCE_B")
    _refuse_single(dict.fromkeys([*a, *b]), a, b, "prediction")
    return {name: (a[name], b[name]) for name in a}


def _chosen(given: tuple[str, ...] | None, before: dict[str, Path], after: dict[str, Path], key: str) -> list[str]:
    known = dict.fromkeys([*before, *after])
    for name in given or ():
        if name not in known:
            raise unknown(f"pair in {key}.names:", name, known)
    return list(known) if given is None else sorted(set(given))


def _refuse_single(names: Iterable[str], before: dict[str, Path], after: dict[str, Path], key: str) -> None:
    """Raise where a name has one date only."""
    for here, there, date in ((before, after, "second"), (after, before, "first")):
        alone = [name for name in names if name in here and name not in there]
        if alone:
            raise DataError(
                f"{key}: {len(alone)} of {len(here)} images have no partner of the {date} date: {some(alone)}. Both "
                "dates of a pair have one name (the suffix may differ) in the same subfolder. Add the missing files or "
                "take these out."
            )


def _refuse_one_date(names: Iterable[str], before: dict[str, Path], after: dict[str, Path], key: str) -> None:
    """Raise where both dates are one file: nothing changes between them."""
    same = [name for name in names if before[name].resolve() == after[name].resolve()]
    if same:
        raise DataError(
            f"{key}: images_a and images_b are the same file for {len(same)} pairs: {some(same)}. Give the images of "
            "the second date as images_b."
        )


def _files(place: Path, key: str) -> dict[str, Path]:
    """Name -> file of a folder, or of a pattern with a star where the name stands.

    Raises:
        DataError: nothing found, or a pattern with several stars.
    """
    if "*" not in str(place):
        return image_files(place, key)
    if str(place).count("*") > 1:
        raise DataError(f"{key}: {place} has several stars; one stands where the pair's name is.")
    parts = place.parts
    first = next(k for k, part in enumerate(parts) if "*" in part)
    base, inner = Path(*parts[:first]), "/".join(parts[first:])
    name = re.compile("([^/]+)".join(map(re.escape, inner.split("*"))))
    found: dict[str, Path] = {}
    for path in sorted(base.glob(inner)):
        match = name.fullmatch(path.relative_to(base).as_posix())
        if match is not None and path.suffix.lower() in PHOTOS | RASTERS:
            found[match[1]] = path
    if not found:
        raise DataError(f"{key}: no image fits {place}. Known types: {', '.join(sorted(PHOTOS | RASTERS))}.")
    return found
