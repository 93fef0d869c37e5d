"""Many small tensors as a few vectors: one operation instead of one for each of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def flat(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The values of all tensors, of any shapes, as one new vector for each of their types (in order of appearance)."""
    return [torch.cat([tensor.flatten() for tensor in group]) for group in _by_type(tensors)]


def spread(vectors: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Write vectors, as `flat(tensors)` gives them, back into the tensors."""
    for vector, group in zip(vectors, _by_type(tensors), strict=True):
        pieces = torch.split(vector, [tensor.numel() for tensor in group])
        torch._foreach_copy_(group, [piece.view(tensor.shape) for piece, tensor in zip(pieces, group, strict=True)])


def own_shards(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Of tensors that are shared out over processes this process's shards, which share their memory; others as they
    are. Without gradient.
    """
    with torch.no_grad():
        return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]


def _by_type(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())
