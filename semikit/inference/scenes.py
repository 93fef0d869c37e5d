"""What is predicted together, one image or the dates of a pair: how it is found and read, and what its maps show."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self, final

from torch import Tensor

from semikit.data.file_patterns import is_pattern, list_place
from semikit.data.folders import TYPES, is_image, list_distinct
from semikit.data.formats.images import is_raster, read_grid
from semikit.data.formats.mask_values import MaskValues
from semikit.data.formats.orientation import Orientation
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import Scale
from semikit.data.formats.value_range import sampled_scale
from semikit.data.image_pairs import ImagePairs, paired_files
from semikit.data.masked_images import plain_images
from semikit.data.pair_grids import aligned
from semikit.data.samples import Samples
from semikit.data.unused_files import Unused, unread
from semikit.errors import DataError, FileFault, InputError
from semikit.inference.many_files import file_or_raster, find_sources
from semikit.inference.windows import ValueSettings, bands_and_scale, orientation_of
from semikit.raster.grid import Grid
from semikit.raster.reading import Bands

LARGE = 2048
"""Pixels a side up to which a raster without a place on the map is taken for a photo."""

_HEADERS = 64
"""Of so many files the grids are remembered."""

_PAIR = "two files, two folders, or two patterns in quotes, 'dates/{stem}-before.tif' for example"

Files = tuple[Path, ...]
"""Of one scene, a file for each date."""


@final
@dataclass(frozen=True, slots=True)
class Found:
    """Scenes by name; supplied files that are not read; images that are in no scene; whether they are all that one or
    several places hold (`many`), or a single one that was named.
    """

    scenes: Mapping[str, Files]
    unused: Sequence[Unused]
    refused: Sequence[FileFault]
    many: bool

    @property
    def images(self) -> list[Path]:
        """The files of all scenes."""
        return [path for files in self.scenes.values() for path in files]


@dataclass(frozen=True)
class SceneReader(ABC):
    """What a task adds to the prediction of maps. `scale` is the range of values that the network learned from, None:
    8 bits; `watch` sees all values that are read.
    """

    class_names: tuple[str, ...]
    bands: Bands | None
    scale: Scale | None
    orientation: Orientation
    watch: RangeWatch = field(compare=False)
    headers: Callable[[Path, bool], Grid] = field(default_factory=lambda: lru_cache(_HEADERS)(read_grid), compare=False)
    """`read_grid`; asked for again it does not open the file."""

    plural: ClassVar[str]
    dates: ClassVar[str]
    """When a pixel has to be valid, for messages."""
    background: ClassVar[int | None]
    """The class that is not outlined and shows the image in an overlay."""

    @classmethod
    def of(cls, metadata: Mapping[str, Any], values: ValueSettings | None = None) -> Self:
        """From what a weights file tells, and what is said of images with other values."""
        bands, scale = bands_and_scale(metadata)
        own = values or ValueSettings()
        watch = RangeWatch(own.scale or scale, "that --scale says" if own.scale else "that was learned from")
        names, orientation = tuple(metadata["class_names"]), orientation_of(metadata)
        return cls(names, own.bands or bands, watch.scale, orientation, watch)

    @abstractmethod
    def find(self, sources: Sequence[str]) -> Found:
        """The scenes that a user names.

        Raises:
            InputError: another number of sources, sources that do not fit each other.
            DataError: nothing to predict.
        """

    @abstractmethod
    def samples(self, files: Files, scale: Scale | None) -> Samples:
        """A scene as the only sample, read from a range of values."""

    @abstractmethod
    def range_of(self, files: Files) -> Scale | None:
        """The range of values of a scene where the network knows none; None: each image says it itself.

        Raises:
            FileFault: its dates have none in common.
        """

    @abstractmethod
    def is_map(self, files: Files) -> bool:
        """Whether a GeoTIFF is written unless something else is asked for."""

    @abstractmethod
    def by_windows(self, files: Files) -> bool:
        """Whether it is read and predicted window by window."""

    @abstractmethod
    def notices(self, files: Files) -> dict[str, str]:
        """What a user should know before a scene is predicted, by its kind."""

    @abstractmethod
    def bands_of_probability(self) -> tuple[str, ...]:
        """What the bands of `probability` are called."""

    @abstractmethod
    def probability(self, probabilities: Tensor) -> Tensor:
        """Probabilities (K, h, w) of all classes -> (B, h, w) those that `--probability` writes."""

    def grid(self, files: Files) -> Grid:
        """The grid that maps are drawn on: that of the first date."""
        return self.headers(files[0], self.orientation != "stored")


@final
class SingleDates(SceneReader):
    """Images of one date, each of which gives a map of classes."""

    plural, dates, background = "images", "", None

    def find(self, sources: Sequence[str]) -> Found:
        """The images of files, folders or patterns."""
        listed = find_sources(*sources)
        scenes = {name: (path,) for name, path in listed.files.items()}
        return Found(scenes, unread(listed, "SOURCE"), listed.refused, not listed.single)

    def samples(self, files: Files, scale: Scale | None) -> Samples:
        """The image."""
        return plain_images({files[0].stem: files[0]}, None, self.bands, scale, self.watch, self.orientation)

    def range_of(self, files: Files) -> Scale | None:
        """Of a raster percentiles of a sample of it, as its windows have to agree."""
        return sampled_scale(files, self.bands) if self.by_windows(files) else None

    def is_map(self, files: Files) -> bool:
        """Whether it has a place."""
        return is_raster(files[0]) and self.grid(files).transform is not None

    def by_windows(self, files: Files) -> bool:
        """Whether it has a place, or is too large to be a photo."""
        return is_raster(files[0]) and (self.is_map(files) or max(self.grid(files).size) > LARGE)

    def notices(self, files: Files) -> dict[str, str]:
        """A place in a reference system that is not known."""
        grid = self.grid(files)
        return {} if grid.placed or not self.is_map(files) else _bare(files[0])

    def bands_of_probability(self) -> tuple[str, ...]:
        """Every class."""
        return self.class_names

    def probability(self, probabilities: Tensor) -> Tensor:
        """Of every class."""
        return probabilities


@final
class DatePairs(SceneReader):
    """Images of two dates, which give a map of change."""

    plural, dates, background = "pairs", " at both dates", 0

    def find(self, sources: Sequence[str]) -> Found:
        """Two files, two folders with equal names, or two patterns, the earlier date first."""
        if len(sources) != 2:
            raise InputError(
                "a change-detection run predicts pairs: give two files or two folders, the earlier date first, "
                f"not {len(sources)}."
            )
        before, after = map(file_or_raster, sources)
        several = [path.is_dir() or is_pattern(path) for path in (before, after)]
        for source, path, many in zip(sources, (before, after), several, strict=True):
            if not (source and (many or path.exists())):
                raise InputError(f"{source or 'an empty SOURCE'} does not exist. Give {_PAIR}.")
        if several[0] != several[1]:
            raise InputError(f"{before} and {after}: one is a folder. Give {_PAIR}.")
        if several[0]:
            first, second = (
                list_place(place, key) if is_pattern(place) else list_distinct(place, key)
                for place, key in ((before, "SOURCE"), (after, "SOURCE_B"))
            )
            pairs, alone = paired_files(first, second)
            left = [*unread(first, "SOURCE"), *unread(second, "SOURCE_B")]
            return Found(pairs, left, [*first.refused, *second.refused, *alone], many=True)
        for path in (before, after):
            if not (path.is_file() and (is_raster(path) or is_image(path.name))):
                raise InputError(
                    f"{path} is {'no image' if path.is_file() else 'a pipe or a device'}. Known types: {TYPES}."
                )
        return Found({before.stem: (before, after)}, [], [], many=False)

    def samples(self, files: Files, scale: Scale | None) -> Samples:
        """The pair."""
        bounds, values = None if scale is None else scale.bounds, MaskValues(len(self.class_names))
        names, (before, after) = (files[0].stem,), files
        return ImagePairs(names, (before,), (after,), (None,), values, self.bands, bounds, self.watch, self.orientation)

    def range_of(self, files: Files) -> Scale | None:
        """That of both dates."""
        try:
            return sampled_scale(files, self.bands)
        except FileFault:
            raise
        except DataError as error:
            raise FileFault("dates of unlike values", files[1], str(error), "Store both dates in one way.") from error

    def is_map(self, files: Files) -> bool:
        """Whether both are rasters."""
        return all(map(is_raster, files))

    def by_windows(self, files: Files) -> bool:
        """As it is written: whether both are rasters."""
        return self.is_map(files)

    def notices(self, files: Files) -> dict[str, str]:
        """Dates that are one file or do not lie on one grid, a place that is not known."""
        before, after = files
        if os.path.realpath(before) == os.path.realpath(after):
            return {"are one file twice": f"{before} was given for both dates: nothing changes between them"}
        alignment = aligned(before, after) if self.is_map(files) else None
        if alignment is None:
            return {}
        if alignment.notice:
            return {"do not lie on one grid": alignment.notice}
        return {} if alignment.grid.placed else _bare(before)

    def bands_of_probability(self) -> tuple[str, ...]:
        """That something changed."""
        return ("change",)

    def probability(self, probabilities: Tensor) -> Tensor:
        """That something changed: of all classes but the first."""
        return 1 - probabilities[:1]


def _bare(file: Path) -> dict[str, str]:
    what = "no coordinate reference system"
    return {f"have {what}": f"{file} has {what}, and neither has the map"}
