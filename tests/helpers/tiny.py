"""A tiny network and batches for it: for pixels, or for whole images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semikit.core.batch import Labeled, Normalise, Requirements, RunInfo, Unlabeled, WeakViews
from semikit.core.channel_attention import Bottleneck
from semikit.core.losses import denominators
from semikit.core.method import Method
from semikit.core.mixing import partners
from semikit.core.network import Features, Network
from semikit.registry import METHODS

SIDE = 12


class TinyNetwork(Network):
    """Two levels of 6 and `last` channels."""

    def __init__(
        self,
        num_classes: int = 3,
        pixels: bool = True,
        batch_norm: bool = False,
        last: int = 6,
        channel_attention: bool = False,
    ) -> None:
        super().__init__()
        self.widths, self.embed_dim, self.num_classes, self.multiple = (6, last), 5, num_classes, 4
        self.pixels = pixels
        self.first = nn.Conv2d(3, 6, 3, 2, 1)
        self.second = nn.Conv2d(6, last, 3, 2, 1)
        self.norm = nn.BatchNorm2d(6) if batch_norm else nn.Identity()
        self.neck = nn.Linear(6 + last, 5)
        self.head = nn.Linear(5, num_classes)
        self.bottleneck = Bottleneck(last, 4, heads=2, reduction=4) if channel_attention else None

    def encode(self, images: Tensor) -> Features:
        fine = self.norm(self.first(images)).tanh()
        levels = (fine, self.second(fine).tanh())
        size = (images.shape[-2], images.shape[-1])
        return Features(levels if self.pixels else tuple(level.mean((-2, -1)) for level in levels), size)

    def embed(self, features: Features) -> Tensor:
        fine, coarse = features.levels
        if not self.pixels:
            vectors: Tensor = self.neck(torch.cat([fine, coarse], 1))
            return vectors.tanh()
        if self.bottleneck is not None:
            coarse = self.bottleneck(coarse, features.attend)
        joined = torch.cat([fine, F.interpolate(coarse, fine.shape[-2:])], 1)
        embedding: Tensor = self.neck(joined.movedim(1, -1))
        return embedding.movedim(-1, 1).tanh()

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        logits: Tensor = self.head(embedding if not self.pixels else embedding.movedim(1, -1))
        if not self.pixels:
            return logits
        return F.interpolate(logits.movedim(-1, 1), size, mode="bilinear", align_corners=True)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return [*self.first.parameters(), *self.second.parameters()]


def network(seed: int = 0, scale: float = 8.0, **options: Any) -> TinyNetwork:
    """A network from a seed; `scale` makes some of its predictions confident."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = TinyNetwork(**options)
    with torch.no_grad():
        made.head.weight.mul_(scale)
    return made


def one_run(names: Sequence[str]) -> list[Any]:
    """Names of methods to try; those that take several runs are long."""
    several = [name for name in names if METHODS.get(name).rounds(METHODS.get(name).Config())]
    return [pytest.param(name, marks=pytest.mark.long) if name in several else name for name in names]


def networks(requirements: Requirements, **options: Any) -> list[TinyNetwork]:
    """As many students as a method asks for."""
    options["channel_attention"] = requirements.channel_attention
    return [network(seed, **options) for seed in range(requirements.students)]


def run_info(num_classes: int = 3, group: int = 2, normalise: Normalise = "total", iterations: int = 100) -> RunInfo:
    return RunInfo(num_classes, 4, 8, 2, iterations, group, seed=3, normalise=normalise, side=SIDE)


def method(name: str = "fixmatch", num_classes: int = 3, iterations: int = 100, **settings: Any) -> Method:
    """A method that learns from unlabelled images, on a tiny network."""
    plugin: Any = METHODS.get(name)
    config = plugin.Config(**settings)
    requirements = plugin.requirements(config)
    first, *peers = networks(requirements, num_classes=num_classes, pixels=not requirements.whole_images)
    learned: Method = plugin(first, config, run_info(num_classes, iterations=iterations), *peers)
    return learned


def batch(
    run_info: RunInfo,
    requirements: Requirements,
    size: int = 4,
    pixels: bool = True,
    all_invalid: bool = False,
    seed: int = 0,
) -> tuple[Labeled, Unlabeled | None]:
    """`size` labelled and as many unlabelled images, some positions invalid."""
    generator = torch.Generator().manual_seed(seed)
    shape = (size, SIDE, SIDE) if pixels else (size,)

    def images() -> Tensor:
        return torch.randn(size, 3, SIDE, SIDE, generator=generator)

    def valid() -> Tensor:
        return torch.zeros(shape, dtype=torch.bool) if all_invalid else torch.rand(shape, generator=generator) > 0.2

    is_valid = valid()
    labels = torch.where(is_valid, torch.randint(run_info.num_classes, shape, generator=generator), 0)
    denominator = denominators(is_valid, run_info.group, run_info.normalise)
    labeled = Labeled(images(), labels, is_valid, torch.arange(size), denominator)
    if not requirements.unlabeled:
        return labeled, None
    boxed = requirements.strong_views if pixels and not requirements.own_mixing else 0
    boxes = tuple(torch.rand(shape, generator=generator) > 0.6 for _ in range(boxed))
    unlabeled = Unlabeled(
        weak=images(),
        strong=tuple(images() for _ in range(requirements.strong_views)),
        valid=valid(),
        boxes=boxes,
        partner=partners(size, run_info.group),
        index=torch.arange(size),
        positions=range(size),
        partner_batch=WeakViews(images(), valid()) if requirements.partner_batch else None,
    )
    return labeled, unlabeled
