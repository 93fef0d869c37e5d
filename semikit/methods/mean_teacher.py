"""Mean Teacher (Tarvainen and Valpola 2017): the student agrees with its EMA teacher everywhere.

Tasks: seg, cd, cls
Paper: arXiv 1703.01780
Cost: 1.0
For: a comparison without strong views or a threshold
"""

from __future__ import annotations

from typing import Literal, final

from pydantic import Field

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.losses import UnlabeledLoss, loss_weights, masked_squared_error
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits
from semikit.core.settings import UnlabeledSettings
from semikit.core.student_views import check_forward, student_views
from semikit.core.thresholds import FixedThreshold


@final
class MeanTeacherConfig(UnlabeledSettings):
    """Settings of Mean Teacher, as in USB."""

    weight: float = Field(default=50.0, ge=0)
    """Weight λ of the unlabelled loss; squared differences of probabilities are small."""
    loss: Literal["released", "paper"] = "paper"
    """paper: labelled + λ · unlabelled; released: that divided by 1 + λ, as UniMatch's segmentation code does."""
    ramp: float = Field(default=0.4, ge=0)
    """λ grows linearly from 0 over this share of the run (up to 1) or this many iterations (above 1); 0: no ramp."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """What the teacher keeps of itself at each step (0..1)."""
    forward: Literal["auto", "fused", "separate"] = "auto"
    """How images pass through the student: auto, fused or separate."""


@final
class MeanTeacher(Method):
    """Squared difference between the probabilities of student (strong view) and teacher (weak view); no threshold.

    The paper draws two views of one kind; here the student's is the strong one, as in all methods of semikit.
    """

    Config = MeanTeacherConfig
    config: MeanTeacherConfig

    @classmethod
    def requirements(cls, config: MeanTeacherConfig) -> Requirements:
        """One strong view."""
        return Requirements(strong_views=1)

    def __init__(self, network: Network, config: MeanTeacherConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        # No threshold, and probabilities as they are.
        self.rule = PseudoLabelRule(run_info, FixedThreshold(0.0), soft_labels=1.0, class_balance=config.class_balance)

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """The label source's probabilities of the weak views, mixed as the strong views are."""
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        return self.rule(predict_logits(self.label_source, unlabeled.weak, self.label_pass), unlabeled)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss and the strong view's."""
        assert unlabeled is not None
        assert pseudo is not None
        config, target = self.config, pseudo.views[0]
        pred = student_views(self.student, labeled, unlabeled, config.forward, statistics=config.batch_norm)
        loss_x = self.supervised_loss(pred.labeled, labeled)
        assert target.probabilities is not None
        loss_u = masked_squared_error(pred.strong[0], target.probabilities, loss_weights(target), target.denominator)
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, pseudo.weak)


plugin = MeanTeacher
