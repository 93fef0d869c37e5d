"""DASO (Oh et al. 2022): labels of classes that are predicted often are blended with those of the nearest class mean.

Tasks: cls
Paper: arXiv 2106.05682
Cost: 1.0
For: imbalanced classes, where unlabelled images are imbalanced in another way
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semikit.core.batch import Labeled, Prediction, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.counts import class_counts
from semikit.core.embeddings import classified
from semikit.core.feature_bank import ClassQueues
from semikit.core.losses import UnlabeledLoss, masked_soft_cross_entropy
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule
from semikit.core.schedules import steps_of
from semikit.core.settings import RENAMED_LABELS, JointSettings, ThresholdSettings
from semikit.core.student_views import check_forward
from semikit.core.thresholds import threshold_of
from semikit.distributed.collectives import sum_over_processes


@final
class DASOConfig(ThresholdSettings, JointSettings):
    """Settings of DASO on FixMatch: those of USB, its warm-up as a share of the run."""

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS

    teacher: Literal["student"] = "student"
    """The student labels in its own training pass; class means are those of the EMA teacher's features."""
    forward: Literal["joint"] = "joint"
    """All images pass through the student in one call."""
    warmup: float = Field(default=0.02, ge=0)
    """Labels are the student's alone over this share of the run (up to 1) or this many iterations (above 1)."""
    bank: int = Field(default=256, ge=1)
    """Labelled images of each class whose features make its mean, the last ones."""
    instance_temperature: float = Field(default=0.05, gt=0)
    """Temperature of similarities to class means."""
    flatten: float = Field(default=1.5, gt=0)
    """How much the shares of the classes among pseudo-labels are flattened (T_dist: share to the power of 1 / this)."""
    count_every: int = Field(default=100, ge=1)
    """Steps over which pseudo-labels are counted, for the steps that follow."""
    align_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss that lets strong views be as similar to class means as weak ones are."""


@final
class DASO(Method):
    """Distribution-aware semantics-oriented pseudo-labels for FixMatch: a class that is labelled
    often takes more from its similarities, where minority classes are found, and one that is rare from its logits.
    """

    Config = DASOConfig
    config: DASOConfig
    counts: Tensor
    shares: Tensor
    active: Tensor

    @classmethod
    def requirements(cls, config: DASOConfig) -> Requirements:
        """One strong view of whole images."""
        return Requirements(strong_views=1, whole_images=True)

    @classmethod
    def needs_full_batch(cls, config: DASOConfig) -> bool:
        """Class means are read and written once a step."""
        return True

    def __init__(self, network: Network, config: DASOConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule.of(config, run_info, threshold_of(config, run_info))
        self.bank = ClassQueues(run_info.num_classes, config.bank, network.embed_dim)
        self.warmup = steps_of(config.warmup, run_info.iterations)
        self.register_buffer("counts", torch.zeros(run_info.num_classes))
        self.register_buffer("shares", torch.zeros(run_info.num_classes))
        self.register_buffer("active", torch.tensor(False), persistent=False)

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """Nothing is labelled yet; what was counted is taken over every `count_every` steps."""
        self.unlabeled_loss.begin(step)
        self.active.fill_(step >= self.warmup)
        if step % self.config.count_every == 0:
            counted = self.counts.sum()
            self.shares.copy_(torch.where(counted > 0, self.counts / counted.clamp(min=1), self.shares))
            self.counts.zero_()
        return Pseudo()

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """L_x + λ · L_u of blended labels + align_weight · L_align."""
        assert unlabeled is not None
        (strong,) = unlabeled.strong
        views = classified(self.student, labeled.images, unlabeled.weak, strong)
        (pred_labeled, _), (pred_weak, z_weak), (pred_strong, z_strong) = views
        with torch.no_grad():
            features = self.teacher.embed(self.teacher.encode(labeled.images))
        with torch.autocast(strong.device.type, enabled=False):
            self.bank.write(features.float(), labeled.labels, labeled.valid)
            with torch.no_grad():
                semantic = self._similarity(z_weak).softmax(dim=1)
                classes = self.rule.aligned(pred_weak, unlabeled.valid, (pred_labeled, labeled))
                pseudo = self._blended(classes, semantic, unlabeled)
            target = pseudo.views[0]
            apart = masked_soft_cross_entropy(self._similarity(z_strong), semantic, target.valid, target.denominator)
            loss_align = torch.where(self.active, self.config.align_weight * apart, 0.0)
        loss_x = self.supervised_loss(pred_labeled, labeled)
        loss_u = self.unlabeled_loss(pred_strong, target)
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, pseudo.weak, loss_align=loss_align)

    def _similarity(self, features: Tensor) -> Tensor:
        """Features (B, D) -> their cosine to each class mean over the temperature, (B, K)."""
        means = F.normalize(self.bank.means(), dim=1)
        return F.normalize(features.float(), dim=1) @ means.t() / self.config.instance_temperature

    def _blended(self, classes: Tensor, semantic: Tensor, unlabeled: Unlabeled) -> Pseudo:
        """Labels from probabilities (B, K) and similarities (B, K): p' = (1 - v_k) p + v_k q for the class k that p
        favours, v_k its share to the power of 1 / T, 1 for the class that is labelled most. They are counted.
        """
        power = self.shares.pow(1 / self.config.flatten)
        share = power / power.max().clamp(min=torch.finfo(power.dtype).tiny)
        share = torch.where(self.active, share, 0.0)[classes.argmax(dim=1)].unsqueeze(1)
        blended = (1 - share) * classes + share * semantic
        confidence, labels = blended.max(dim=1)
        self.counts += sum_over_processes(class_counts(labels, unlabeled.valid, len(self.counts)))
        return self.rule.targets(Prediction(labels, confidence, blended), unlabeled)


plugin = DASO
