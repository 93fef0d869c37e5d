"""SimMatch (Zheng et al. 2022): views agree in their class and in which labelled images they are like.

Tasks: cls
Paper: arXiv 2203.06915
Cost: 1.0
For: few labels of many classes
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from semikit.core.alignment import AlignmentSettings
from semikit.core.batch import Labeled, Prediction, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.embeddings import embedded, projection
from semikit.core.feature_bank import FeatureBank
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule
from semikit.core.settings import RENAMED_LABELS, JointSettings, ThresholdSettings, optional_kind
from semikit.core.student_views import check_forward
from semikit.core.thresholds import threshold_of


@final
class SimMatchConfig(ThresholdSettings, JointSettings):
    """Settings of SimMatch: those of its CIFAR form in USB. The ImageNet form of the paper has teacher ema, weight 10,
    instance_weight 5, threshold 0.7 and alignment_length 256.
    """

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS

    follow: Literal["paper", "released"] = "paper"
    """released: averaged features are normalised over the images of the step, as USB does, not each for itself."""
    teacher: Literal["student", "ema"] = "student"
    """Who labels and fills the bank: the student in its own training pass, or the EMA teacher."""
    forward: Literal["joint"] = "joint"
    """All images pass through the student in one call: labelled, weak (where it labels) and strong."""
    soft_labels: float | None = Field(default=1.0, gt=0)
    """Temperature of soft labels (1: as they are); null: hard labels, the likeliest class."""
    alignment: Annotated[AlignmentSettings | None, BeforeValidator(optional_kind)] = AlignmentSettings()
    """Distribution alignment: none, queue (mean of the last steps) or ema, or a mapping with the details."""
    instance_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss between similarities to labelled images (eq. 5)."""
    instance_temperature: float = Field(default=0.1, gt=0)
    """Temperature of these similarities (eq. 3, 4)."""
    smoothing: float = Field(default=0.9, ge=0, le=1)
    """Share of the class probabilities in a pseudo-label; the rest comes from the labels of like images (eq. 9)."""
    bank_momentum: float | None = Field(default=None, ge=0, lt=1)
    """What the bank keeps of an image's features (0..1); null: 0.7 where the student fills it, else 0."""
    width: int = Field(default=128, ge=1)
    """Length of the features that are compared."""
    projections: int = Field(default=1, ge=1)
    """Projections whose mean makes these features (3 in USB; EPASS, Nguyen 2024)."""


@final
class SimMatch(Method):
    """Semantic and instance similarity (Algorithm 1). In the first epoch the bank fills and is not used yet."""

    Config = SimMatchConfig
    config: SimMatchConfig
    active: Tensor

    @classmethod
    def requirements(cls, config: SimMatchConfig) -> Requirements:
        """One strong view of whole images."""
        return Requirements(strong_views=1, whole_images=True)

    @classmethod
    def needs_full_batch(cls, config: SimMatchConfig) -> bool:
        """The bank is read and written once a step."""
        return True

    def __init__(self, network: Network, config: SimMatchConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule.of(config, run_info, threshold_of(config, run_info))
        own, momentum = self.config.teacher == "student", self.config.bank_momentum
        if momentum is None:
            momentum = 0.7 if own else 0.0
        across = self.config.follow == "released"
        self.bank = FeatureBank(run_info.num_labeled, self.config.width, momentum, across, run_info.seed)
        self.projection = projection(network.embed_dim, config.width, config.projections, run_info.seed)
        self.teacher_projection = None if own else deepcopy(self.projection).requires_grad_(False)
        self.register_buffer("active", torch.tensor(False), persistent=False)

    def extra_parameters(self) -> list[nn.Parameter]:
        """Those of the projection."""
        return list(self.projection.parameters())

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """Nothing is labelled yet: the bank is read in `forward`. Whether it is in use is known here."""
        self.unlabeled_loss.begin(step)
        self.active.fill_(step >= self.run_info.steps_per_epoch)
        return Pseudo()

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss, the strong view's and that of its similarities (eq. 10)."""
        assert unlabeled is not None
        (strong,) = unlabeled.strong
        if self.teacher_projection is None:
            views = embedded(self.student, self.projection, labeled.images, unlabeled.weak, strong)
            (pred_labeled, like_labeled), (pred_weak, like_weak), (pred_strong, like_strong) = views
        else:
            views = embedded(self.student, self.projection, labeled.images, strong)
            (pred_labeled, _), (pred_strong, like_strong) = views
            with torch.no_grad():
                views = embedded(self.teacher, self.teacher_projection, labeled.images, unlabeled.weak)
            (_, like_labeled), (pred_weak, like_weak) = views
        with torch.autocast(strong.device.type, enabled=False):
            on_labeled = (pred_labeled.detach(), labeled)
            pseudo, similar = self._smoothed(unlabeled, pred_weak, like_weak, on_labeled)
            strong_similarity = self.bank.similarity(like_strong, self.config.instance_temperature)
            apart = -(similar * strong_similarity).sum(dim=1)
            target = pseudo.views[0]
            loss_in = (torch.where(target.valid & self.active, apart, 0.0) / target.denominator).sum()
            self.bank.write(labeled.index, like_labeled.detach(), labeled.labels, labeled.valid)
        loss_x = self.supervised_loss(pred_labeled, labeled)
        loss_u = self.unlabeled_loss(pred_strong, target)
        loss_in = self.config.instance_weight * loss_in
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, pseudo.weak, loss_in=loss_in)

    @torch.no_grad()
    def _smoothed(
        self, unlabeled: Unlabeled, logits: Tensor, features: Tensor, on_labeled: tuple[Tensor, Labeled]
    ) -> tuple[Pseudo, Tensor]:
        """Pseudo-labels smoothed by similar images (eq. 8, 9); similarities (B, N) fitted to the classes (eq. 6, 7)."""
        classes = self.rule.aligned(logits, unlabeled.valid, on_labeled)
        similar = self.bank.similarity(features, self.config.instance_temperature).exp()
        fitted = similar * self.bank.by_image(classes)
        share = self.config.smoothing
        smoothed = share * classes + (1 - share) * self.bank.by_class(similar, self.run_info.num_classes)
        classes = torch.where(self.active, smoothed, classes)
        confidence, labels = classes.max(dim=1)
        pseudo = self.rule.targets(Prediction(labels, confidence, classes), unlabeled)
        return pseudo, fitted / fitted.sum(dim=1, keepdim=True).clamp(min=torch.finfo(fitted.dtype).tiny)

    def averages(self) -> list[tuple[nn.Module, nn.Module]]:
        """The teacher, and its projection beside the student's."""
        own = [] if self.teacher_projection is None else [(self.teacher_projection, self.projection)]
        return [*super().averages(), *own]


plugin = SimMatch
