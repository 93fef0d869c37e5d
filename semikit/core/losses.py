"""Losses over valid positions with given denominators: supervised, with hard examples, and the unlabelled loss."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semikit.core.batch import Labeled, Normalise, RunInfo, StepResult, Target
from semikit.core.counts import class_counts
from semikit.core.schedules import linear_ramp, steps_of
from semikit.core.settings import Ohem, UnlabeledSettings
from semikit.distributed.collectives import (
    gather_over_processes,
    over_all_processes,
    own_part,
    process_count,
    sum_over_processes,
)


def denominators(valid: Tensor, group: int, normalise: Normalise) -> Tensor:
    """What the summed loss of each image is divided by, (B,) float32, so that adding up gives the loss of the batch.

    `valid` is (B, *S) bool. 'total': the count over the total batch, the same for all images. 'process': the count of
    the image's group times the number of groups, i.e. a mean over groups of `group` consecutive images of the total
    batch (as released, where a group was one process's batch). Never below 1. Where processes share the step all of
    them must call this: gradients are averaged over them, so counts over the total batch are divided by their number.
    """
    counts = valid.reshape(len(valid), -1).sum(dim=1)
    if normalise == "total":
        total = sum_over_processes(counts.sum()).clamp(min=1) / process_count()
        return total.float().expand(len(valid)).clone()
    cross_rank = len(valid) % group > 0  # a group may reach into other processes
    groups = torch.split(gather_over_processes(counts) if cross_rank else counts, group)
    found = torch.cat([part.sum().clamp(min=1).expand(len(part)) for part in groups]).float() * len(groups)
    if not cross_rank:
        return found
    return found[own_part(len(found))] / process_count()


def masked_cross_entropy(logits: Tensor, labels: Tensor, mask: Tensor, denominator: Tensor) -> Tensor:
    """The sum over images of (sum over positions of cross-entropy · mask) / denominator, ().

    logits (B, K, *S); labels (B, *S) int64, within the classes also where masked out; mask (B, *S), bool or weights
    >= 0; denominator (B,) > 0. Where the mask is 0 nothing is added and no gradient flows, also where the loss is
    infinite there. At least float32, also under autocast.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return _masked_sum(_cross_entropy(logits, labels), mask, denominator)


def masked_soft_cross_entropy(logits: Tensor, probabilities: Tensor, mask: Tensor, denominator: Tensor) -> Tensor:
    """As `masked_cross_entropy`, with soft labels: probabilities (B, K, *S) that sum to 1 over the classes."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = -(probabilities * logits.log_softmax(dim=1)).sum(dim=1)
    return _masked_sum(loss, mask, denominator)


def masked_squared_error(logits: Tensor, probabilities: Tensor, mask: Tensor, denominator: Tensor) -> Tensor:
    """As `masked_cross_entropy`, with the mean over classes of the squared difference of probabilities (B, K, *S)."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = (logits.softmax(dim=1) - probabilities).square().mean(dim=1)
    return _masked_sum(loss, mask, denominator)


def _masked_sum(loss: Tensor, mask: Tensor, denominator: Tensor) -> Tensor:
    """The sum over images of (sum over positions of loss (B, *S) · mask (B, *S)) / denominator (B,), ()."""
    if mask.is_floating_point():
        loss = loss * mask
    # Replaced, not multiplied: 0 times an infinite loss would be NaN, in the sum and in the gradient.
    masked = torch.where(mask > 0, loss, 0.0)
    return (masked.reshape(len(masked), -1).sum(dim=1) / denominator).sum()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of every position, (B, *S)."""
    last = logits.movedim(1, -1)
    if not last.is_contiguous():
        return F.cross_entropy(logits, labels, reduction="none")
    # Logits laid out channels last would be copied; over the last axis they are taken as they lie, in half the time.
    return F.cross_entropy(last.flatten(0, -2), labels.flatten(), reduction="none").view(labels.shape)


def ohem_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    valid: Tensor,
    denominator: Tensor,
    group: int,
    ohem: Ohem,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy over the hard positions of each group of `group` consecutive images, ().

    `weights` (B, *S) >= 0 multiply the loss of each position; which are hard does not depend on them.
    A group's loss is the mean over its hard positions (as released); it counts by its share of valid positions, which
    is the plain mean over groups where `denominators` was called with 'process'. Shapes as `masked_cross_entropy`.
    """
    chosen, scale = [], []
    for start in range(0, len(labels), group):
        part = slice(start, start + group)
        hard = hard_positions(logits[part].detach(), labels[part], valid[part], ohem)
        chosen.append(hard)
        scale.append((hard.sum().clamp(min=1) / valid[part].sum().clamp(min=1)).expand(len(hard)))
    mask = torch.cat(chosen)
    mask = mask if weights is None else mask * weights
    return masked_cross_entropy(logits, labels, mask, denominator * torch.cat(scale))


def hard_positions(logits: Tensor, labels: Tensor, valid: Tensor, ohem: Ohem) -> Tensor:
    """Valid positions where the true class is improbable, (B, *S) bool.

    Improbable is at most `threshold`, or the `min_kept`-th smallest probability if that is larger; with `min_kept` 0
    or fewer valid positions than that all valid ones are learned from (as released). Static shapes.
    """
    if ohem.min_kept == 0:
        return valid
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    true = logits.softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    probability = torch.where(valid, true, 1.0)  # sorted behind every valid position
    smallest = probability.flatten().topk(min(ohem.min_kept, probability.numel()), largest=False, sorted=False)
    nth = smallest.values.max()  # as kthvalue gives it, which takes a single block of a device
    hard = probability <= nth.clamp(min=ohem.threshold)
    return valid & (hard | (valid.sum() < ohem.min_kept))


LABELED, PREDICTED = "labeled_classes", "predicted_classes"
"""Logs (K,) of a step: how often each class comes among labelled positions and among pseudo-labels, by weight."""


@final
class UnlabeledLoss(nn.Module):
    """The loss of strong views, its weight λ at each step, and the loss of the step.

    `weight` () is λ. It is a tensor set before `forward` of the method, so that a compiled step is not compiled anew
    when λ grows. The trainer's guards may let it grow again, from another `ramp_start` on.
    """

    weight: Tensor

    def __init__(self, config: UnlabeledSettings, run_info: RunInfo) -> None:
        super().__init__()
        self.config = config
        self.num_classes = run_info.num_classes
        self.ramp_start = 0
        self.ramp_iterations = steps_of(config.ramp, run_info.iterations)
        self.register_buffer("weight", torch.tensor(config.weight), persistent=False)

    def begin(self, step: int) -> float:
        """Set λ for a step (from 0); how far it has grown, 0..1."""
        grown = linear_ramp(step - self.ramp_start, self.ramp_iterations)
        self.weight.fill_(self.config.weight * grown)
        return grown

    def forward(self, logits: Tensor, target: Target) -> Tensor:
        """Cross-entropy of a view (B, K, *S) with its target, ().

        Divided by the count of valid positions, not of confident ones: few confident positions mean a small loss
        (as released; paper eq. 4).
        """
        weights, logits = loss_weights(target), with_margin(logits, target)
        if target.probabilities is not None:
            return masked_soft_cross_entropy(logits, target.probabilities, weights, target.denominator)
        return masked_cross_entropy(logits, target.labels, weights, target.denominator)

    def combine(
        self, loss_x: Tensor, loss_u: Tensor, labeled: Labeled, weak: Target | None, **more: Tensor
    ) -> StepResult:
        """The loss of the step from its supervised and unlabelled parts (), with the logs.

        `more` are further parts (), already weighted, added by name. `confident` is the share of valid positions of
        the weak views that count, by weight (0..1); where the truth is known, `known` is the part of it whose truth is,
        and `right` the part of that with the right class. All logs add up over micro-batches, as the loss does.
        """
        assert weak is not None
        loss = loss_x + self.weight * loss_u
        for part in more.values():
            loss = loss + part
        if self.config.loss == "released":  # which halves the sum at weight 1, and with it the learning rate of SGD
            loss = loss / (1 + self.weight)
        logs = {"loss": loss, "loss_x": loss_x, "loss_u": loss_u, "confident": _share(weak.weights, weak), **more}
        if weak.truth is not None:
            logs["known"] = _share(weak.weights * (weak.truth >= 0), weak)
            logs["right"] = _share(weak.weights * (weak.truth == weak.labels), weak)
        # Logs are averaged over the processes: counts of the total batch come out.
        logs[LABELED] = over_all_processes(class_counts(labeled.labels, labeled.valid, self.num_classes))
        logs[PREDICTED] = over_all_processes(class_counts(weak.labels, weak.weights, self.num_classes))
        return StepResult(loss, {name: value.detach() for name, value in logs.items()})


def with_margin(logits: Tensor, target: Target) -> Tensor:
    """Logits (B, K, *S) with the margin of each class, where there is one."""
    if target.margin is None:
        return logits
    return logits + target.margin.view(*target.margin.shape, *[1] * (logits.dim() - 2))


def loss_weights(target: Target) -> Tensor:
    """How much each position counts in the loss, (B, *S), bool or float."""
    return target.weights if target.class_weights is None else target.weights * target.class_weights


def _share(weights: Tensor, weak: Target) -> Tensor:
    """How much of the valid positions weights (B, *S) take, ()."""
    return (weights.reshape(len(weights), -1).sum(dim=1) / weak.denominator).sum()
