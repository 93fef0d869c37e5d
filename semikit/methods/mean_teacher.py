"""Mean Teacher (Tarvainen and Valpola 2017): the student agrees with its average, also where the average is unsure."""

from __future__ import annotations

from typing import Literal, final

from pydantic import Field

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.consistency import AgreementSettings, ConsistencyMethod, fill, predict_logits, prepare
from semikit.core.losses import masked_squared_error
from semikit.core.network import Network
from semikit.core.pseudo_labels import probabilities_of
from semikit.core.student_views import check_forward, student_pass
from semikit.settings.base import Settings


@final
class MeanTeacherConfig(AgreementSettings):
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
class MeanTeacher(ConsistencyMethod):
    """Squared difference between the probabilities of student (strong view) and teacher (weak view); no threshold.

    The paper draws two views of one kind; here the student's is the strong one, as in all methods of semikit.
    """

    Config = MeanTeacherConfig
    config: MeanTeacherConfig

    @classmethod
    def requirements(cls, config: Settings) -> Requirements:
        """One strong view."""
        return Requirements(strong_views=1)

    def __init__(self, network: Network, config: Settings, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(self.config.forward, network)

    def label(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """What the teacher believes of the weak views, mixed as the strong views are."""
        assert unlabeled is not None
        self.emphasis.begin(step)
        probabilities = probabilities_of(predict_logits(self.labeler, unlabeled.weak))
        confidence, labels = probabilities.max(dim=1)
        pseudo = prepare(unlabeled, self.run_info)
        pseudo = fill(pseudo, unlabeled, labels, confidence, probabilities=probabilities)
        self.emphasis.observe(pseudo.weak)
        return pseudo

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The labelled loss and the strong view's."""
        assert unlabeled is not None
        assert pseudo is not None
        mode, target = self.config.forward, pseudo.views[0]
        pred_labeled, _, (pred_strong,) = student_pass(self.student, labeled, unlabeled, forward=mode)
        loss_x = self.labeled_loss(pred_labeled, labeled)
        assert target.probabilities is not None
        counts = self.emphasis.counts(target)
        loss_u = masked_squared_error(pred_strong, target.probabilities, counts, target.denominator)
        return self.emphasis.result(loss_x, loss_u, labeled, pseudo.weak)


plugin = MeanTeacher
