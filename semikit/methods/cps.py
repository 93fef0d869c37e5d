"""Cross Pseudo Supervision (Chen et al. 2021): two students that began otherwise label for each other.

Tasks: seg, cd
Paper: arXiv 2106.01226
Cost: 2.0
For: memory for two networks; no teacher that lags behind
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, final

from pydantic import Field

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits
from semikit.core.settings import UnlabeledSettings
from semikit.core.student_views import check_forward, student_views
from semikit.core.thresholds import FixedThreshold


@final
class CPSConfig(UnlabeledSettings):
    """Settings of CPS with CutMix, as released for Pascal (charlesCXK/TorchSemiSeg@5e0c29c:exp.voc/voc8.res50v3+.CPS+
    CutMix/config.py); the recipes of the tasks leave colours as they are (`views.strong`).
    """

    teacher: Literal["student"] = "student"
    """The students label for each other; the EMA teacher is that of the first, for evaluation only."""
    weight: float = Field(default=1.0, ge=0)
    """Weight λ of the cross supervision; as released 1 for Pascal, 5 for Cityscapes."""
    loss: Literal["released", "paper"] = "paper"
    """paper: labelled + λ · unlabelled; released: that divided by 1 + λ, as UniMatch's segmentation code does."""
    forward: Literal["auto", "fused", "separate"] = "auto"
    """How images pass through each student: auto, fused or separate."""


@final
class CPS(Method):
    """Two networks of one kind, each with a supervised loss (eq. 1) and hard labels of the other, at all positions
    (eq. 2-4), of images mixed by CutMix (section 3.3). The first is evaluated and kept.

    The released code labels in training mode; here each student labels in eval mode, as all label sources do.
    """

    Config = CPSConfig
    config: CPSConfig

    @classmethod
    def requirements(cls, config: CPSConfig) -> Requirements:
        """One strong view, which is mixed, and two students."""
        return Requirements(strong_views=1, pixels=True, students=2)

    def __init__(self, network: Network, config: CPSConfig, run_info: RunInfo, *peers: Network) -> None:
        super().__init__(network, config, run_info, *peers)
        check_forward(config.forward, network, config.batch_norm)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule(run_info, FixedThreshold(0.0), class_balance=config.class_balance)

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """What each student says of the weak views, mixed as they are; the other is to learn it."""
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        first, second = (
            self.rule(predict_logits(student, unlabeled.weak, self.label_pass), unlabeled) for student in self.students
        )
        return replace(second, views=(*second.views, *first.views))

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised losses of both, and λ times their cross supervision (eq. 5)."""
        assert unlabeled is not None
        assert pseudo is not None
        config, losses = self.config, []
        for student, labels in zip(self.students, pseudo.views, strict=True):
            pred = student_views(student, labeled, unlabeled, config.forward, statistics=config.batch_norm)
            losses.append((self.supervised_loss(pred.labeled, labeled), self.unlabeled_loss(pred.strong[0], labels)))
        (loss_x, loss_u), (loss_x_second, loss_u_second) = losses
        both_x, both_u = loss_x + loss_x_second, loss_u + loss_u_second
        return self.unlabeled_loss.combine(both_x, both_u, labeled, pseudo.weak)


plugin = CPS
