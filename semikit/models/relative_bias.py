"""Relative position bias of BEiT for any grid."""

from __future__ import annotations

from typing import Any, Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional

_EXTRA = 3  # class token to patch, patch to class token, class token to itself


@final
class RelativeBias(nn.Module):
    """A table over the distances of a window (2h-1)(2w-1) + 3, by head -> a bias (1, heads, 1 + N, 1 + N).

    Distances of another grid are read from the table by bilinear interpolation, as in the dense-prediction models
    built on BEiT; the native grid is read as it is.
    """

    def __init__(self, table: nn.Parameter, window: tuple[int, int]) -> None:
        super().__init__()
        self.table = table
        self.window = window

    @classmethod
    def taken_from(cls, owner: Any) -> Self | None:
        """The table of a timm module, which forgets it, as its bias is given from outside then; None without one."""
        if owner is None or owner.relative_position_bias_table is None:
            return None
        bias = cls(owner.relative_position_bias_table, tuple(owner.window_size))
        owner.relative_position_bias_table = None
        owner.relative_position_index = None
        return bias

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """The bias for images of `grid` patches."""
        spans = (2 * grid[0] - 1, 2 * grid[1] - 1)
        index = _index(grid, self.table.device)
        table = torch.cat((self._resampled(spans), self.table[-_EXTRA:]))
        return table[index].permute(2, 0, 1)[None]

    def _resampled(self, spans: tuple[int, int]) -> Tensor:
        """Distances of the wanted grid (spans[0] * spans[1], heads)."""
        native = (2 * self.window[0] - 1, 2 * self.window[1] - 1)
        if spans == native:
            return self.table[:-_EXTRA]
        plane = self.table[:-_EXTRA].float().T.reshape(1, -1, *native)
        plane = functional.interpolate(plane, size=spans, mode="bilinear", align_corners=False)
        return plane[0].flatten(1).T.to(self.table.dtype)


def _index(grid: tuple[int, int], device: torch.device) -> Tensor:
    """Rows of the table (1 + N, 1 + N): patch to patch by distance, then the three rows of the class token."""
    height, width = grid
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    down = rows[:, None] - rows[None] + height - 1
    right = columns[:, None] - columns[None] + width - 1
    last = (2 * height - 1) * (2 * width - 1)
    index = functional.pad(down * (2 * width - 1) + right, (1, 0, 0, 0), value=last + 1)
    index = functional.pad(index, (0, 0, 1, 0), value=last)
    corner = functional.pad(torch.ones(1, 1, dtype=index.dtype, device=device), (0, height * width, 0, height * width))
    return index + 2 * corner
