"""ShrinkMatch (Yang et al. 2023): an uncertain image learns among fewer classes, without those it is confused with.

Tasks: cls
Paper: arXiv 2308.06777
Cost: 1.0
For: many alike classes, so that few images reach the threshold
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from semikit.core.alignment import AlignmentSettings
from semikit.core.batch import Labeled, Prediction, Pseudo, Requirements, RunInfo, StepResult, Target, Unlabeled
from semikit.core.draws import torch_seeded
from semikit.core.embeddings import classified
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule
from semikit.core.running_averages import follow, mean_of
from semikit.core.settings import RENAMED_LABELS, AutoThreshold, JointSettings, ThresholdSettings, optional_kind
from semikit.core.student_views import check_forward
from semikit.core.thresholds import threshold_of


@final
class ShrinkMatchConfig(ThresholdSettings, JointSettings):
    """Settings of ShrinkMatch as released for CIFAR; for STL-10 labels are hard and aligned to a moving average, for
    SVHN hard and not aligned.
    """

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS

    teacher: Literal["student"] = "student"
    """The student labels in its own training pass."""
    forward: Literal["joint"] = "joint"
    """All images pass through the student in one call."""
    soft_labels: float | None = Field(default=1.0, gt=0)
    """Temperature of soft labels (1: as they are) of certain images; null: hard labels, the likeliest class."""
    alignment: Annotated[AlignmentSettings | None, BeforeValidator(optional_kind)] = AlignmentSettings()
    """Distribution alignment: none, queue (mean of the last steps) or ema, or a mapping with the details."""
    momentum: float = Field(default=0.999, ge=0, lt=1)
    """What the share of certain images, by which the loss of uncertain ones is weighed, keeps of itself at each step
    (0..1)."""


@final
class ShrinkMatch(Method):
    """FixMatch on images the student is certain of; on the others the loss in a shrunk space of classes, by a head of
    its own that is dropped after training.
    """

    Config = ShrinkMatchConfig
    config: ShrinkMatchConfig
    certain: Tensor

    @classmethod
    def requirements(cls, config: ShrinkMatchConfig) -> Requirements:
        """One strong view of whole images."""
        return Requirements(strong_views=1, whole_images=True)

    @classmethod
    def needs_full_batch(cls, config: ShrinkMatchConfig) -> bool:
        """The student labels inside its own pass."""
        return True

    def __init__(self, network: Network, config: ShrinkMatchConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule.of(config, run_info, threshold_of(config, run_info))
        chosen = config.threshold
        self.enough = chosen.strict if isinstance(chosen, AutoThreshold) else chosen
        self.head = _head(network.embed_dim, run_info.num_classes, run_info.seed)
        self.register_buffer("certain", torch.tensor(-1.0))  # nothing was seen yet

    def extra_parameters(self) -> list[nn.Parameter]:
        """Those of the head for uncertain images."""
        return list(self.head.parameters())

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """Nothing is labelled yet: the student labels in `forward`."""
        self.unlabeled_loss.begin(step)
        return Pseudo()

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """L_x + λ · (L_u of certain images + that of uncertain ones)."""
        assert unlabeled is not None
        (strong,) = unlabeled.strong
        views = classified(self.student, labeled.images, unlabeled.weak, strong)
        (pred_labeled, _), (pred_weak, _), (pred_strong, features) = views
        with torch.no_grad():
            classes = self.rule.aligned(pred_weak, unlabeled.valid, (pred_labeled, labeled))
            confidence, labels = classes.max(dim=1)
            pseudo = self.rule.targets(Prediction(labels, confidence, classes), unlabeled)
        loss_x = self.supervised_loss(pred_labeled, labeled)
        target = pseudo.views[0]
        loss_u = self.unlabeled_loss(pred_strong, target)
        shrunk = shrunk_cross_entropy(self.head(features), classes, self.enough)
        loss_shrunk = self.unlabeled_loss.weight * self._uncertain(shrunk * confidence, target)
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, pseudo.weak, loss_shrunk=loss_shrunk)

    def _uncertain(self, losses: Tensor, target: Target) -> Tensor:
        """Losses (B,) of the images that are not certain, (), times the moving share of those that are (the second
        principle of weighing; confidence is the first).
        """
        with torch.no_grad():
            share = mean_of((target.weights > 0).float(), target.valid)
            self.certain.copy_(torch.where((self.certain < 0) & (share.count > 0), share.value, self.certain))
            follow(self.certain, share, self.config.momentum)
        chosen = target.valid & (target.weights == 0)
        return self.certain.clamp(min=0) * (torch.where(chosen, losses, 0.0) / target.denominator).sum()


def shrunk_cross_entropy(logits: Tensor, probabilities: Tensor, threshold: float) -> Tensor:
    """Cross-entropy of logits (B, K) with the likeliest class in its shrunk space, (B,); 0 where there is none.

    The space keeps the likeliest class and leaves out the next ones by `probabilities` (B, K), one at least and as few
    as make its probability among those that are kept reach `threshold`.
    """
    ordered, order = probabilities.sort(dim=1, descending=True)
    kept_mass = ordered.flip(1).cumsum(1).flip(1)  # of the ranks from c on
    enough = ordered[:, :1] / (ordered[:, :1] + kept_mass)[:, 2:] >= threshold
    first = 2 + (~enough).sum(dim=1, keepdim=True)  # confidence grows with c
    rank = torch.arange(logits.shape[1], device=logits.device)
    logits = logits.float().gather(1, order).masked_fill((rank > 0) & (rank < first), torch.finfo(torch.float32).min)
    return -logits.log_softmax(dim=1)[:, 0]


def _head(inputs: int, num_classes: int, seed: int) -> nn.Module:
    """Features (B, inputs) -> logits (B, K) that only uncertain images learn. Its norms keep no running statistics."""
    width = max(1, inputs // 4)
    with torch_seeded(seed, "head"):
        layers: list[nn.Module] = []
        for size in (inputs, width):
            norm = nn.BatchNorm1d(width, track_running_stats=False)
            layers += [nn.Linear(size, width), norm, nn.LeakyReLU(0.1)]
        return nn.Sequential(*layers, nn.Linear(width, num_classes))


plugin = ShrinkMatch
