"""Open the files of a data set once before training: everything that is wrong, in one message, and what they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from semikit.core.census import PartCensus
from semikit.data.contents import sample_digests
from semikit.data.formats.images import read_info
from semikit.data.formats.mask_values import joint_remedies
from semikit.data.labeled_images import LARGEST
from semikit.data.samples import Samples, regions_of, unused_files
from semikit.data.splits import CALIBRATION, Split
from semikit.errors import DataError, FileFault, as_list, mask_size_fault, of_one_kind, some
from semikit.raster.region import Region

Progress = Callable[[int, int], None]
LABELLED = "labelled"
"""Name of the part that is learned from with its labels."""

_ONE_SIZE = 0.9
"""Share of images of one small size from which the others are taken for mistakes."""


@final
@dataclass(frozen=True, slots=True)
class Part:
    """Samples to be opened; `masks`: each needs one; `learned`: and each mask needs a valid pixel; `recorded`: what
    their files hold is digested. Of `total` samples these may be some.
    """

    name: str
    source: Samples
    indices: Sequence[int]
    masks: bool = False
    learned: bool = False
    recorded: bool = False
    total: int = -1

    def sampled(self, most: int) -> Part:
        """At most so many of them, spread over the part."""
        return replace(self, indices=self.indices[:: max(1, -(-len(self.indices) // most))], total=len(self.indices))


@final
@dataclass(frozen=True, slots=True)
class Findings:
    """What a data set turned out to be: a sentence for each kind of problem in each part, what the parts whose masks
    were opened hold, and `sample_digests` of parts that are recorded: part -> number of the sample -> digests.
    """

    problems: Sequence[str]
    counted: tuple[PartCensus, ...]
    digests: Mapping[str, Mapping[int, tuple[str, str]]]


@final
@dataclass(frozen=True, slots=True)
class _Seen:
    """What one sample showed: its part, name and number, the image's size (H, W) and channels, and `sample_digests`
    where they are recorded.
    """

    part: str
    name: str
    index: int
    size: tuple[int, int]
    channels: int
    digests: tuple[str, str] | None


@final
class _Tally:
    """What the samples of a part with masks hold, added up, so that memory does not grow with them."""

    def __init__(self, num_classes: int) -> None:
        self.opened = 0
        self.holding = np.zeros(num_classes, np.int64)
        self.pixels = np.zeros(num_classes + 1, np.int64)
        self.channels = Counter[int]()

    def add(self, pixels: NDArray[np.int64], channels: int) -> None:
        """Pixels of each class and of those that do not count (K + 1,) of a sample."""
        self.opened += 1
        self.holding += pixels[:-1] > 0
        self.pixels += pixels
        self.channels[channels] += 1

    def census(self, part: Part) -> PartCensus:
        """As it is shown."""
        return PartCensus(
            name=part.name,
            images=len(part.indices) if part.total < 0 else part.total,
            opened=self.opened,
            holding=tuple(self.holding.tolist()),
            pixels=tuple(self.pixels[:-1].tolist()),
            ignored=int(self.pixels[-1]),
            channels=self.channels.most_common(1)[0][0] if self.channels else None,
        )


_Faults = dict[tuple[str, str], list[FileFault]]
"""Those of one part and kind."""


def parts_of(split: Split, val: Samples, test: Samples | None = None, masks: bool = True) -> list[Part]:
    """What a run will use: labelled, unlabelled (images alone), val, test; `masks`: targets are maps in files."""
    parts = [
        Part(LABELLED, split.pool.sources[0], split.labeled, masks, learned=masks),
        Part("unlabelled", split.pool, split.unlabeled),
        Part("val", val, range(len(val)), masks),
    ]
    parts += [Part("test", test, range(len(test)), masks)] if test is not None else []
    return [*parts, Part(CALIBRATION, split.pool.sources[0], split.calibration, masks)] if split.calibration else parts


def missing_files(parts: Sequence[Part]) -> list[str]:
    """A sentence for each part whose files are not all there: three of them and the number of the others."""
    found = []
    for part in parts:
        source = part.source
        files = [path for i in part.indices for path in source.files(i)]
        files += [path for i in part.indices if part.masks for path in source.target_files(i)]
        missing = [str(path) for path in files if not path.is_file()]
        if missing:
            found.append(f"{part.name}: {len(missing)} of {len(files)} files are missing: {some(missing)}")
    return found


def check_samples(
    parts: Sequence[Part], num_classes: int, progress: Progress | None = None, *, one_size: bool = False
) -> Findings:
    """Decode every image and every mask that will be used, once; returns what the parts hold.

    Raises:
        DataError: one message with all problems that `examined` finds.
    """
    found = examined(parts, num_classes, progress, one_size=one_size)
    if found.problems:
        unused = map(str, unused_files(part.source for part in parts))  # may say why masks are missing
        raise DataError("\n".join([as_list("data", found.problems), *unused]))
    return found


def examined(
    parts: Sequence[Part], num_classes: int, progress: Progress | None = None, *, one_size: bool = False
) -> Findings:
    """A sentence for each kind of problem in each part, with at most three files and the number of the others; and
    what the parts hold.

    Kinds: unreadable or truncated image, missing mask, mask of another size, colour mask, value outside the classes
    0..num_classes-1, no pixel that counts (in a labelled image; in all that are scored), another number of channels;
    with `one_size` another size, where nine of ten have one of at most 96 pixels a side: the others would keep all
    from being held in memory. What is said of mask values is drawn from all masks together. Images in memory have no
    faults. Images are decoded by threads; `progress` is called with (done, all) after each.
    """
    listed = [[index for index in part.indices if part.masks or part.source.files(index)] for part in parts]
    total, done = sum(map(len, listed)), 0
    faults: _Faults = {}
    every: list[_Seen] = []
    tallies = {part.name: _Tally(num_classes) for part in parts if part.masks}
    with ThreadPoolExecutor() as threads:
        for part, indices in zip(parts, listed, strict=True):
            for shown in threads.map(_opener(part, num_classes), indices):
                done += 1
                if progress is not None:
                    progress(done, total)
                if isinstance(shown, FileFault):
                    faults.setdefault((part.name, shown.kind), []).append(shown)
                    continue
                seen, pixels = shown
                every.append(seen)
                if part.masks:
                    tallies[part.name].add(pixels, seen.channels)
    _add_joint_faults(faults, tallies, every, one_size)
    classes = {k for tally in tallies.values() for k in np.flatnonzero(tally.holding).tolist()}
    remedies = joint_remedies([fault for found in faults.values() for fault in found], classes)
    problems = [f"{part}: {of_one_kind(found, remedies.get(kind, ''))}" for (part, kind), found in faults.items()]
    counted = tuple(tallies[part.name].census(part) for part in parts if part.masks)
    digests: dict[str, dict[int, tuple[str, str]]] = {part.name: {} for part in parts if part.recorded}
    for seen in every:
        if seen.digests is not None:
            digests[seen.part][seen.index] = seen.digests
    return Findings(problems, counted, digests)


def _add_joint_faults(faults: _Faults, tallies: Mapping[str, _Tally], every: Sequence[_Seen], one_size: bool) -> None:
    """Faults that no sample has by itself."""
    at_fault = {name for name, _ in faults}
    uncounted = FileFault("masks of which no pixel counts", "all", "", "Check `ignore` and `mapping`.")
    empty = [name for name, tally in tallies.items() if tally.opened and not tally.holding.any()]
    found = [(name, uncounted) for name in empty if name not in at_fault]
    for name, fault in (*found, *_other_channels(every), *(_other_sizes(every) if one_size else [])):
        faults.setdefault((name, fault.kind), []).append(fault)


def refuse_other_size(part: str, source: Samples | None, size: tuple[int, int]) -> None:
    """Raise where images that are scored are not of the `size` (H, W) of those that are learned from.

    Raises:
        DataError: says which size they have, or that they have several.
    """
    held = None if source is None else source.arrays()
    if source is None or (held is not None and held.shape[1:3] == size):
        return
    theirs = "several sizes" if held is None else f"{held.shape[2]}x{held.shape[1]}"
    raise DataError(
        f"{part}: images of {theirs}, while those that are learned from have {size[1]}x{size[0]} (width x height). "
        "Bring all to one size, or crop them all: views.size=224."
    )


def target_of(
    source: Samples, index: int, image: tuple[int, ...], region: Region | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Labels and valid, both (H, W), of a sample whose image has the shape (*T, H, W, C).

    Raises:
        FileFault: the target cannot be read, or is of another size.
    """
    labels, valid = source.target(index, region)
    if labels.shape != image[-3:-1]:
        raise size_fault(source, index, image, labels.shape)
    return labels, valid


def size_fault(source: Samples, index: int, image: tuple[int, ...], mask: tuple[int, ...]) -> FileFault:
    """The fault of an image (*T, H, W, C) and its mask (H, W) that differ in size; of a photo that is taken as stored
    the mask may fit what a viewer shows.
    """
    name, size, other = source.names[index], (image[-3], image[-2]), (mask[0], mask[1])
    files = source.files(index)
    info = read_info(files[0]) if files else None
    if info is None or info.size != size or info.shown != other:
        return mask_size_fault(name, size, other)
    remedy = (
        "It fits the image as a viewer shows it (EXIF orientation): leave `orientation: stored` out, or say `viewer`. "
        "A run that was begun without a word of it takes photos as stored: begin a new one."
    )
    return mask_size_fault(name, size, other, remedy)


_Shown = tuple[_Seen, NDArray[np.int64]] | FileFault
"""A sample and its pixels of each class and of those that do not count (K + 1,), or what is wrong with it."""


def _opener(part: Part, num_classes: int) -> Callable[[int], _Shown]:
    def opened(index: int) -> _Shown:
        try:
            return _opened(part, index, part.source.names[index], num_classes)
        except FileFault as fault:
            return fault

    return opened


def _opened(part: Part, index: int, name: str, num_classes: int) -> _Shown:
    """A sample without faults; rasters are read by tiles."""
    if part.masks and not part.source.has_target(index):
        remedy = "Add a mask of the same name (the suffix may differ), or take the image out of the list."
        raise FileFault("image without mask", name, "", remedy)
    shape: Any = ()
    shown, pixels = False, np.zeros(num_classes + 1, np.int64)
    for region in regions_of(part.source, index):
        image, valid = part.source.image(index, region)
        shape, seen = image.shape, np.True_ if valid is None else valid
        shown |= bool(seen.any())
        if part.masks:
            pixels += _pixels(part.source, index, image, seen, region, num_classes)
    if not shown:
        remedy = "Take it out, or check its nodata value and, of a pair, that of the other date."
        raise FileFault("image without a valid pixel", name, "", remedy)
    if part.learned and not pixels[:-1].any():
        remedy = "Take it out of the labelled images, or check `ignore` and `mapping`."
        raise FileFault("mask without a valid pixel", name, "", remedy)
    digests = sample_digests(part.source, index) if part.recorded and part.source.files(index) else None
    return _Seen(part.name, name, index, shape[-3:-1], shape[-1], digests), pixels


def _pixels(
    source: Samples,
    index: int,
    image: NDArray[np.uint8],
    seen: NDArray[np.bool_] | np.bool_,
    region: Region | None,
    num_classes: int,
) -> NDArray[np.int64]:
    """Pixels of each class and of those that do not count (K + 1,), of a mask without faults."""
    labels, valid = target_of(source, index, image.shape, region)
    if valid.any() and int(labels[valid].max()) >= num_classes:
        name, detail = source.names[index], f"{int(labels[valid].max())}"
        raise FileFault(f"label outside the classes 0 to {num_classes - 1}", name, detail, "Correct the labels.")
    counted = np.where(valid & seen, labels, num_classes)
    return np.bincount(counted.ravel(), minlength=num_classes + 1)


def _other_channels(seen: Sequence[_Seen]) -> Iterable[tuple[str, FileFault]]:
    """Images that differ from the most common number of channels."""
    if not seen:
        return
    ((common, _),) = Counter(item.channels for item in seen).most_common(1)
    kind = f"image with another number of channels than most ({common})"
    remedy = "Choose the same for all with `bands: [...]`, or convert the images."
    for item in seen:
        if item.channels != common:
            yield item.part, FileFault(kind, item.name, str(item.channels), remedy)


def _other_sizes(seen: Sequence[_Seen]) -> Iterable[tuple[str, FileFault]]:
    """Images that differ from a small size that nearly all have."""
    if not seen:
        return
    ((common, count),) = Counter(item.size for item in seen).most_common(1)
    if max(common) > LARGEST or count < _ONE_SIZE * len(seen):
        return
    kind = f"image of another size than most ({common[1]}x{common[0]}, width x height)"
    remedy = "Bring all to one size, take these out, or crop them all: views.size=224."
    for item in seen:
        if item.size != common:
            yield item.part, FileFault(kind, item.name, f"{item.size[1]}x{item.size[0]}", remedy)
