"""FixMatch (Sohn et al. 2020), the baseline of UniMatch V2: one strong view learns from the weak one."""

from __future__ import annotations

from typing import final

from semikit.core.batch import Facts, Labeled, Needs, Pseudo, StepResult, Unlabeled
from semikit.core.consistency import ConsistencyMethod, ConsistencySettings, fill, judge, prepare
from semikit.core.network import Network
from semikit.core.passes import Forward, check_forward, student_pass
from semikit.core.pseudo_label import pseudo_label
from semikit.core.settings import Settings


@final
class FixMatchConfig(ConsistencySettings):
    """Settings of FixMatch."""

    forward: Forward = "auto"
    """How images pass through the student: auto, fused, separate or joint."""


@final
class FixMatch(ConsistencyMethod):
    """Confident pseudo-labels of the weak view teach one strong view (paper eq. 1-5)."""

    Config = FixMatchConfig
    config: FixMatchConfig

    @classmethod
    def needs(cls, config: Settings) -> Needs:
        """One strong view."""
        return Needs(strong_views=1)

    @classmethod
    def whole_batch(cls, config: Settings) -> bool:
        """Only where the student labels inside its joint pass."""
        assert isinstance(config, FixMatchConfig)
        return config.forward == "joint" and config.teacher == "student"

    def __init__(self, network: Network, config: Settings, facts: Facts) -> None:
        super().__init__(network, config, facts)
        check_forward(self.config.forward, network)

    def label(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """Pseudo-labels of the weak views by the teacher (eq. 3), mixed as the strong views are."""
        assert unlabeled is not None
        self.emphasis.begin(step)
        pseudo = prepare(unlabeled, self.facts)
        if self.whole_batch(self.config):
            return pseudo
        pseudo = fill(pseudo, unlabeled, *judge(self.labeler, unlabeled.weak))
        self.emphasis.observe(pseudo.weak)
        return pseudo

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The labelled loss and the strong view's (eq. 4)."""
        assert unlabeled is not None
        assert pseudo is not None
        mode = self.config.forward
        pred_labeled, pred_weak, (pred_strong,) = student_pass(self.student, labeled, unlabeled, forward=mode)
        if self.whole_batch(self.config):
            assert pred_weak is not None
            pseudo = fill(pseudo, unlabeled, *pseudo_label(pred_weak))
            self.emphasis.observe(pseudo.weak)
        loss_x = self.labeled_loss(pred_labeled, labeled)
        loss_u = self.emphasis.loss(pred_strong, pseudo.views[0])
        return self.emphasis.result(loss_x, loss_u, pseudo.weak)


plugin = FixMatch
