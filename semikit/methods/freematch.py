"""FreeMatch (Wang et al. 2023): a threshold for each class that follows the confidence, and a loss for fair classes.

Tasks: seg, cd, cls
Paper: arXiv 2205.07246
Cost: 1.1
For: very few labels, and no threshold to choose
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from semikit.core.batch import Requirements, RunInfo, Target
from semikit.core.counts import class_counts
from semikit.core.method import Variant
from semikit.core.network import Network
from semikit.core.pseudo_labels import probabilities_of
from semikit.core.settings import RENAMED_LABELS, JointSettings
from semikit.core.thresholds import FreeThreshold
from semikit.distributed.collectives import learned_sum_over_processes, sum_over_processes
from semikit.methods.fixmatch import FixMatch

_SMALLEST = 1e-12


@final
class FreeMatchConfig(JointSettings):
    """Settings of FreeMatch."""

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS

    momentum: float = Field(default=0.999, ge=0, lt=1)
    """What the threshold and the averages it is made of keep of themselves at each step (0..1)."""
    quantile: float | None = Field(default=None, ge=0, le=1)
    """The threshold follows this quantile of the confidence (0..1; 0.8 in USB); null: its mean (eq. 5)."""
    cap: float | None = Field(default=None, ge=0, le=1)
    """The threshold grows no further (0..1; 0.95 for SVHN in the paper); null: it may."""
    fairness: float = Field(default=0.01, ge=0)
    """Weight of the loss that keeps the classes apart (eq. 9-11); 0: none."""


def freematch(network: Network, config: FreeMatchConfig, run_info: RunInfo) -> FixMatch:
    """FixMatch with a self-adaptive threshold, and the loss of fairness (Algorithm 1, eq. 12)."""
    threshold = FreeThreshold(run_info.num_classes, config.momentum, config.quantile, config.cap)

    def fair(logits: Tensor, target: Target) -> dict[str, Tensor]:
        return {"loss_fair": config.fairness * fairness(logits, target, threshold.probability, threshold.share)}

    return FixMatch(network, config, run_info, threshold, extra_loss=fair if config.fairness else None)


def fairness(logits: Tensor, target: Target, probability: Tensor, share: Tensor) -> Tensor:
    """Negative cross-entropy between the classes as they usually come and as they come in this batch, () (eq. 9-11).

    Logits (B, K, *S) of the strong view; only positions that count enter, without any the loss is 0. Usual
    mean `probability` (K,) and `share` (K,) of the pseudo-labels; both sides are probabilities relative to shares, so
    that a class is not favoured for being common. Taken over the images of all processes.
    """
    soft, counts = probabilities_of(logits), target.weights
    total = sum_over_processes(counts.sum())
    summed = (soft * counts.unsqueeze(1)).reshape(*soft.shape[:2], -1).sum(dim=(0, 2))
    mean = learned_sum_over_processes(summed) / total.clamp(min=1)
    found = sum_over_processes(class_counts(soft.detach().argmax(dim=1), counts, len(share)))
    usual, here = _relative(probability, share), _relative(mean, found / total.clamp(min=1))
    return torch.where(total > 0, (usual * (here + _SMALLEST).log()).sum(), 0.0)


def _relative(probability: Tensor, share: Tensor) -> Tensor:
    """Probability (K,) over share (K,), 0 for a class that does not come, summing to 1."""
    ratio = torch.where(share > 0, probability / torch.where(share > 0, share, 1.0), 0.0)
    return ratio / ratio.sum().clamp(min=_SMALLEST)


plugin = Variant(
    FixMatch,
    FreeMatchConfig,
    freematch,
    Requirements(strong_views=1),
    full_batch=lambda config: config.joint or config.fairness > 0,  # fairness is a loss over the whole batch
)
