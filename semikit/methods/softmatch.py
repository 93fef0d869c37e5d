"""SoftMatch (Chen et al. 2023): every pseudo-label counts, the less the further its confidence lies below the mean."""

from __future__ import annotations

from typing import final

from pydantic import Field

from semikit.core.alignment import Kind
from semikit.core.batch import Labeled, Pseudo, Requirements, StepResult, Unlabeled
from semikit.core.labeling import JointSettings, LabelingMethod
from semikit.core.student_views import student_pass
from semikit.core.thresholds import SoftWeights
from semikit.settings.base import Settings


@final
class SoftMatchConfig(JointSettings):
    """Settings of SoftMatch. Alignment (uniform, eq. 8) changes how much a label counts, not the label."""

    alignment: Kind = "ema"
    """Distribution alignment: none, by a queue of the last steps, or by a moving average (ema)."""
    momentum: float = Field(default=0.999, ge=0, lt=1)
    """What mean and variance of the confidence keep of themselves at each step (0..1)."""
    deviations: float = Field(default=2.0, gt=0)
    """The Gaussian is this many times narrower than the confidence is spread."""


@final
class SoftMatch(LabelingMethod):
    """A truncated Gaussian of the confidence weighs the pseudo-labels (Algorithm 1)."""

    Config = SoftMatchConfig
    config: SoftMatchConfig
    aligned_labels = False

    @classmethod
    def requirements(cls, config: Settings) -> Requirements:
        """One strong view."""
        return Requirements(strong_views=1)

    def threshold(self) -> SoftWeights:
        """The Gaussian."""
        return SoftWeights(self.run_info.num_classes, self.config.momentum, self.config.deviations)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The labelled loss and the strong view's (eq. 2, 3)."""
        assert unlabeled is not None
        assert pseudo is not None
        mode = self.config.forward
        pred_labeled, pred_weak, (pred_strong,) = student_pass(self.student, labeled, unlabeled, forward=mode)
        pseudo = self.labeled_by(pred_weak, pred_labeled, pseudo, unlabeled, labeled)
        loss_x = self.labeled_loss(pred_labeled, labeled)
        loss_u = self.emphasis.loss(pred_strong, pseudo.views[0])
        return self.emphasis.result(loss_x, loss_u, labeled, pseudo.weak)


plugin = SoftMatch
