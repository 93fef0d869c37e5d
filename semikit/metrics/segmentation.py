"""Scores of semantic segmentation."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torchmetrics import MetricCollection

from semikit.metrics.confusion import Average, ConfusionMetric, accuracy, iou, mean_iou, recall


@final
class SegmentationScores(ConfusionMetric):
    """mIoU as asked for, both ways beside it, pixel accuracy, and the mean of the recall of the classes in the truth.

    A class without truth has no scores of its own; with `average: paper` it counts 0 in the mIoU, as released, with
    `present` it is left out.
    """

    def compute(self) -> dict[str, Tensor]:
        """Scores by name."""
        return {
            "mIoU": mean_iou(self.matrix, self.average),
            "mIoU_paper": mean_iou(self.matrix, "paper"),
            "mIoU_present": mean_iou(self.matrix, "present"),
            "pixel_accuracy": accuracy(self.matrix),
            "mean_class_accuracy": recall(self.matrix).nanmean(),
            **self.class_scores("IoU", iou(self.matrix)),
        }


def segmentation_metrics(num_classes: int, average: Average) -> MetricCollection:
    """What segmentation is scored by; updated with predicted, labels and valid, (B, H, W)."""
    return MetricCollection([SegmentationScores(num_classes, average)], compute_groups=False)
