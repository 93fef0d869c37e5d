"""Scores of change detection."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from semikit.core.transitions import Transitions
from semikit.metrics.confusion import (
    Average,
    ConfusionMetric,
    accuracy,
    class_mean,
    count,
    f1,
    iou,
    occurring,
    precision,
    recall,
)

_STEPS = 200
"""Into so many equal parts thresholds divide probabilities."""
_EPSILON = 1e-6
"""In the harmonic mean of xView2."""


@final
class ChangeScores(ConfusionMetric):
    """IoU, F1, precision and recall of the changed class, of several such classes their means; class 0 is where nothing
    changed. OA is the share of valid pixels with the right class.

    A class without truth has no scores of its own; in the means it counts 0 with `average: paper` (as released) and is
    left out with `present`. They are 0 where no change is in the truth.
    """

    def compute(self) -> dict[str, Tensor]:
        """Scores by name."""
        return _changed(self)


@final
class TransitionScores(ConfusionMetric):
    """The same of classes that lead from and to classes of land cover, and before them SeK, mIoU, Fscd and score of
    semantic change detection.

    These are of the land cover that the transitions say of both dates, each date a pixel of its own, as on SECOND.
    """

    def __init__(self, transitions: Transitions, average: Average) -> None:
        super().__init__(len(transitions.before), average)
        self.transitions = transitions

    def compute(self) -> dict[str, Tensor]:
        """Scores by name."""
        return {**semantic_change(of_both_dates(self.matrix, self.transitions)), **_changed(self)}


@final
class DamageScores(ConfusionMetric):
    """The same of grades of damage, where class 0 is no building, and before them score, damage_F1 and localisation_F1
    of xView2; `per_class/damage_F1` are the F1 of the grades.
    """

    def compute(self) -> dict[str, Tensor]:
        """Scores by name."""
        found, grades = damage(self.matrix, self.average)
        return {**found, **_changed(self), "per_class/damage_F1": grades}


@final
class ChosenThreshold(Metric):
    """The `scores` at the threshold of change, of 0.005, 0.01 … 0.995, with the best IoU of change of any kind, of
    several the nearest to 0.5; `threshold` says which.

    Pixels are counted by how many of these their probability reaches, so that every confusion matrix is exact.
    """

    full_state_update = False
    histogram: Tensor
    """Pixels by thresholds that are reached, true class, and most probable kind of change (_STEPS, K, K)."""

    def __init__(self, scores: ConfusionMetric) -> None:
        super().__init__(sync_on_compute=False)
        self.scores = scores
        empty = torch.zeros(_STEPS, *scores.matrix.shape, dtype=torch.long)
        self.add_state("histogram", empty, dist_reduce_fx="sum")

    def update(self, labels: Tensor, valid: Tensor, changed: Tensor, kind: Tensor) -> None:
        """Count a batch (B, H, W) by the probability that something `changed`, and the `kind` that it would be."""
        thresholds = torch.arange(1, _STEPS, device=changed.device) / _STEPS
        reached, classes = torch.bucketize(changed, thresholds, right=True), self.histogram.shape[-1]
        rows = count(kind, reached * classes + labels, valid, classes, _STEPS * classes)
        self.histogram += rows.view_as(self.histogram)

    def compute(self) -> dict[str, Tensor]:
        """Scores by name."""
        matrices = at_thresholds(self.histogram.cpu())
        hits = matrices[:, 1:, 1:].sum((1, 2)).double()
        errors = matrices[:, 0, 1:].sum(1) + matrices[:, 1:, 0].sum(1)
        values = (hits / (hits + errors)).nan_to_num(nan=0.0).tolist()
        best = max(range(len(values)), key=lambda k: (values[k], -abs(k + 1 - _STEPS // 2)))
        self.scores.matrix = matrices[best]
        return {**self.scores.compute(), "threshold": torch.tensor((best + 1) / _STEPS, dtype=torch.float64)}


def at_thresholds(histogram: Tensor) -> Tensor:
    """The confusion matrix at each threshold (_STEPS - 1, K, K), of the pixels that a histogram counts."""
    reached = histogram.flip(0).cumsum(0).flip(0)[1:]
    matrices = reached.clone()
    matrices[..., 0] = histogram.sum((0, 2)) - reached.sum(2)
    return matrices


def change_metrics(
    num_classes: int,
    average: Average,
    transitions: Transitions | None = None,
    *,
    damage: bool = False,
    choose: bool = False,
) -> MetricCollection:
    """What change detection is scored by; updated with predicted, labels and valid, (B, H, W), or, to `choose` a
    threshold, with what `ChosenThreshold` takes.
    """
    metric: ConfusionMetric = ChangeScores(num_classes, average)
    if damage:
        metric = DamageScores(num_classes, average)
    elif transitions is not None:
        metric = TransitionScores(transitions, average)
    return MetricCollection([ChosenThreshold(metric) if choose else metric], compute_groups=False)


def of_both_dates(matrix: Tensor, transitions: Transitions) -> Tensor:
    """The confusion matrix (K, K) of transitions -> that of the L classes of a date and unchanged (L + 1, L + 1), over
    the pixels of both dates.
    """
    counts = matrix.cpu().double()
    every = torch.eye(len(transitions.names) + 1, dtype=torch.float64)
    first, second = every[list(transitions.before)], every[list(transitions.after)]
    return first.T @ counts @ first + second.T @ counts @ second


def semantic_change(matrix: Tensor) -> dict[str, Tensor]:
    """Scores of a confusion matrix (L + 1, L + 1) of the land cover where something changed; class 0 is unchanged.

    mIoU is the mean of the IoU of unchanged and of changed, whatever to; SeK = kappa of the matrix without its first
    cell * exp(IoU of changed - 1); score = 0.3 mIoU + 0.7 SeK. Fscd is the F1 of changed pixels with the right class.
    What is not defined is 0.

    Source: Yang et al., Semantic Change Detection with Asymmetric Siamese Networks, 2021; as in
    LiheYoung/SenseEarth2020-ChangeDetection, utils/metric.py. Fscd: Ding et al., Bi-SRNet, 2022.
    """
    counts = matrix.double()
    rest = counts.clone()
    rest[0, 0] = 0
    binary = torch.stack([counts[0, 0], counts[0, 1:].sum(), counts[1:, 0].sum(), counts[1:, 1:].sum()]).view(2, 2)
    unchanged, changed = iou(binary).nan_to_num(nan=0.0)
    mean = (unchanged + changed) / 2
    sek = _kappa(rest) * torch.exp(changed - 1)
    fscd = 2 * counts[1:, 1:].diagonal().sum() / (counts[1:].sum() + counts[:, 1:].sum())
    return {"SeK": sek, "mIoU": mean, "Fscd": fscd.nan_to_num(nan=0.0), "score": 0.3 * mean + 0.7 * sek}


def damage(matrix: Tensor, average: Average) -> tuple[dict[str, Tensor], Tensor]:
    """Scores of a confusion matrix (K, K) of grades of damage, and the F1 (K,) of each grade; class 0 is no building.

    localisation_F1 is that of buildings, whatever their grade. The F1 of a grade is over the pixels that are buildings
    in the truth; damage_F1 is their harmonic mean, score = 0.3 localisation_F1 + 0.7 damage_F1.

    Source: DIUx-xView/xView2_scoring, xview2_metrics.py, which leaves out of the F1 of a grade what is predicted of it
    in images whose truth has none; here all images count.
    """
    counts = matrix.cpu().double()
    buildings, others = counts[1:, 1:], counts[0, 1:].sum() + counts[1:, 0].sum()
    located = (2 * buildings.sum() / (2 * buildings.sum() + others)).nan_to_num(nan=0.0)
    found = (2 * buildings.diagonal() / (buildings.sum(dim=0) + counts[1:].sum(dim=1))).nan_to_num(nan=0.0)
    occurs = occurring(matrix)[1:]
    counted = found if average == "paper" else found[occurs]
    graded = (1 / (1 / (counted + _EPSILON)).mean()).nan_to_num(nan=0.0)
    grades = torch.cat([torch.tensor([math.nan], dtype=torch.float64), found.masked_fill(~occurs, math.nan)])
    return {"score": 0.3 * located + 0.7 * graded, "damage_F1": graded, "localisation_F1": located}, grades


def _kappa(counts: Tensor) -> Tensor:
    """Cohen's kappa of a confusion matrix, (); 0 where it is not defined."""
    total = counts.sum()
    agreed, expected = counts.diagonal().sum() / total, (counts.sum(0) * counts.sum(1)).sum() / total**2
    defined = (total > 0) & (expected < 1)
    return torch.where(defined, (agreed - expected) / (1 - expected), torch.zeros((), dtype=torch.float64))


def _changed(metric: ConfusionMetric) -> dict[str, Tensor]:
    """The scores that all kinds of change have."""

    def mean(values: Tensor) -> Tensor:
        """Of all but the first class."""
        return class_mean(values[1:], occurring(metric.matrix)[1:], metric.average).nan_to_num(nan=0.0)

    return {
        "IoU": mean(iou(metric.matrix)),
        "F1": mean(f1(metric.matrix)),
        "precision": mean(precision(metric.matrix)),
        "recall": mean(recall(metric.matrix)),
        "OA": accuracy(metric.matrix),
        **metric.class_scores("IoU", iou(metric.matrix)),
    }
