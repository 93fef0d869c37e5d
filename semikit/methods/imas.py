"""iMAS (Zhao et al. 2023): images count, and are changed, by how well student and teacher agree on them.

Tasks: seg, cd
Paper: arXiv 2211.11335
Cost: 1.5
For: unlabelled images of very different difficulty; the labelling pass costs twice as much
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from semikit.core.batch import Labeled, Prediction, Pseudo, Requirements, RunInfo, StepResult, Unlabeled, to_device
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.mixing import box_mask, boxes_about, mix_images
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits, predicted
from semikit.core.rng import rng_for
from semikit.core.settings import UnlabeledSettings
from semikit.core.student_views import check_forward, student_views
from semikit.core.thresholds import FixedThreshold
from semikit.distributed.collectives import gather_over_processes, mean_over_processes

_SIDES = (0.1, 0.9)
"""As released for Cityscapes: sides of a box as parts of the image's."""
_MARGIN = 16
"""As released: the middle of a box lies behind the first sixteenth of the rows and columns."""


@final
class IMASConfig(UnlabeledSettings):
    """Settings of iMAS, as published for Cityscapes; the recipes of the tasks draw two intensities for each image."""

    threshold: float = Field(default=0.7, ge=0, le=1)
    """Least confidence of a pseudo-label that counts (0..1); 0: all count."""
    weight: float = Field(default=3.0, ge=0)
    """Weight λ of the unlabelled loss."""
    loss: Literal["released", "paper"] = "paper"
    """paper: labelled + λ · unlabelled; released: that divided by 1 + λ, as UniMatch's segmentation code does."""
    background: int | None = Field(default=None, ge=0)
    """A class whose agreement does not count (0 in the released code); null: every class counts by its pixels."""
    forward: Literal["auto", "fused", "separate"] = "auto"
    """How images pass through the student: auto, fused or separate."""


@final
class IMAS(Method):
    """Every image has an agreement γ in 0..1 of student and teacher (0: hard), which is the weight of its loss, how far
    its colours are changed, with which image it is mixed, and how often it is.
    """

    Config = IMASConfig
    config: IMASConfig

    @classmethod
    def requirements(cls, config: IMASConfig) -> Requirements:
        """One strong view of pixels, not mixed."""
        return Requirements(strong_views=1, pixels=True, own_mixing=True)

    def __init__(self, network: Network, config: IMASConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule(run_info, FixedThreshold(config.threshold), class_balance=config.class_balance)

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """Labels and agreement of the weak views; the two views that are learned, with their targets."""
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        config = self.config
        logits = predict_logits(self.label_source, unlabeled.weak, self.label_pass)
        found = (predicted(predict_logits(self.student, unlabeled.weak)), predicted(logits))
        classes = self.run_info.num_classes
        agreed = agreement(*found, unlabeled.valid, classes, config.threshold, config.background)
        box, chance = self._draws(unlabeled, step)
        pseudo = self.rule(logits, unlabeled)
        (target,) = pseudo.views
        changed = _between(unlabeled.weak, unlabeled.strong[0], agreed)
        pool, partner = unlabeled.weak, self._partners(agreed, unlabeled)
        if unlabeled.cross_rank:
            pool = gather_over_processes(pool)
        mixed = mix_images(unlabeled.weak, box, pool, partner)
        mixed_target = self.rule.mixed(target, box, target, partner, unlabeled.cross_rank)
        half = 0.5 * (chance < mean_over_processes(agreed.mean()))  # a mixed view is learned beside the changed one
        weight = agreed[:, None, None]
        views = (
            replace(target, weights=target.weights * weight * (1 - half)),
            replace(mixed_target, weights=mixed_target.weights * weight * half),
        )
        return replace(pseudo, views=views, images=(changed, mixed))

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss, and that of both views."""
        assert unlabeled is not None
        assert pseudo is not None
        unlabeled, config = replace(unlabeled, strong=pseudo.images), self.config
        pred = student_views(self.student, labeled, unlabeled, config.forward, statistics=config.batch_norm)
        changed, mixed = map(self.unlabeled_loss, pred.strong, pseudo.views)
        loss_x = self.supervised_loss(pred.labeled, labeled)
        return self.unlabeled_loss.combine(loss_x, changed + mixed, labeled, pseudo.weak)

    def _partners(self, agreed: Tensor, unlabeled: Unlabeled) -> Tensor:
        """Whose box each image gets, (B,) int64, counted as `unlabeled.partner` is."""
        if not unlabeled.cross_rank:
            return opposite(agreed, self.run_info.group)
        own = slice(unlabeled.positions.start, unlabeled.positions.stop)
        return opposite(gather_over_processes(agreed), self.run_info.group)[own]

    def _draws(self, unlabeled: Unlabeled, step: int) -> tuple[Tensor, Tensor]:
        """Boxes (B, H, W) bool by where the images stand in the total batch, and a number in 0..1 of the step, ()."""
        seed, last = self.run_info.seed, unlabeled.positions.stop
        size = (unlabeled.valid.shape[-2], unlabeled.valid.shape[-1])
        sides = rng_for(seed, "box-sides", step).uniform(*_SIDES, last)
        boxes = boxes_about(sides, rng_for(seed, "box-places", step).random((last, 2)), size, _MARGIN)
        chance = torch.tensor(rng_for(seed, "box-chance", step).random(), dtype=torch.float32)
        boxes, chance = to_device((boxes[unlabeled.positions.start :], chance), unlabeled.weak.device)
        return box_mask(boxes, size), chance


def _between(weak: Tensor, strong: Tensor, share: Tensor) -> Tensor:
    """Weak images (B, ...), as far as share (B,) in 0..1 says towards strong ones."""
    return torch.lerp(weak, strong, share.to(weak.dtype).view(-1, *[1] * (weak.dim() - 1)))


@torch.no_grad()
def agreement(
    student: Prediction, teacher: Prediction, valid: Tensor, num_classes: int, threshold: float, background: int | None
) -> Tensor:
    """Of two predictions (B, H, W) where valid (B, H, W) bool, (B,) in 0..1: the IoU of the classes, weighed by how
    many pixels of the teacher's or of the student's each has, times the share of pixels with at least the confidence
    `threshold`; the mean of both. A class `background` has no weight.
    """
    classes = torch.arange(num_classes, device=valid.device).view(-1, 1, 1)
    one, other = ((found.labels.unsqueeze(1) == classes) & valid.unsqueeze(1) for found in (student, teacher))
    both, *counts = ((mask.flatten(2).sum(dim=2)).float() for mask in (one & other, one, other))
    iou = both / (counts[0] + counts[1] - both).clamp(min=1)
    found = []
    for prediction, count in zip((student, teacher), counts, strict=True):
        if background is not None:
            count = count * (torch.arange(num_classes, device=valid.device) != background)
        weighed = (iou * count).sum(dim=1) / count.sum(dim=1).clamp(min=1)
        sure = ((prediction.confidence >= threshold) & valid).flatten(1).sum(dim=1)
        found.append(weighed * sure / valid.flatten(1).sum(dim=1).clamp(min=1))
    return (found[0] + found[1]) / 2


def opposite(values: Tensor, group: int) -> Tensor:
    """For each of values (B,) the place of the one that is as far from the other end of their order, in consecutive
    groups: the least with the greatest, (B,) int64.
    """
    orders = [part.argsort() for part in torch.split(values, group)]
    pairs = [torch.empty_like(order).scatter(0, order, order.flip(0)) for order in orders]
    return torch.cat([pair + group * number for number, pair in enumerate(pairs)])


plugin = IMAS
