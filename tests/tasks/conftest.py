from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from semikit.core.network import Features, Network


class Pointwise(Network):
    """A 1x1 convolution over normalised pixels; remembers the sizes of the images it saw."""

    def __init__(self, multiple: int = 14, num_classes: int = 3, channels: int = 3) -> None:
        super().__init__()
        self.widths, self.embed_dim, self.num_classes, self.multiple = (channels,), channels, num_classes, multiple
        self.mean, self.std = (0.4,) * channels, (0.2,) * channels
        weight = torch.randn(num_classes, channels, 1, 1, generator=torch.Generator().manual_seed(2))
        self.weight = nn.Parameter(weight)
        self.seen: list[tuple[int, ...]] = []

    def encode(self, images: Tensor) -> Features:
        assert not images.shape[-2] % self.multiple
        assert not images.shape[-1] % self.multiple
        self.seen.append(tuple(images.shape))
        return Features((images,), (images.shape[-2], images.shape[-1]))

    def embed(self, features: Features) -> Tensor:
        return features.levels[0]

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        return nn.functional.conv2d(embedding, self.weight)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return []


@pytest.fixture(scope="session")
def pointwise() -> Callable[..., Pointwise]:
    """Makes networks that look at each pixel alone."""
    return Pointwise
