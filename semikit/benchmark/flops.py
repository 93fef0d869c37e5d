"""Floating point operations of a step, and what share of a device's peak they are."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from semikit.benchmark.plain_network import explicit_attention
from semikit.core.network import Network

PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0}
"""Dense bf16 TFLOP/s of the makers' data sheets, by a part of the device's name (SXM forms)."""


@final
@dataclass(frozen=True, slots=True)
class Peak:
    """What a device can do at best, TFLOP/s, and who says so."""

    tflops: float
    source: str


def peak_of(device: str, given: float | None) -> Peak | None:
    """The peak that was given, else that of a known device by its name; None: not known."""
    if given is not None:
        return Peak(given, "given")
    found = next((name for name in PEAKS if name in device), None)
    return None if found is None else Peak(PEAKS[found], f"nominal, bf16 dense, {found}")


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
