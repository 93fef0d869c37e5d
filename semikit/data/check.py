"""Look through all files before training: everything that is wrong, in one message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from semikit.data.formats.images import read_info
from semikit.data.sources import PixelSource, regions_of
from semikit.data.splits import Split
from semikit.errors import DataError, FileFault, mask_size_fault, some
from semikit.raster.region import Region

Progress = Callable[[int, int], None]


@final
@dataclass(frozen=True, slots=True)
class Part:
    """Images to be looked at; `masks`: each needs one; `learned`: and each mask needs a valid pixel."""

    name: str
    source: PixelSource
    indices: Sequence[int]
    masks: bool
    learned: bool = False


@final
@dataclass(frozen=True, slots=True)
class _Seen:
    """What one image showed."""

    name: str
    channels: int | None = None
    counted: bool = False
    fault: FileFault | None = None


def check_sources(parts: Sequence[Part], num_classes: int, progress: Progress | None = None) -> None:
    """Decode every image and every mask that will be used.

    Raises:
        DataError: one message with all problems of `find_problems`.
    """
    problems = find_problems(parts, num_classes, progress)
    if len(problems) == 1:
        raise DataError(problems[0])
    if problems:
        raise DataError("\n- ".join([f"{len(problems)} problems with the data:", *problems]))


def missing_files(parts: Sequence[Part]) -> list[str]:
    """A sentence for each part whose files are not all there: three of them and the number of the others."""
    told = []
    for part in parts:
        source = part.source
        files = [path for i in part.indices for path in source.files(i)]
        files += [path for i in part.indices if part.masks and (path := source.mask_file(i)) is not None]
        gone = [str(path) for path in files if not path.is_file()]
        if gone:
            told.append(f"{part.name}: {len(gone)} of {len(files)} files are missing: {some(gone)}")
    return told


def sampled(part: Part, most: int) -> Part:
    """At most so many images of a part, spread over it."""
    step = max(1, -(-len(part.indices) // most))
    return replace(part, indices=part.indices[::step])


def parts_of(split: Split, val: PixelSource, test: PixelSource | None = None) -> list[Part]:
    """What a run will use: labelled, unlabelled (images alone), val, test."""
    parts = [
        Part("labelled", split.pool.sources[0], split.labeled, masks=True, learned=True),
        Part("unlabelled", split.pool, split.unlabeled, masks=False),
        Part("val", val, range(len(val)), masks=True),
    ]
    return [*parts, Part("test", test, range(len(test)), masks=True)] if test is not None else parts


def find_problems(parts: Sequence[Part], num_classes: int, progress: Progress | None = None) -> list[str]:
    """A sentence for each kind of problem in each part, with at most three files and the number of the others.

    Kinds: unreadable or truncated image, missing mask, mask of another size, colour mask, value outside the classes
    0..num_classes-1, no pixel that counts (in a labelled image; in all that are scored), another number of channels.
    Images are decoded by threads; `progress` is told (done, all) after each.
    """
    total, done = sum(len(part.indices) for part in parts), 0
    faults: dict[tuple[str, str], list[FileFault]] = {}
    channels: list[tuple[str, _Seen]] = []
    with ThreadPoolExecutor() as threads:
        for part in parts:
            look, counted, before = _looker(part, num_classes), False, len(faults)
            for seen in threads.map(look, part.indices):
                done += 1
                if progress is not None:
                    progress(done, total)
                counted |= seen.counted
                if seen.fault is not None:
                    faults.setdefault((part.name, seen.fault.kind), []).append(seen.fault)
                elif seen.channels is not None:
                    channels.append((part.name, seen))
            if part.masks and part.indices and not counted and len(faults) == before:
                fault = FileFault("masks of which no pixel counts", "all", "", "Check `ignore` and `mapping`.")
                faults[part.name, fault.kind] = [fault]
    for name, fault in _other_channels(channels):
        faults.setdefault((name, fault.kind), []).append(fault)
    return [_told(name, kind, found) for (name, kind), found in faults.items()]


def orientation_notice(source: PixelSource, indices: Sequence[int]) -> str | None:
    """A warning where images carry a camera's orientation, which is not applied; reads headers only."""
    turned = [source.names[index] for index in indices if _turned(source, index)]
    if not turned:
        return None
    return (
        f"{len(turned)} labelled images ({some(turned)}) carry an EXIF orientation. Pixels are used as stored, so "
        "their masks must be drawn on the unturned image."
    )


def _looker(part: Part, num_classes: int) -> Callable[[int], _Seen]:
    def look(index: int) -> _Seen:
        name = part.source.names[index]
        try:
            channels, counted = _looked(part, index, name, num_classes)
            return _Seen(name, channels, counted)
        except FileFault as fault:
            return _Seen(name, fault=fault)

    return look


def _looked(part: Part, index: int, name: str, num_classes: int) -> tuple[int, bool]:
    """Channels of an image that is sound, as is its mask, and whether a pixel counts; rasters are read by tiles."""
    if part.masks and not part.source.has_mask(index):
        remedy = "Add a mask of the same name (the suffix may differ), or take the image out of the list."
        raise FileFault("image without mask", name, "", remedy)
    channels, shown, counted = 0, False, False
    for region in regions_of(part.source, index):
        image, valid = part.source.image(index, region)
        channels, seen = int(image.shape[-1]), np.True_ if valid is None else valid
        shown |= bool(seen.any())
        if part.masks:
            counted |= bool((seen & _mask_looked(part.source, index, image, region, num_classes)).any())
    if not shown:
        remedy = "Take it out, or check its nodata value and, of a pair, that of the other date."
        raise FileFault("image without a valid pixel", name, "", remedy)
    if part.learned and not counted:
        remedy = "Take it out of the labelled images, or check `ignore` and `mapping`."
        raise FileFault("mask without a valid pixel", name, "", remedy)
    return channels, counted


def _mask_looked(
    source: PixelSource, index: int, image: NDArray[np.uint8], region: Region | None, num_classes: int
) -> NDArray[np.bool_]:
    """Valid pixels of a mask that is sound."""
    labels, valid = source.mask(index, region)
    if labels.shape != image.shape[-3:-1]:
        raise size_fault(source, index, image.shape, labels.shape)
    if valid.any() and int(labels[valid].max()) >= num_classes:
        name, detail = source.names[index], f"{int(labels[valid].max())}"
        raise FileFault(f"label outside the classes 0 to {num_classes - 1}", name, detail, "Correct the labels.")
    return valid


def _turned(source: PixelSource, index: int, least: int = 2) -> bool:
    """Whether a camera's orientation of at least so much (1: upright, from 5: on its side) is stored with an image."""
    return any(read_info(path).orientation >= least for path in source.files(index))


def size_fault(source: PixelSource, index: int, image: tuple[int, ...], mask: tuple[int, ...]) -> FileFault:
    """The fault of an image (*T, H, W, C) and its mask (H, W) that differ in size; says so where EXIF turned one."""
    sizes = (image[-3], image[-2]), (mask[0], mask[1])
    if not _turned(source, index, 5):
        return mask_size_fault(source.names[index], *sizes)
    remedy = (
        "The image carries an EXIF orientation, which is not applied, while its mask was drawn on the turned one: "
        "turn the images for good (jpegtran, or Pillow's ImageOps.exif_transpose) or the masks back."
    )
    return mask_size_fault(source.names[index], *sizes, remedy)


def _other_channels(seen: Sequence[tuple[str, _Seen]]) -> list[tuple[str, FileFault]]:
    """Images that differ from the most common number of channels."""
    counts = Counter(item.channels for _, item in seen)
    if len(counts) <= 1:
        return []
    common = counts.most_common(1)[0][0]
    kind = f"image with another number of channels than most ({common})"
    remedy = "Choose the same for all with `bands: [...]`, or convert the images."
    return [
        (part, FileFault(kind, item.name, str(item.channels), remedy)) for part, item in seen if item.channels != common
    ]


def _told(part: str, kind: str, faults: Sequence[FileFault]) -> str:
    return f"{part}: {kind}: {some([fault.where for fault in faults])}. {faults[0].remedy}"
