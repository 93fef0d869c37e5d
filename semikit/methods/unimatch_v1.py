"""UniMatch V1 (Yang et al. 2023): two strong views and a feature-dropped weak view learn from the weak one.

Tasks: seg, cd, cls
Paper: arXiv 2208.09910
Cost: 1.7
For: convolutional encoders as published with it
"""

from __future__ import annotations

from dataclasses import replace
from typing import final

from pydantic import Field

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Target, Unlabeled
from semikit.core.batch_norm import unrecorded
from semikit.core.channel_dropout import feature_dropout
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits
from semikit.core.settings import Teacher, ThresholdSettings, UnlabeledSettings
from semikit.core.student_views import dropped_views, logits_of
from semikit.core.thresholds import threshold_of


@final
class UniMatchV1Config(ThresholdSettings, UnlabeledSettings):
    """Settings of UniMatch V1. It was published without a teacher: with `teacher: student` there is an EMA teacher for
    evaluation only. The V1 of the V2 paper's Table 5 has `teacher: ema`.
    """

    teacher: Teacher = "student"
    """Whose pseudo-labels: the student's own, out of its training pass, the EMA teacher's, or auto (see ema)."""
    rate: float = Field(default=0.5, gt=0, lt=1)
    """Share of the channels dropped from the weak view's features (0..1)."""


@final
class UniMatchV1(Method):
    """The student labels the weak view in its own training pass (paper eq. 6-11; as released).

    The strong views are mixed with a second weak batch, which the student labels in eval mode beforehand. The released
    code also decodes dropped features of labelled images and drops the result; that is left out here, and only the
    statistics of a batch norm in the decoder see the difference.
    """

    Config = UniMatchV1Config
    config: UniMatchV1Config

    @classmethod
    def requirements(cls, config: UniMatchV1Config) -> Requirements:
        """Two strong views, and a second weak batch to mix with."""
        return Requirements(strong_views=2, partner_batch=True)

    @classmethod
    def needs_full_batch(cls, config: UniMatchV1Config) -> bool:
        """Where the student labels: pseudo-labels come out of the training pass."""
        return config.teacher == "student"

    def __init__(self, network: Network, config: UniMatchV1Config, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule(run_info, threshold_of(config, run_info), class_balance=config.class_balance)

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """The labels of the batch that is pasted into the strong views, and the dropout of the step."""
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        masks = feature_dropout(self.run_info, unlabeled, step, self.student.widths, self.config.rate)
        partners = self._partners(unlabeled)
        if self.config.teacher == "student":  # in its training pass, in `forward`
            return Pseudo(masks=masks, partners=partners)
        logits = predict_logits(self.label_source, unlabeled.weak, self.label_pass)
        return replace(self.rule(logits, unlabeled, partners=partners), masks=masks)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss, the feature-dropped weak view's and half of each strong view's (eq. 11)."""
        assert unlabeled is not None
        assert pseudo is not None
        _, pred_labeled, pred_weak, pred_dropped = dropped_views(self.student, labeled, unlabeled, pseudo.masks[0])
        with unrecorded(self.student, self.config.batch_norm == "weak"):
            pred_strong = logits_of(self.student, unlabeled.strong, [(), ()])
        if self.config.teacher == "student":
            pseudo = self.rule(pred_weak, unlabeled, partners=pseudo.partners)
        assert pseudo.weak is not None
        loss_x = self.supervised_loss(pred_labeled, labeled)
        loss_1, loss_2 = map(self.unlabeled_loss, pred_strong, pseudo.views)
        loss_fp = self.unlabeled_loss(pred_dropped, pseudo.weak)
        loss_u = 0.25 * loss_1 + 0.25 * loss_2 + 0.5 * loss_fp
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, pseudo.weak)

    def _partners(self, unlabeled: Unlabeled) -> Target:
        """The target of the partner batch, labelled in eval mode."""
        assert unlabeled.partner_batch is not None
        images, valid = unlabeled.partner_batch.images, unlabeled.partner_batch.valid
        logits = predict_logits(self.label_source, images, self.label_pass)
        return self.rule.partner_target(logits, valid, unlabeled.index)


plugin = UniMatchV1
