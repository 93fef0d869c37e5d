"""Pseudo-Label (Lee 2013): the student learns its own confident predictions of the weak view.

Tasks: seg, cd, cls
Paper: ICML workshop 2013
Cost: 0.8
For: the simplest comparison: no strong views, no teacher
"""

from __future__ import annotations

from typing import Literal, final

from pydantic import Field

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits
from semikit.core.settings import Teacher, ThresholdSettings, UnlabeledSettings
from semikit.core.student_views import logits_of
from semikit.core.thresholds import threshold_of


@final
class PseudoLabelConfig(ThresholdSettings, UnlabeledSettings):
    """Settings of Pseudo-Label, as in USB."""

    teacher: Teacher = "student"
    """Who gives the pseudo-labels: the student in its own training pass, the EMA teacher, or auto (see ema)."""
    forward: Literal["separate", "joint"] = "separate"
    """separate: labelled images, then weak views; joint: both in one call."""
    loss: Literal["released", "paper"] = "paper"
    """paper: labelled + λ · unlabelled; released: that divided by 1 + λ, as UniMatch's segmentation code does."""
    ramp: float = Field(default=0.4, ge=0)
    """λ grows linearly from 0 over this share of the run (up to 1) or this many iterations (above 1); 0: no ramp."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the EMA teacher (0..1)."""
    ema_ramp: bool = False
    """Whether the decay starts at 0 and grows as 1 - 1 / (step + 1) up to `ema_decay`."""


@final
class PseudoLabel(Method):
    """Entropy is lowered where it is low already; there is no strong view.

    The released code keeps the statistics of a batch norm from the labelled pass only; here both passes count.
    """

    Config = PseudoLabelConfig
    config: PseudoLabelConfig

    @classmethod
    def requirements(cls, config: PseudoLabelConfig) -> Requirements:
        """The weak view only."""
        return Requirements(strong_views=0)

    @classmethod
    def needs_full_batch(cls, config: PseudoLabelConfig) -> bool:
        """Where the student labels: pseudo-labels come out of the training pass."""
        return config.teacher == "student"

    def __init__(self, network: Network, config: PseudoLabelConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule(run_info, threshold_of(config, run_info), class_balance=config.class_balance)

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """Pseudo-labels by the teacher, where it gives them."""
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        if self.config.teacher == "student":  # in its training pass, in `forward`
            return Pseudo()
        return self.rule(predict_logits(self.label_source, unlabeled.weak, self.label_pass), unlabeled)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss and the weak view's (eq. 15)."""
        assert unlabeled is not None
        assert pseudo is not None
        images = [labeled.images, unlabeled.weak]
        if self.config.forward == "joint":
            pred_labeled, pred_weak = logits_of(self.student, images, [(), ()])
        else:
            pred_labeled, pred_weak = map(self.student, images)
        if self.config.teacher == "student":
            pseudo = self.rule(pred_weak, unlabeled)
        assert pseudo.weak is not None
        loss_x = self.supervised_loss(pred_labeled, labeled)
        loss_u = self.unlabeled_loss(pred_weak, pseudo.weak)
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, pseudo.weak)


plugin = PseudoLabel
