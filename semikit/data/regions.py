"""A rectangle of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Region:
    """Rows `top` to `top + height` and columns `left` to `left + width` of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The same as slices over rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
