"""CutMix-Seg (French et al. 2020): the student sees a mixed image as the EMA teacher sees its two parts.

Tasks: seg, cd
Paper: arXiv 1906.01916
Cost: 1.0
For: colours that must not be changed, as measured bands, or that tell the classes apart
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, final

from pydantic import Field
from torch import Tensor

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Target, Unlabeled
from semikit.core.losses import UnlabeledLoss, loss_weights, masked_squared_error
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits
from semikit.core.settings import UnlabeledSettings
from semikit.core.student_views import check_forward, student_views
from semikit.core.thresholds import FixedThreshold
from semikit.distributed.collectives import process_count, sum_over_processes


@final
class CutMixSegConfig(UnlabeledSettings):
    """Settings of CutMix-Seg, as published; the recipes of the tasks leave colours as they are (`views.strong`)."""

    threshold: float = Field(default=0.97, ge=0, le=1)
    """The loss is weighed by the share of positions with at least this confidence (0..1); 0: all."""
    loss: Literal["released", "paper"] = "paper"
    """paper: labelled + λ · unlabelled; released: that divided by 1 + λ, as UniMatch's segmentation code does."""
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    """What the teacher keeps of itself at each step (0..1)."""
    forward: Literal["auto", "fused", "separate"] = "auto"
    """How images pass through the student: auto, fused or separate."""


@final
class CutMixSeg(Method):
    """Mean Teacher with CutMix (section 3.3): squared differences of probabilities at all positions, weighed by how
    many of them the teacher is sure of.
    """

    Config = CutMixSegConfig
    config: CutMixSegConfig

    @classmethod
    def requirements(cls, config: CutMixSegConfig) -> Requirements:
        """One strong view, which is mixed."""
        return Requirements(strong_views=1, pixels=True)

    def __init__(self, network: Network, config: CutMixSegConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        threshold = FixedThreshold(config.threshold)
        self.rule = PseudoLabelRule(run_info, threshold, soft_labels=1.0, class_balance=config.class_balance)

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """The label source's probabilities, mixed as the images are."""
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        pseudo = self.rule(predict_logits(self.label_source, unlabeled.weak, self.label_pass), unlabeled)
        (target,) = pseudo.views
        return replace(pseudo, views=(replace(target, weights=target.valid * _confident_share(target)),))

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss and that of the mixed images, summed over the classes."""
        assert unlabeled is not None
        assert pseudo is not None
        config, (target,) = self.config, pseudo.views
        pred = student_views(self.student, labeled, unlabeled, config.forward, statistics=config.batch_norm)
        loss_x = self.supervised_loss(pred.labeled, labeled)
        assert target.probabilities is not None
        mask = loss_weights(target)
        apart = masked_squared_error(pred.strong[0], target.probabilities, mask, target.denominator)
        return self.unlabeled_loss.combine(loss_x, apart * self.run_info.num_classes, labeled, pseudo.weak)


def _confident_share(target: Target) -> Tensor:
    """How much of the valid positions of the total batch is confident, ()."""
    summed = (target.weights.reshape(len(target.weights), -1).sum(dim=1) / target.denominator).sum()
    return sum_over_processes(summed) / process_count()


plugin = CutMixSeg
