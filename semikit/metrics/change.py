"""Scores of change detection."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torchmetrics import MetricCollection

from semikit.metrics.confusion import (
    Average,
    ConfusionMetric,
    accuracy,
    class_mean,
    f1,
    iou,
    occurring,
    precision,
    recall,
)


@final
class ChangeScores(ConfusionMetric):
    """IoU, F1, precision and recall of the changed class, of several such classes their means; class 0 is where nothing
    changed. OA is the share of valid pixels with the right class.

    A class without truth has no scores of its own; in the means it counts 0 with `average: paper` (as released) and is
    left out with `present`. They are 0 where no change is in the truth.
    """

    def compute(self) -> dict[str, Tensor]:
        """Scores by name."""
        return {
            "IoU": self._changed(iou(self.matrix)),
            "F1": self._changed(f1(self.matrix)),
            "precision": self._changed(precision(self.matrix)),
            "recall": self._changed(recall(self.matrix)),
            "OA": accuracy(self.matrix),
            **self.class_scores("IoU", iou(self.matrix)),
        }

    def _changed(self, values: Tensor) -> Tensor:
        """The mean of values (K,) over all but the first class."""
        return class_mean(values[1:], occurring(self.matrix)[1:], self.average).nan_to_num(nan=0.0)


def change_metrics(num_classes: int, average: Average) -> MetricCollection:
    """What change detection is scored by; updated with predicted, labels and valid, (B, H, W)."""
    return MetricCollection([ChangeScores(num_classes, average)], compute_groups=False)
