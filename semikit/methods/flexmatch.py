"""FlexMatch (Zhang et al. 2021): FixMatch whose threshold is lower for classes that are learned less."""

from __future__ import annotations

from typing import final

from semikit.core.batch import Labeled, Pseudo, Requirements, StepResult, Unlabeled
from semikit.core.consistency import ConsistencySettings
from semikit.core.labeling import JointSettings, LabelingMethod
from semikit.core.student_views import student_pass
from semikit.core.thresholds import FlexThreshold
from semikit.settings.base import Settings


@final
class FlexMatchConfig(JointSettings, ConsistencySettings):
    """Settings of FlexMatch; `threshold` is that of the class learned best."""

    warmup: bool = True
    """Whether all thresholds begin at 0 and rise as images are labelled (eq. 11); false: relative to the best class."""


@final
class FlexMatch(LabelingMethod):
    """Curriculum pseudo-labelling (Algorithm 1): the label each unlabelled image got last is remembered."""

    Config = FlexMatchConfig
    config: FlexMatchConfig

    @classmethod
    def requirements(cls, config: Settings) -> Requirements:
        """One strong view of whole images."""
        return Requirements(strong_views=1, whole_images=True, every_image=True)

    def threshold(self) -> FlexThreshold:
        """The thresholds of the classes."""
        run_info, config = self.run_info, self.config
        assert run_info.num_unlabeled is not None, run_info
        return FlexThreshold(run_info.num_classes, run_info.num_unlabeled, config.threshold, config.warmup)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The labelled loss and the strong view's (eq. 8, 9)."""
        assert unlabeled is not None
        assert pseudo is not None
        mode = self.config.forward
        pred_labeled, pred_weak, (pred_strong,) = student_pass(self.student, labeled, unlabeled, forward=mode)
        pseudo = self.labeled_by(pred_weak, pred_labeled, pseudo, unlabeled, labeled)
        loss_x = self.labeled_loss(pred_labeled, labeled)
        loss_u = self.emphasis.loss(pred_strong, pseudo.views[0])
        return self.emphasis.result(loss_x, loss_u, labeled, pseudo.weak)


plugin = FlexMatch
