"""CoMatch (Li et al. 2021): views agree in their class, and alike images in their features, by a graph of labels.

Tasks: cls
Paper: arXiv 2011.11183
Cost: 1.4
For: few labels of many alike classes
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from semikit.core.alignment import AlignmentSettings
from semikit.core.batch import Labeled, Prediction, Pseudo, Requirements, RunInfo, StepResult, Target, Unlabeled
from semikit.core.embeddings import embedded, projection
from semikit.core.feature_bank import FeatureQueue
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule
from semikit.core.settings import RENAMED_LABELS, JointSettings, ThresholdSettings, optional_kind
from semikit.core.student_views import check_forward
from semikit.core.thresholds import threshold_of
from semikit.distributed.collectives import gather_over_processes, learned_gather_over_processes


@final
class CoMatchConfig(ThresholdSettings, JointSettings):
    """Settings of CoMatch: those of its authors' code for CIFAR-10, and of USB. Their code for ImageNet (10 % of the
    labels) has teacher ema, ema_decay 0.996, weight 10, threshold 0.5, alignment.length 128, bank 30000, width 128,
    instance_temperature 0.1, graph_threshold 0.2 and contrast_weight 2.
    """

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS

    teacher: Literal["student", "ema"] = "student"
    """Who labels and fills the memory: the student in its own training pass, or the EMA teacher, which also remembers
    the second strong views: then the graph reaches past the batch."""
    forward: Literal["joint"] = "joint"
    """All images that the student sees pass through it in one call: labelled and first strong views and, where it
    labels, weak and second strong ones."""
    soft_labels: float | None = Field(default=1.0, gt=0)
    """Temperature of soft labels (1: as they are); null: hard labels, the likeliest class."""
    alignment: Annotated[AlignmentSettings | None, BeforeValidator(optional_kind)] = AlignmentSettings()
    """Distribution alignment: none, queue (mean of the last steps) or ema, or a mapping with the details."""
    smoothing: float = Field(default=0.9, ge=0, le=1)
    """Share of the class probabilities in a pseudo-label; the rest comes from alike images in the memory."""
    bank: int = Field(default=2560, ge=1)
    """Images in the memory, labelled and unlabelled, the last ones; it is used once it is full (teacher ema: from the
    second epoch on). With teacher ema as many unlabelled ones are kept for the graph."""
    instance_temperature: float = Field(default=0.2, gt=0)
    """Temperature of similarities between features."""
    graph_threshold: float = Field(default=0.8, ge=0, le=1)
    """Least similarity of two pseudo-labels (0..1) that connects their images."""
    contrast_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss between the graphs of labels and features."""
    width: int = Field(default=64, ge=1)
    """Length of the features that are compared."""
    projections: int = Field(default=1, ge=1)
    """Projections whose mean makes these features (3 in USB; EPASS, Nguyen 2024)."""


@final
class CoMatch(Method):
    """Memory-smoothed pseudo-labels, and the contrast of the features of two strong views by the graph they make
    (Algorithm 1). The graph is that of the images of all processes; where the teacher labels, also with those of past
    steps.
    """

    Config = CoMatchConfig
    config: CoMatchConfig
    active: Tensor

    @classmethod
    def requirements(cls, config: CoMatchConfig) -> Requirements:
        """Two strong views of whole images."""
        return Requirements(strong_views=2, whole_images=True)

    @classmethod
    def needs_full_batch(cls, config: CoMatchConfig) -> bool:
        """The graph is that of the batch, and the memory is read and written once a step."""
        return True

    def __init__(self, network: Network, config: CoMatchConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule.of(config, run_info, threshold_of(config, run_info))
        self.bank = FeatureQueue(config.bank, config.width, run_info.num_classes)
        self.projection = projection(network.embed_dim, config.width, config.projections, run_info.seed)
        self.past: FeatureQueue | None = None
        self.teacher_projection: nn.Module | None = None
        if config.teacher == "ema":
            self.past = FeatureQueue(config.bank, config.width, run_info.num_classes)
            self.teacher_projection = deepcopy(self.projection).requires_grad_(False)
        self.register_buffer("active", torch.tensor(False), persistent=False)

    def extra_parameters(self) -> list[nn.Parameter]:
        """Those of the projection."""
        return list(self.projection.parameters())

    def averages(self) -> list[tuple[nn.Module, nn.Module]]:
        """The teacher, and its projection beside the student's."""
        own = [] if self.teacher_projection is None else [(self.teacher_projection, self.projection)]
        return [*super().averages(), *own]

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """Nothing is labelled yet: the memory is read in `forward`. Whether the teacher's is in use is known here."""
        self.unlabeled_loss.begin(step)
        self.active.fill_(step >= self.run_info.steps_per_epoch)
        return Pseudo()

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """L_x + λ · L_cls of the first strong view + contrast_weight · L_ctr of the two graphs."""
        assert unlabeled is not None
        first, second = unlabeled.strong
        if self.teacher_projection is None:
            views = embedded(self.student, self.projection, labeled.images, unlabeled.weak, first, second)
            on_labeled, weak, (pred_strong, z_first), (_, z_second) = views
            pred_labeled = on_labeled[0]
        else:
            views = embedded(self.student, self.projection, labeled.images, first)
            (pred_labeled, _), (pred_strong, z_first) = views
            with torch.no_grad():
                views = embedded(self.teacher, self.teacher_projection, labeled.images, unlabeled.weak, second)
            on_labeled, weak, (_, z_second) = views
        with torch.autocast(pred_strong.device.type, enabled=False):
            pseudo, labels = self._smoothed(labeled, unlabeled, on_labeled, weak)
            if self.past is None:
                loss_ctr = self._contrast(labels, unlabeled.valid, z_first, z_second)
            else:
                loss_ctr = self._contrast_with_past(self.past, labels, pseudo.views[0], unlabeled, z_first, z_second)
            loss_ctr = self.config.contrast_weight * loss_ctr
        loss_x = self.supervised_loss(pred_labeled, labeled)
        loss_cls = self.unlabeled_loss(pred_strong, pseudo.views[0])
        return self.unlabeled_loss.combine(loss_x, loss_cls, labeled, pseudo.weak, loss_ctr=loss_ctr)

    @torch.no_grad()
    def _smoothed(
        self, labeled: Labeled, unlabeled: Unlabeled, on_labeled: tuple[Tensor, Tensor], weak: tuple[Tensor, Tensor]
    ) -> tuple[Pseudo, Tensor]:
        """Pseudo-labels and probabilities (B, K), q = α p + (1 - α) Σ_k a_k p_k over the images k of the memory, a_k a
        softmax of similarities. It takes in this step's p, and the labels of labelled images.
        """
        config, (logits, features) = self.config, weak
        plain = self.rule.aligned(logits, unlabeled.valid, (on_labeled[0], labeled))
        share = torch.where(self.bank.full() if self.past is None else self.active, config.smoothing, 1.0)
        smoothed = share * plain + (1 - share) * self.bank.average(features, config.instance_temperature)
        confidence, labels = smoothed.max(dim=1)
        pseudo = self.rule.targets(Prediction(labels, confidence, smoothed), unlabeled)
        hard = plain.new_zeros(len(labeled.labels), plain.shape[1]).scatter(1, labeled.labels.unsqueeze(1), 1.0)
        kinds = ((features, on_labeled[1]), (plain, hard), (unlabeled.valid, labeled.valid))
        self.bank.write(*(torch.cat([gather_over_processes(part) for part in kind]) for kind in kinds))
        return pseudo, smoothed

    def _contrast(self, labels: Tensor, valid: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """The mean of `_apart` over the images of all processes, both views with a gradient, ()."""
        labels, valid = gather_over_processes(labels), gather_over_processes(valid)
        first, second = learned_gather_over_processes(first), learned_gather_over_processes(second)
        return self._apart((labels, valid, first), (labels, valid, second), 0).sum() / valid.sum().clamp(min=1)

    def _contrast_with_past(
        self, past: FeatureQueue, labels: Tensor, target: Target, unlabeled: Unlabeled, first: Tensor, second: Tensor
    ) -> Tensor:
        """The same for the images of this process, beside those of all processes and of past steps; the teacher's
        features of second views `second` have no gradient, and are remembered.
        """
        views = [gather_over_processes(part) for part in (labels, unlabeled.valid, second)]
        remembered = (past.probabilities, past.seen, past.rows)
        beside = [torch.cat(pair) for pair in zip(views, remembered, strict=True)]
        own = (labels, unlabeled.valid, first)
        apart = self._apart(own, (beside[0], beside[1], beside[2]), unlabeled.positions.start)
        past.write(views[2], views[0], views[1])
        return (apart.sum(dim=1) / target.denominator).sum()

    def _apart(
        self, images: tuple[Tensor, Tensor, Tensor], others: tuple[Tensor, Tensor, Tensor], start: int
    ) -> Tensor:
        """Terms (B, J) of the cross-entropy between the graph of pseudo-labels, 1 for the image itself, which is
        `start` + b among the others, and else q_b · q_j where that reaches the threshold, and that of features,
        exp(z_b · z'_j / t); rows of both sum to 1. Given are labels, valid and features of images (B) and others (J).
        """
        (labels, valid, features), (other_labels, other_valid, other_features) = images, others
        both = valid.unsqueeze(1) & other_valid.unsqueeze(0)
        rows, columns = (torch.arange(len(part), device=labels.device) for part in (labels, other_labels))
        graph = torch.where(rows.unsqueeze(1) + start == columns, 1.0, labels @ other_labels.t())
        graph = torch.where(both & (graph >= self.config.graph_threshold), graph, 0.0)
        graph = graph / graph.sum(dim=1, keepdim=True).clamp(min=torch.finfo(graph.dtype).tiny)
        similarity = features @ other_features.t() / self.config.instance_temperature
        similarity = similarity.masked_fill(~both, torch.finfo(similarity.dtype).min)
        return -(graph * similarity.log_softmax(dim=1))


plugin = CoMatch
