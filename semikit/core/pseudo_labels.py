"""Pseudo-labels: what a network believes at each position, and how firmly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, slots=True)
class Prediction:
    """labels (B, *S) int64, confidence (B, *S) in 0..1 and, where somebody needs them, probabilities (B, K, *S)."""

    labels: Tensor
    confidence: Tensor
    probabilities: Tensor | None = None


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


def probabilities_of(logits: Tensor) -> Tensor:
    """Softmax of logits (B, K, *S) over the classes; at least float32, also under autocast."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=1)


def sharpened(probabilities: Tensor, temperature: float) -> Tensor:
    """Probabilities (B, K, *S) to the power of 1 / temperature, summing to 1 again; 1: as they are.

    The same as a softmax of logits divided by the temperature.
    """
    if temperature == 1:
        return probabilities
    # Relative to the largest: otherwise all of them may underflow.
    raised = (probabilities / probabilities.amax(dim=1, keepdim=True)).pow(1 / temperature)
    return raised / raised.sum(dim=1, keepdim=True)
