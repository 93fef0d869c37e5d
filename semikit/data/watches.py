"""What all files of a data set have in common, seen while they are opened: the range of values of images, and which
values of `mapping` masks hold. A sample of them would miss the one file that differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, final

from semikit.data.check import Part
from semikit.data.formats.images import spread_by_pillow
from semikit.data.formats.mask_values import MaskValues, MaskWatch
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import BYTES, Scale
from semikit.data.formats.value_range import deep_beside_8_bits, watch_some
from semikit.data.samples import DataParts
from semikit.errors import DataError, FileFault
from semikit.raster.reading import Bands


@final
@dataclass(frozen=True, slots=True)
class DataWatch:
    """Given all that is read of one's own data; `stated` is the range of values that the data file says."""

    ranges: RangeWatch
    masks: MaskWatch
    stated: Scale | None
    bands: Bands | None

    @classmethod
    def of(cls, parts: DataParts, values: MaskValues, stated: Scale | None) -> Self:
        """For these parts: where 8 bits were found, and not stated, all others are of more."""
        scale = None if stated is None and parts.scale == BYTES else parts.scale
        return cls(RangeWatch(scale), MaskWatch(values), stated, parts.bands)

    def over(self, part: Part) -> Part:
        """The part, watched."""
        return replace(part, source=part.source.watched(self.ranges, self.masks))

    def look_at_some(self, part: Part) -> None:
        """A few images of a part that is not opened as a whole."""
        files = [path for index in part.indices for path in part.source.files(index)]
        if files and self.ranges.scale is not None:
            watch_some(files, self.ranges, self.bands)

    def refuse(self, learned: Part, resumed: bool) -> None:
        """Raise where what was opened cannot be meant so. A run that was begun goes on, but for one whose masks were
        read by other values than those in their files.

        Raises:
            DataError: images of more than 8 bits beside others of 8; a `mapping` that changes no mask of train.
        """
        if self.stated is None and self.ranges.deep and not resumed:
            raise deep_beside_8_bits(self.ranges.deep[0])
        if self.masks.without_effect and (not resumed or _spread_before(learned)):
            self._read_others(learned)
            if self.masks.without_effect:
                raise DataError(f"{self.masks.notices()[0]}.")

    def _read_others(self, learned: Part) -> None:
        """Masks that are not labelled this time: they may be those that `mapping` is for."""
        source = learned.source.watched(self.ranges, self.masks)
        for index in sorted({*range(len(source))} - {*learned.indices}):
            if not self.masks.without_effect:
                return
            if source.has_target(index):
                try:
                    source.target(index)
                except FileFault:  # it is not learned from
                    continue

    def notices(self) -> Sequence[str]:
        """What should be known of all that was read."""
        return [*self.ranges.notices(), *self.masks.notices()]


def _spread_before(learned: Part) -> bool:
    """Whether a version before this read other values from some masks."""
    files = (path for index in learned.indices for path in learned.source.target_files(index))
    return any(map(spread_by_pillow, files))
