"""Labelled images only: the baseline every semi-supervised method has to beat.

Tasks: seg, cd, cls
Cost: 0.4
For: what every other method has to beat; labels spread over all that the images hold
"""

from __future__ import annotations

from typing import final

from semikit.core.batch import Labeled, Pseudo, Requirements, StepResult, Unlabeled
from semikit.core.method import Method
from semikit.core.settings import MethodSettings


@final
class SupervisedConfig(MethodSettings):
    """Settings of the labelled-only baseline."""


@final
class Supervised(Method):
    """Cross-entropy on labelled images; the teacher is for evaluation only."""

    Config = SupervisedConfig
    config: SupervisedConfig

    @classmethod
    def requirements(cls, config: SupervisedConfig) -> Requirements:
        """No unlabelled image."""
        return Requirements(strong_views=0, unlabeled=False)

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> None:
        """Nothing to label."""
        return

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss."""
        loss = self.supervised_loss(self.student(labeled.images), labeled)
        return StepResult(loss, {"loss": loss.detach(), "loss_x": loss.detach()})


plugin = Supervised
