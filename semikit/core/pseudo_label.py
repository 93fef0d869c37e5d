"""Pseudo-labels: what a network believes at each position, and how firmly."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def pseudo_label(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K, *S) -> labels (B, *S) int64 and confidence (B, *S) in 0..1, the largest softmax probability.

    The largest probability is 1 / sum(exp(logits - largest)), so that one maximum serves both. At least float32, also
    under autocast.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    largest, labels = logits.max(dim=1, keepdim=True)
    confidence = (logits - largest).exp_().sum(dim=1).reciprocal_()
    return labels.squeeze(1), confidence
