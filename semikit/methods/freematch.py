"""FreeMatch (Wang et al. 2023): a threshold for each class that follows the confidence, and a loss for fair classes."""

from __future__ import annotations

from typing import final

import torch
from pydantic import Field
from torch import Tensor

from semikit.core.batch import Labeled, Pseudo, Requirements, StepResult, Target, Unlabeled
from semikit.core.labeling import JointSettings, LabelingMethod
from semikit.core.pseudo_labels import probabilities_of
from semikit.core.student_views import student_pass
from semikit.core.thresholds import FreeThreshold
from semikit.distributed.collectives import learned_sum_over_processes, sum_over_processes
from semikit.settings.base import Settings

_SMALLEST = 1e-12


@final
class FreeMatchConfig(JointSettings):
    """Settings of FreeMatch."""

    momentum: float = Field(default=0.999, ge=0, lt=1)
    """What the threshold and the averages it is made of keep of themselves at each step (0..1)."""
    quantile: float | None = Field(default=None, ge=0, le=1)
    """The threshold follows this quantile of the confidence (0..1; 0.8 in USB); null: its mean (eq. 5)."""
    cap: float | None = Field(default=None, ge=0, le=1)
    """The threshold grows no further (0..1; 0.95 for SVHN in the paper); null: it may."""
    fairness: float = Field(default=0.01, ge=0)
    """Weight of the loss that keeps the classes apart (eq. 9-11); 0: none."""


@final
class FreeMatch(LabelingMethod):
    """Self-adaptive threshold and fairness (Algorithm 1)."""

    Config = FreeMatchConfig
    config: FreeMatchConfig

    @classmethod
    def requirements(cls, config: Settings) -> Requirements:
        """One strong view."""
        return Requirements(strong_views=1)

    @classmethod
    def needs_full_batch(cls, config: Settings) -> bool:
        """Also where fairness is a loss over the whole batch."""
        assert isinstance(config, FreeMatchConfig)
        return config.joint or config.fairness > 0

    def threshold(self) -> FreeThreshold:
        """The thresholds of the classes."""
        config = self.config
        return FreeThreshold(self.run_info.num_classes, config.momentum, config.quantile, config.cap)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The labelled loss, the strong view's, and fairness (eq. 12)."""
        assert unlabeled is not None
        assert pseudo is not None
        mode = self.config.forward
        pred_labeled, pred_weak, (pred_strong,) = student_pass(self.student, labeled, unlabeled, forward=mode)
        pseudo = self.labeled_by(pred_weak, pred_labeled, pseudo, unlabeled, labeled)
        loss_x = self.labeled_loss(pred_labeled, labeled)
        loss_u = self.emphasis.loss(pred_strong, pseudo.views[0])
        if not self.config.fairness:
            return self.emphasis.result(loss_x, loss_u, labeled, pseudo.weak)
        adaptive = self.labeling.threshold
        assert isinstance(adaptive, FreeThreshold)
        loss_fair = fairness(pred_strong, pseudo.views[0], adaptive.probability, adaptive.share)
        return self.emphasis.result(loss_x, loss_u, labeled, pseudo.weak, loss_fair=self.config.fairness * loss_fair)


def fairness(logits: Tensor, target: Target, probability: Tensor, share: Tensor) -> Tensor:
    """Negative cross-entropy between the classes as they usually come and as they come in this batch, () (eq. 9-11).

    Logits (B, K, *S) of the strong view; only positions that count are looked at, without any the loss is 0. Usual
    mean `probability` (K,) and `share` (K,) of the pseudo-labels; both sides are probabilities relative to shares, so
    that a class is not favoured for being common. Taken over the images of all processes.
    """
    assert target.weights is not None
    soft, counts = probabilities_of(logits), target.weights
    total = sum_over_processes(counts.sum())
    summed = (soft * counts.unsqueeze(1)).reshape(*soft.shape[:2], -1).sum(dim=(0, 2))
    mean = learned_sum_over_processes(summed) / total.clamp(min=1)
    found = torch.zeros_like(share).scatter_add(0, soft.detach().argmax(dim=1).flatten(), counts.flatten())
    found = sum_over_processes(found)
    usual, here = _relative(probability, share), _relative(mean, found / total.clamp(min=1))
    return torch.where(total > 0, (usual * (here + _SMALLEST).log()).sum(), 0.0)


def _relative(probability: Tensor, share: Tensor) -> Tensor:
    """Probability (K,) over share (K,), 0 for a class that does not come, summing to 1."""
    ratio = torch.where(share > 0, probability / torch.where(share > 0, share, 1.0), 0.0)
    return ratio / ratio.sum().clamp(min=_SMALLEST)


plugin = FreeMatch
