"""CorrMatch (Sun et al. 2024): correlation between places spreads confident labels over the regions they lie in.

Tasks: seg, cd
Paper: arXiv 2306.04300
Cost: 1.7
For: large regions of one class with confident and less confident parts
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semikit.core.batch import Labeled, Prediction, Pseudo, Requirements, RunInfo, StepResult, Target, Unlabeled
from semikit.core.batch_norm import unrecorded
from semikit.core.channel_dropout import feature_dropout
from semikit.core.draws import step_draws, torch_seeded
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits, predicted
from semikit.core.running_averages import Mean, follow
from semikit.core.settings import Teacher, UnlabeledSettings
from semikit.core.student_views import dropped_views
from semikit.core.thresholds import Threshold
from semikit.distributed.collectives import gather_over_processes

_CHUNK = 16
"""Regions of an image that are judged at once: a map of all 128 at the size of the crops takes gigabytes."""


@final
class CorrMatchConfig(UnlabeledSettings):
    """Settings of CorrMatch. As published the student labels and the EMA teacher is for evaluation only."""

    teacher: Teacher = "student"
    """Whose pseudo-labels: the student's own, out of its training pass, the EMA teacher's, or auto (see ema)."""
    threshold: float = Field(default=0.85, ge=0, le=1)
    """Threshold of the first step (0..1); afterwards it follows the greatest confidence of each class."""
    momentum: float = Field(default=0.999, ge=0, lt=1)
    """What the threshold keeps of itself at each step (0..1)."""
    rate: float = Field(default=0.5, gt=0, lt=1)
    """Share of the channels dropped from the weak view's features (0..1)."""
    regions: int = Field(default=128, ge=0)
    """Places of an image whose correlation makes a region that labels may spread over; 0: no region propagation."""
    width: int | None = Field(default=None, ge=1)
    """Channels that places are compared by; null: as many as classes, as released, but at least 16."""


@final
class CorrMatch(Method):
    """Consistency as in UniMatch V1, with labels that spread: softly, as logits averaged by the correlation between
    places (pixel propagation), and in regions of places alike where most are sure of one class (region propagation).
    """

    Config = CorrMatchConfig
    config: CorrMatchConfig

    @classmethod
    def requirements(cls, config: CorrMatchConfig) -> Requirements:
        """One strong view of pixels, and a second weak batch to mix with."""
        return Requirements(strong_views=1, partner_batch=True, pixels=True)

    @classmethod
    def needs_full_batch(cls, config: CorrMatchConfig) -> bool:
        """Where the student labels: pseudo-labels come out of the training pass."""
        return config.teacher == "student"

    def __init__(self, network: Network, config: CorrMatchConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.threshold = DynamicThreshold(run_info.num_classes, config.threshold, config.momentum)
        self.rule = PseudoLabelRule(run_info, self.threshold, soft_labels=1.0, class_balance=config.class_balance)
        width = config.width or max(run_info.num_classes, 16)
        with torch_seeded(run_info.seed, "correlation"):
            self.correlation = Correlation(network.widths[-1], width)

    def extra_parameters(self) -> list[nn.Parameter]:
        """Those of the correlation."""
        return list(self.correlation.parameters())

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """The labels of the batch that is pasted into the strong view, judged by the threshold of the step before; the
        dropout of the step, and which places make regions.
        """
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        masks = feature_dropout(self.run_info, unlabeled, step, self.student.widths, self.config.rate)
        where = unlabeled.positions, unlabeled.weak.device
        draws = (step_draws(self.run_info.seed, "regions", step, *where, self.config.regions),)
        pseudo = Pseudo(partners=self._partners(unlabeled))
        if self.config.teacher != "student":
            logits = predict_logits(self.label_source, unlabeled.weak, self.label_pass)
            pseudo = self._labeled(logits, unlabeled, pseudo)
        return replace(pseudo, masks=masks, draws=draws)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised losses of logits and spread logits, and the mean of four unlabelled ones: of the strong view
        with spread labels and with soft ones, of dropped features, and of spread logits.
        """
        assert unlabeled is not None
        assert pseudo is not None
        count = len(labeled.images)
        features, pred_labeled, pred_weak, pred_dropped = dropped_views(
            self.student, labeled, unlabeled, pseudo.masks[0]
        )
        maps, spread = self.correlation(features.levels[-1], torch.cat([pred_labeled, pred_weak]))
        with unrecorded(self.student, self.config.batch_norm == "weak"):
            strong = self.student.encode(unlabeled.strong[0])
            pred_strong = self.student.decode(strong)
        _, spread_strong = self.correlation(strong.levels[-1], pred_strong)
        if self.config.teacher == "student":
            pseudo = self._labeled(pred_weak, unlabeled, pseudo)
        (target,), (draws,) = pseudo.views, pseudo.draws
        assert pseudo.weak is not None
        hard, weak = self._propagated(target, unlabeled, maps[count:], draws), replace(pseudo.weak, probabilities=None)
        loss_u = self.unlabeled_loss
        loss_x = (self.supervised_loss(pred_labeled, labeled) + self.supervised_loss(spread[:count], labeled)) / 2
        loss_correlation = (loss_u(spread_strong, hard) + loss_u(spread[count:], weak)) / 2
        losses = [loss_u(pred_strong, hard), loss_u(pred_strong, target), loss_u(pred_dropped, weak), loss_correlation]
        return loss_u.combine(loss_x, torch.stack(losses).mean(), labeled, pseudo.weak)

    def _partners(self, unlabeled: Unlabeled) -> Target:
        assert unlabeled.partner_batch is not None
        images, valid = unlabeled.partner_batch.images, unlabeled.partner_batch.valid
        logits = predict_logits(self.label_source, images, self.label_pass)
        return self.rule.partner_target(logits, valid, unlabeled.index)

    def _labeled(self, logits: Tensor, unlabeled: Unlabeled, pseudo: Pseudo) -> Pseudo:
        """With targets by logits (B, K, H, W) of the weak view, after the threshold has moved towards them."""
        self.threshold.observe(predicted(logits), unlabeled.valid)
        found = self.rule(logits, unlabeled, partners=pseudo.partners)
        return replace(found, masks=pseudo.masks, draws=pseudo.draws)

    def _propagated(self, target: Target, unlabeled: Unlabeled, maps: Tensor, draws: Tensor) -> Target:
        """The target with hard labels, spread over regions of the maps (B, N, h, w), outside the pasted boxes."""
        if not self.config.regions:
            return replace(target, probabilities=None)
        places = (draws * maps.shape[1]).long().clamp(max=maps.shape[1] - 1)
        rows = maps.gather(1, places[:, :, None, None].expand(-1, -1, *maps.shape[2:]))
        free = target.valid if not unlabeled.boxes else target.valid & ~unlabeled.boxes[0]
        labels, weights = propagated(
            target.labels, target.weights, free, rows, self.threshold.value, self.run_info.num_classes
        )
        return replace(target, labels=labels, weights=weights, probabilities=None)


@final
class DynamicThreshold(Threshold):
    """A threshold that follows the mean over the predicted classes of the greatest confidence of each.

    `value` () begins at `first`. What a step finds is taken over all processes.
    """

    value: Tensor

    def __init__(self, num_classes: int, first: float, momentum: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.momentum = momentum
        self.register_buffer("value", torch.tensor(first))

    @torch.no_grad()
    def observe(self, prediction: Prediction, valid: Tensor) -> None:
        """Take in the predictions (B, *S) of a step's weak views where they are valid (B, *S) bool; once a step."""
        classes = torch.arange(self.num_classes, device=valid.device).view(-1, *[1] * (valid.dim() - 1))
        chosen = (prediction.labels.unsqueeze(1) == classes) & valid.unsqueeze(1)
        greatest = torch.where(chosen, prediction.confidence.unsqueeze(1), 0.0).transpose(0, 1).flatten(1).amax(1)
        greatest = gather_over_processes(greatest.unsqueeze(0)).amax(0)
        count = (greatest > 0).sum()
        follow(self.value, Mean(greatest.sum() / count.clamp(min=1), count), self.momentum)

    def forward(self, prediction: Prediction, valid: Tensor, index: Tensor) -> Tensor:
        """Weights (B, *S) bool."""
        return (prediction.confidence >= self.value) & valid


@final
class Correlation(nn.Module):
    """How alike any two places of an image are, and logits averaged by it (pixel propagation).

    The published projection has batch norm and dropout after its first convolution; both are left out here: networks
    without batch norm are to have none, and nothing is drawn in a step's pass.
    """

    def __init__(self, inputs: int, width: int, hidden: int = 256) -> None:
        super().__init__()
        self.project = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.first, self.second = nn.Conv2d(hidden, width, 1), nn.Conv2d(hidden, width, 1)

    def forward(self, level: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, D, h, w), logits (B, K, H, W) -> maps (B, h·w, h, w) without gradient, of each place, which sum
        to 1, and spread logits (B, K, H, W), whose gradient reaches the maps alone.
        """
        size, projected = level.shape[-2:], self.project(level).relu()
        first, second = self.first(projected).flatten(2), self.second(projected).flatten(2)
        maps = correlation(first, second)
        coarse = F.interpolate(logits.detach(), size=size, mode="bilinear", align_corners=True).flatten(2)
        spread = (coarse.to(maps.dtype) @ maps).view(*logits.shape[:2], *size)
        spread = F.interpolate(spread, size=logits.shape[-2:], mode="bilinear", align_corners=True)
        return maps.detach().view(*maps.shape[:2], *size), spread


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Softmax over the last axis of the products of features (B, D, N) and (B, D, N), scaled by √D, (B, N, N)."""
    return (first.transpose(1, 2) @ second / math.sqrt(first.shape[1])).softmax(dim=-1)


@torch.no_grad()
def propagated(
    labels: Tensor, sure: Tensor, free: Tensor, rows: Tensor, threshold: Tensor, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Labels and what counts of them, (B, H, W) int64 and bool, after region propagation.

    Each map of `rows` (B, M, h, w), enlarged to the image, is a region where it exceeds the middle of its range, within
    `free` (B, H, W) bool. If at least the share `threshold` () of it is `sure` (B, H, W) bool, and more than that share
    of these has one class, the whole region gets that class and counts. All regions judge the labels as given; where
    some overlap the last one holds.
    """
    classes = torch.arange(num_classes, device=labels.device)
    spread, counted = labels, sure
    with torch.autocast(rows.device.type, enabled=False):  # counts of pixels are exact in float32, not in less
        is_class = (labels.flatten(1).unsqueeze(2) == classes).float()
        for part in torch.split(rows.float(), _CHUNK, dim=1):
            region = above_middle(part, (labels.shape[-2], labels.shape[-1])) & free.unsqueeze(1)
            votes = (region & sure.unsqueeze(1)).flatten(2).float() @ is_class
            total, (most, winner) = votes.sum(dim=2), votes.max(dim=2)
            accepted = (total / region.sum(dim=(2, 3)).clamp(min=1) >= threshold) & (total > 0)
            accepted &= most / total.clamp(min=1) > threshold
            order = torch.arange(1, part.shape[1] + 1, device=labels.device)
            last = torch.where(region & accepted[:, :, None, None], order[:, None, None], 0).amax(dim=1)
            found = winner.gather(1, (last - 1).clamp(min=0).flatten(1)).view(labels.shape)
            spread, counted = torch.where(last > 0, found, spread), counted | (last > 0)
    return spread, counted


def above_middle(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, M, h, w) -> where they exceed the middle of their range, (B, M, *size) bool; flat ones nowhere."""
    maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=True)
    low, high = (extreme(dim=(2, 3), keepdim=True) for extreme in (maps.amin, maps.amax))
    return maps - low > (high - low) / 2


plugin = CorrMatch
