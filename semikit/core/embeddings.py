"""Features of a pass beside its logits: those that are classified, and those that are compared with one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semikit.core.draws import torch_seeded
from semikit.core.network import Network


def projection(inputs: int, width: int, count: int, seed: int) -> nn.Module:
    """What makes features (B, width) that are compared out of those (B, inputs) that are classified: two layers, or the
    mean of `count` such (EPASS, Nguyen 2024).
    """
    with torch_seeded(seed, "projection"):
        each = [nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, width)) for _ in range(count)]
    return each[0] if count == 1 else _Mean(each)


@final
class _Mean(nn.ModuleList):
    """The mean of what several modules make of an input."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([module(inputs) for module in self]).mean(dim=0)


def classified(network: Network, *images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Logits (B_i, K) and the features (B_i, D) they are of, of several lists of images, from one call."""
    logits, embedding = _pass(network, images)
    return _parts(images, logits, embedding)


def embedded(network: Network, projection: nn.Module, *images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Logits (B_i, K) and features (B_i, width) of length 1 of several lists of images, from one call."""
    logits, embedding = _pass(network, images)
    return _parts(images, logits, F.normalize(projection(embedding).float(), dim=1))


def _pass(network: Network, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    encoded = network.encode(torch.cat(list(images)))
    embedding = network.embed(encoded)
    return network.classify(embedding, encoded.size), embedding


def _parts(images: Sequence[Tensor], logits: Tensor, features: Tensor) -> list[tuple[Tensor, Tensor]]:
    sizes = [len(part) for part in images]
    return list(zip(torch.split(logits, sizes), torch.split(features, sizes), strict=True))
