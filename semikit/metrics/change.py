"""Scores of change detection."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torchmetrics import MetricCollection

from semikit.metrics.confusion import Average, ConfusionMetric, accuracy, f1, iou, precision, recall


@final
class ChangeScores(ConfusionMetric):
    """IoU, F1, precision and recall of the changed class, of several such classes their means; class 0 is where nothing
    changed. OA is the share of valid pixels with the right class.

    A class that does not occur counts 0 with `average: paper` (as released), and in the IoU of each class; with
    `present` it is left out of the means.
    """

    def compute(self) -> dict[str, Tensor]:
        """Scores by name."""
        return {
            "IoU": self._changed(iou(self.matrix)),
            "F1": self._changed(f1(self.matrix)),
            "precision": self._changed(precision(self.matrix)),
            "recall": self._changed(recall(self.matrix)),
            "OA": accuracy(self.matrix),
            "per_class/IoU": iou(self.matrix).nan_to_num(nan=0.0),
            **self.class_scores(),
        }

    def _changed(self, values: Tensor) -> Tensor:
        """The mean of values (K,) over all but the first class."""
        values = values[1:]
        return values.nan_to_num(nan=0.0).mean() if self.average == "paper" else values.nanmean().nan_to_num(nan=0.0)


def change_metrics(num_classes: int, average: Average) -> MetricCollection:
    """What change detection is scored by; updated with predicted, labels and valid, (B, H, W)."""
    return MetricCollection([ChangeScores(num_classes, average)], compute_groups=False)
