"""Floating point operations of a step, counted on shapes alone."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.step.plain_network import explicit_attention
from semikit.core.network import Network


def step_flops(network: Network, shape: tuple[int, ...], teacher: int, student: int) -> int:
    """Operations of a step, 2 for a multiplication and an addition: `teacher` images forward, `student` images forward
    and backward, each of `shape` (C, H, W) or (2, C, H, W).

    Counted on shapes alone, with attention as two products, so what a kernel computes a second time does not count.
    The rest of a step (normalisation, losses, optimiser, average) is not matrix products and is left out.
    """
    meta = explicit_attention(deepcopy(network)).to("meta").train()
    count = 0
    for images, learns in ((teacher, False), (student, True)):
        if images:
            count += _counted(meta, torch.empty(images, *shape, device="meta"), learns)
    return count


def _counted(network: Network, images: Tensor, learns: bool) -> int:
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(learns):
        logits = network(images)
        if learns:
            logits.sum().backward()
    return int(counter.get_total_flops())
