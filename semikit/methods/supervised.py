"""Labelled images only: the baseline every semi-supervised method has to beat."""

from __future__ import annotations

from typing import final

from semikit.core.batch import Labeled, Pseudo, Requirements, StepResult, Unlabeled
from semikit.core.teaching import StudentTeacher, TeachingSettings
from semikit.settings.base import Settings


@final
class SupervisedConfig(TeachingSettings):
    """Settings of the labelled-only baseline."""


@final
class Supervised(StudentTeacher):
    """Cross-entropy on labelled images; the teacher is kept for evaluation only."""

    Config = SupervisedConfig
    config: SupervisedConfig

    @classmethod
    def requirements(cls, config: Settings) -> Requirements:
        """No unlabelled image."""
        return Requirements(strong_views=0, unlabeled=False)

    def label(self, unlabeled: Unlabeled | None, step: int) -> None:
        """Nothing to label."""
        return

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The labelled loss."""
        loss = self.labeled_loss(self.student(labeled.images), labeled)
        return StepResult(loss, {"loss": loss.detach(), "loss_x": loss.detach()})


plugin = Supervised
