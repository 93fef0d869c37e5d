"""Batch norm: whose images its running statistics describe.

A network with batch norm predicts with running statistics, and a moving average of what training saw is not what it
predicts on: images are enlarged and cut in training, and strong views have other colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

BatchNorm: TypeAlias = nn.modules.batchnorm._BatchNorm
"""Layers in which an image's output depends on the others of its call, in training mode."""


def batch_norms(network: nn.Module) -> list[BatchNorm]:
    """The layers of batch norm in a network."""
    return [module for module in network.modules() if isinstance(module, BatchNorm)]


def has_batch_norm(network: nn.Module) -> bool:
    """Whether an image's output depends on the other images of its call in training mode."""
    return bool(batch_norms(network))


@contextmanager
def unrecorded(network: nn.Module, really: bool = True) -> Iterator[None]:
    """Passes through a network in training mode that leave its running statistics alone; images are normalised by
    their batch as ever.
    """
    norms = batch_norms(network) if really else []
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def restored_statistics(networks: Iterable[nn.Module]) -> Iterator[None]:
    """The running statistics of the networks; on leaving they are as they were."""
    buffers = [buffer for network in networks for norm in batch_norms(network) for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, values in zip(buffers, before, strict=True):
            buffer.copy_(values)


@torch.no_grad()
def reestimate(networks: Sequence[nn.Module], passes: Iterable[int]) -> None:
    """Take the running statistics of batch norm anew from whole passes (precise batch norm, Wu and Johnson 2021,
    section 3): the mean over images of what a batch has, with the variance between batches.

    Each item of `passes` is asked for once and sends so many images through every network, which are in eval mode but
    for their batch norm, in one call or in several (windows). Nothing changes for fewer than two images.
    """
    norms = [norm for network in networks for norm in batch_norms(network)]
    if not norms:
        return
    found = [_Moments(norm) for norm in norms]
    hooks = [norm.register_forward_hook(moments.seen) for norm, moments in zip(norms, found, strict=True)]
    momenta, count = [norm.momentum for norm in norms], 0
    with restored_statistics(networks):
        try:
            for norm in norms:
                norm.momentum = 1.0
                norm.train()
            for images in passes:
                count += images
                for moments in found:
                    moments.of_images(images)
        finally:
            for norm, momentum, hook in zip(norms, momenta, hooks, strict=True):
                hook.remove()
                norm.momentum = momentum
                norm.eval()
    if count > 1:
        for moments in found:
            moments.write(count)


@final
class _Moments:
    """Mean and mean square of what a batch norm gets, summed over images, (2, C) float64 on the host."""

    def __init__(self, norm: BatchNorm) -> None:
        self.norm = norm
        self.calls: list[Tensor] = []
        self.total = torch.zeros(())

    def seen(self, *_: object) -> None:
        """After a call, when the running statistics are those of its batch."""
        mean, variance = (values.cpu().double() for values in _running(self.norm))
        self.calls.append(torch.stack([mean, variance + mean**2]))

    def of_images(self, images: int) -> None:
        """The calls since the last time were made for so many images."""
        if self.calls:
            self.total = self.total + torch.stack(self.calls).mean(0) * images
        self.calls = []

    def write(self, count: int) -> None:
        """The running statistics are those of `count` images; of a layer that was not used they stay."""
        if self.total.dim():
            mean, square = self.total / count
            running_mean, running_var = _running(self.norm)
            running_mean.copy_(mean)
            running_var.copy_(square - mean**2)


def _running(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var
