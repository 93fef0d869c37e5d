"""Memory with a place for each image of a list: N rows and a last one that nobody reads."""

from __future__ import annotations

import torch
from torch import Tensor


def places(index: Tensor, chosen: Tensor, size: int) -> Tensor:
    """Where each image of a step is written, (B,) int64: its number `index`, or `size` where it is not `chosen`.

    An image that comes more than once is written once, the last time it is chosen, so that the order in which a device
    writes does not matter.
    """
    aimed = torch.where(chosen, index, size)
    order = torch.arange(1, len(index) + 1, device=index.device)
    last = torch.zeros(size + 1, dtype=torch.long, device=index.device).scatter_reduce_(0, aimed, order, "amax")
    return torch.where(last.gather(0, aimed) == order, aimed, size)
