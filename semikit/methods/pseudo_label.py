"""Pseudo-Label (Lee 2013): the student learns its own confident predictions of the weak view."""

from __future__ import annotations

from typing import Literal, final

from pydantic import Field

from semikit.core.batch import Labeled, Pseudo, Requirements, StepResult, Unlabeled
from semikit.core.consistency import ConsistencyMethod, ConsistencySettings, fill, predict_labels, prepare
from semikit.core.pseudo_labels import pseudo_label
from semikit.core.student_views import logits_of
from semikit.settings.base import Settings


@final
class PseudoLabelConfig(ConsistencySettings):
    """Settings of Pseudo-Label, as in USB."""

    teacher: Literal["ema", "student", "auto"] = "student"
    """Who gives the pseudo-labels: the student in its own training pass, the average, or auto (see ema)."""
    forward: Literal["separate", "joint"] = "separate"
    """separate: labelled images, then weak views; joint: both in one call."""
    loss: Literal["released", "paper"] = "paper"
    """paper: labelled + λ · unlabelled; released: that divided by 1 + λ, as UniMatch's segmentation code does."""
    ramp: float = Field(default=0.4, ge=0)
    """λ grows linearly from 0 over this share of the run (up to 1) or this many iterations (above 1); 0: no ramp."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """What the average keeps of itself at each step (0..1)."""
    ema_ramp: bool = False
    """Whether the decay starts at 0 and grows as 1 - 1 / (step + 1) up to `ema_decay`."""


@final
class PseudoLabel(ConsistencyMethod):
    """Entropy is lowered where it is low already; there is no strong view.

    The released code keeps the statistics of a batch norm from the labelled pass only; here both passes count.
    """

    Config = PseudoLabelConfig
    config: PseudoLabelConfig

    @classmethod
    def requirements(cls, config: Settings) -> Requirements:
        """The weak view only."""
        return Requirements(strong_views=0)

    @classmethod
    def needs_full_batch(cls, config: Settings) -> bool:
        """Where the student labels: pseudo-labels come out of the training pass."""
        assert isinstance(config, PseudoLabelConfig)
        return config.teacher == "student"

    def label(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """Pseudo-labels by the average, where it gives them."""
        assert unlabeled is not None
        self.emphasis.begin(step)
        pseudo = prepare(unlabeled, self.run_info)
        if self.needs_full_batch(self.config):
            return pseudo
        pseudo = fill(pseudo, unlabeled, *predict_labels(self.labeler, unlabeled.weak))
        self.emphasis.observe(pseudo.weak)
        return pseudo

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The labelled loss and the weak view's (eq. 15)."""
        assert unlabeled is not None
        assert pseudo is not None
        images = [labeled.images, unlabeled.weak]
        if self.config.forward == "joint":
            pred_labeled, pred_weak = logits_of(self.student, images, [(), ()], "encoder")
        else:
            pred_labeled, pred_weak = map(self.student, images)
        if self.needs_full_batch(self.config):
            pseudo = fill(pseudo, unlabeled, *pseudo_label(pred_weak))
            self.emphasis.observe(pseudo.weak)
        loss_x = self.labeled_loss(pred_labeled, labeled)
        loss_u = self.emphasis.loss(pred_weak, pseudo.weak)
        return self.emphasis.result(loss_x, loss_u, labeled, pseudo.weak)


plugin = PseudoLabel
