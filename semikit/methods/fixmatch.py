"""FixMatch (Sohn et al. 2020), the baseline of UniMatch V2: one strong view learns from the weak one."""

from __future__ import annotations

from typing import final

from semikit.core.batch import Labeled, Pseudo, Requirements, StepResult, Unlabeled
from semikit.core.consistency import ConsistencySettings
from semikit.core.labeling import LabelingMethod, LabelingSettings
from semikit.core.student_views import student_pass
from semikit.settings.base import Settings


@final
class FixMatchConfig(ConsistencySettings, LabelingSettings):
    """Settings of FixMatch; with distribution alignment where `alignment` is set."""


@final
class FixMatch(LabelingMethod):
    """Confident pseudo-labels of the weak view teach one strong view (paper eq. 1-5)."""

    Config = FixMatchConfig
    config: FixMatchConfig

    @classmethod
    def requirements(cls, config: Settings) -> Requirements:
        """One strong view."""
        return Requirements(strong_views=1)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The labelled loss and the strong view's (eq. 4)."""
        assert unlabeled is not None
        assert pseudo is not None
        mode = self.config.forward
        pred_labeled, pred_weak, (pred_strong,) = student_pass(self.student, labeled, unlabeled, forward=mode)
        pseudo = self.labeled_by(pred_weak, pred_labeled, pseudo, unlabeled, labeled)
        loss_x = self.labeled_loss(pred_labeled, labeled)
        loss_u = self.emphasis.loss(pred_strong, pseudo.views[0])
        return self.emphasis.result(loss_x, loss_u, labeled, pseudo.weak)


plugin = FixMatch
