"""What is read off the confusion matrix of a task on pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from semikit.core.task import Scores
from semikit.inference.windows import EvaluateSettings
from semikit.metrics import confusion


def mean_iou_scores(matrix: Tensor, class_names: Sequence[str], settings: EvaluateSettings) -> Scores:
    """Percentages from a confusion matrix (K, K): mIoU as asked for, both ways beside it, and pixel accuracy.

    A class that does not occur has IoU 0 in `per_class`, as the paper counts it.
    """
    means = {way: float(confusion.mean_iou(matrix, way)) * 100 for way in ("paper", "present")}
    per_class = (confusion.iou(matrix).nan_to_num(nan=0.0) * 100).tolist()
    return Scores(
        metric="mIoU",
        value=means[settings.average],
        per_class=dict(zip(class_names, per_class, strict=True)),
        extra={
            "mIoU_paper": means["paper"],
            "mIoU_present": means["present"],
            "pixel_accuracy": float(confusion.pixel_accuracy(matrix)) * 100,
        },
    )


def change_scores(matrix: Tensor, class_names: Sequence[str], settings: EvaluateSettings) -> Scores:
    """Percentages from a confusion matrix (K, K) whose class 0 is where nothing changed.

    IoU, F1, precision and recall are those of the changed class, of several such classes their means; OA is the share
    of valid pixels with the right class. A class that does not occur counts 0 with `average: paper` (as released), and
    in `per_class`; with `present` it is left out of the means.
    """

    def changed(values: Tensor) -> float:
        kept = values[1:]
        mean = kept.nan_to_num(nan=0.0).mean() if settings.average == "paper" else kept.nanmean().nan_to_num(nan=0.0)
        return float(mean) * 100

    per_class = (confusion.iou(matrix).nan_to_num(nan=0.0) * 100).tolist()
    return Scores(
        metric="IoU",
        value=changed(confusion.iou(matrix)),
        per_class=dict(zip(class_names, per_class, strict=True)),
        extra={
            "F1": changed(confusion.f1(matrix)),
            "precision": changed(confusion.precision(matrix)),
            "recall": changed(confusion.recall(matrix)),
            "OA": float(confusion.pixel_accuracy(matrix)) * 100,
        },
    )
