"""FixMatch (Sohn et al. 2020), the baseline of UniMatch V2: one strong view learns from the weak one.

Tasks: seg, cd, cls
Paper: arXiv 2001.07685
Cost: 1.0
For: a plain first comparison: one strong view
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, final

from torch import Tensor

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Target, Unlabeled
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits
from semikit.core.settings import RENAMED_LABELS, PseudoLabelSettings, ThresholdSettings
from semikit.core.student_views import check_forward, student_views
from semikit.core.thresholds import Threshold, threshold_of

ExtraLoss = Callable[[Tensor, Target], dict[str, Tensor]]
"""Logits (B, K, *S) of the strong view and its target -> further losses (), weighted, by name."""


@final
class FixMatchConfig(ThresholdSettings, PseudoLabelSettings):
    """Settings of FixMatch; with distribution alignment where `alignment` is set."""

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS


@final
class FixMatch(Method):
    """Confident pseudo-labels of the weak view teach one strong view (paper eq. 1-5).

    Its followers hand in another `threshold` (FlexMatch, SoftMatch, FreeMatch), labels that alignment does not change
    (SoftMatch), or an `extra_loss` of the strong view (FreeMatch).
    """

    Config = FixMatchConfig
    config: PseudoLabelSettings

    @classmethod
    def requirements(cls, config: PseudoLabelSettings) -> Requirements:
        """One strong view."""
        return Requirements(strong_views=1)

    @classmethod
    def needs_full_batch(cls, config: PseudoLabelSettings) -> bool:
        """Only where the student labels inside its joint pass."""
        return config.joint

    def __init__(
        self,
        network: Network,
        config: PseudoLabelSettings,
        run_info: RunInfo,
        threshold: Threshold | None = None,
        *,
        aligned_labels: bool = True,
        extra_loss: ExtraLoss | None = None,
    ) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        if threshold is None:
            assert isinstance(config, FixMatchConfig), config
            threshold = threshold_of(config, run_info)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule.of(config, run_info, threshold, aligned_labels)
        self.extra_loss = extra_loss

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """The label source labels the weak views (eq. 3)."""
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        if self.config.joint:  # the student labels in `forward`
            return Pseudo()
        return self.rule(predict_logits(self.label_source, unlabeled.weak, self.label_pass), unlabeled)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss and the strong view's (eq. 4)."""
        assert unlabeled is not None
        assert pseudo is not None
        config = self.config
        pred = student_views(self.student, labeled, unlabeled, config.forward, statistics=config.batch_norm)
        if self.config.joint:
            pseudo = self.rule(pred.weak, unlabeled, (pred.labeled, labeled))
        loss_x = self.supervised_loss(pred.labeled, labeled)
        loss_u = self.unlabeled_loss(pred.strong[0], pseudo.views[0])
        more = {} if self.extra_loss is None else self.extra_loss(pred.strong[0], pseudo.views[0])
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, pseudo.weak, **more)


plugin = FixMatch
