"""Attention between channels: those of a level are made anew out of channels of the same or of other images.

Source: Wang et al. 2024, AllSpark, arXiv 2403.01818, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-5
"""As released: of the variance of products."""
_SCALE = 1 / 16
"""Of queries, so that sums over hundreds of positions fit 16 bits; the variance takes it out again."""


@final
class ChannelAttention(nn.Module):
    """For each channel of an image a sum of channels, weighed by how alike they are over the positions.

    With heads `apart` the channels of a head see those of the same head alone; else those of all heads see one another.
    """

    def __init__(self, width: int, heads: int, apart: bool = False) -> None:
        super().__init__()
        self.groups = heads if apart else 1
        self.query, self.key, self.value = (nn.Linear(width, width * heads, bias=False) for _ in range(3))
        self.out = nn.Linear(width * heads, width, bias=False)
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, places: Tensor, sources: Tensor) -> Tensor:
        """Channels (B, N, D) at N positions, out of those of R `sources` (B, R, N, D), or of one list for all images
        (1, R, N, D) -> (B, N, D).
        """
        query = self._channels(self.query(places).unsqueeze(1))
        key, value = self._channels(self.key(sources)), self._channels(self.value(sources))
        mixed = attended(query, key, value)
        return self.out(mixed.permute(0, 3, 2, 1).flatten(2))  # type: ignore[no-any-return]

    def _channels(self, projected: Tensor) -> Tensor:
        """(B, R, N, heads · D) -> (B, groups, channels of all R, N)."""
        return projected.view(*projected.shape[:-1], self.groups, -1).permute(0, 3, 1, 4, 2).flatten(2, 3)


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Queries (B, G, M, N), keys and values (B or 1, G, L, N) -> (B, G, M, N).

    Products are divided by their own deviation over all pairs of an image: an instance norm, of which a softmax does
    not see the mean.
    """
    products = (query * _SCALE @ key.transpose(-1, -2)).float()
    variance = products.var(dim=(-2, -1), unbiased=False, keepdim=True)
    weights = (products * (variance + _EPSILON * _SCALE**2).rsqrt()).softmax(dim=-1)
    return weights.to(value.dtype) @ value


Attend = Callable[[Tensor, ChannelAttention], Tensor]
"""Channels (B, N, D), normalised, and the attention of a network -> what is added to them, (B, N, D)."""


def to_itself(places: Tensor, attention: ChannelAttention) -> Tensor:
    """Channels of each image out of its own, as everything is predicted."""
    return attention(places, places.unsqueeze(1))  # type: ignore[no-any-return]


@final
class Bottleneck(nn.Module):
    """A level of an encoder whose channels attend before it is decoded: (B, inputs, h, w) -> the same shape.

    `width` channels attend; `reduction` is how many pixels of the images a position spans.
    """

    def __init__(self, inputs: int, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.width, self.heads, self.reduction = width, heads, reduction
        self.inward, self.outward = nn.Linear(inputs, width), nn.Linear(width, inputs)
        self.norm, self.norm_out = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = ChannelAttention(width, heads)

    def forward(self, level: Tensor, attend: Attend | None = None) -> Tensor:
        """A level (B, inputs, h, w) -> the same shape; `attend` says what the channels are made of, in training."""
        places = F.gelu(self.inward(level.flatten(2).transpose(1, 2)))
        places = places + (attend or to_itself)(self.norm(places), self.attention)
        return F.gelu(self.outward(self.norm_out(places))).transpose(1, 2).reshape(level.shape)
