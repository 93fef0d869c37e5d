"""The confusion matrix and what is read off it. All results are fractions 0..1, float64.

K classes; matrix (K, K) int64, row = true class, column = predicted class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from semikit.core.counts import cell_counts

Average = Literal["paper", "present"]


def count(predicted: Tensor, labels: Tensor, valid: Tensor, num_classes: int, rows: int | None = None) -> Tensor:
    """The confusion matrix (K, K) of predicted and true classes (B, *S) int64 at valid positions (B, *S) bool.

    Labels may hold anything where invalid. Matrices of batches and processes add up. Of `rows` labels other
    than the classes it is (rows, K).
    """
    # Invalid positions count 0 in the first cell: shapes stay static, and the device is not asked how many there are.
    cell = torch.where(valid, labels * num_classes + predicted, 0).flatten()
    counts = cell_counts(cell, valid.flatten().long(), (rows or num_classes) * num_classes)
    return counts.view(-1, num_classes)


def iou(matrix: Tensor) -> Tensor:
    """Intersection over union of each class, (K,); NaN for a class that is neither in the truth nor predicted."""
    matrix = matrix.cpu().double()
    hits = matrix.diagonal()
    return hits / (matrix.sum(dim=0) + matrix.sum(dim=1) - hits)


def occurring(matrix: Tensor) -> Tensor:
    """Which classes the truth holds, (K,) bool."""
    return matrix.cpu().sum(dim=1) > 0


def of_occurring(values: Tensor, matrix: Tensor) -> Tensor:
    """The scores of classes (K,), NaN for a class without truth: what is predicted of it is wrong, whatever it is."""
    return values.masked_fill(~occurring(matrix), torch.nan)


def class_mean(values: Tensor, occurs: Tensor, average: Average) -> Tensor:
    """The mean of the scores of classes (K,), (); what is not defined (NaN) counts 0.

    With 'paper' (as released) it is that of all classes, with 'present' of those that `occurs` (K,) in the truth; NaN
    where none does.
    """
    values = values.nan_to_num(nan=0.0)
    return values.mean() if average == "paper" else values[occurs].mean()


def mean_iou(matrix: Tensor, average: Average = "paper") -> Tensor:
    """Mean IoU, (), as `class_mean` has it."""
    return class_mean(iou(matrix), occurring(matrix), average)


def accuracy(matrix: Tensor) -> Tensor:
    """Share of positions with the right class, (); NaN where nothing was counted."""
    matrix = matrix.cpu().double()
    return matrix.diagonal().sum() / matrix.sum()


def precision(matrix: Tensor) -> Tensor:
    """Share of a class's predictions that are right, (K,); NaN for a class never predicted."""
    matrix = matrix.cpu().double()
    return matrix.diagonal() / matrix.sum(dim=0)


def recall(matrix: Tensor) -> Tensor:
    """Share of a class's positions that were found, (K,); NaN for a class not in the truth."""
    matrix = matrix.cpu().double()
    return matrix.diagonal() / matrix.sum(dim=1)


def f1(matrix: Tensor) -> Tensor:
    """Harmonic mean of precision and recall, 2 · IoU / (1 + IoU), (K,); NaN where the IoU is."""
    values = iou(matrix)
    return 2 * values / (1 + values)


class ConfusionMetric(Metric, ABC):
    """Scores that are read off one confusion matrix, the state `matrix` (K, K) int64.

    `compute` returns scores by name, () each, and those of the classes as `per_class/NAME`, (K,); see `scoring`.
    """

    full_state_update = False
    matrix: Tensor

    def __init__(self, num_classes: int, average: Average = "paper") -> None:
        super().__init__(sync_on_compute=False)  # `scoring.sum_states` adds up all metrics in one collective
        self.average: Average = average
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor, valid: Tensor) -> None:
        """Count a batch; arguments as for `count`."""
        self.matrix += count(predicted, labels, valid, len(self.matrix))

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """The scores."""

    def class_scores(self, main: str, values: Tensor) -> dict[str, Tensor]:
        """The score `main` of each class, `values` (K,), then precision, recall, F1; NaN for a class without truth."""
        scores = {
            main: values,
            "precision": precision(self.matrix),
            "recall": recall(self.matrix),
            "F1": f1(self.matrix),
        }
        return {f"per_class/{name}": of_occurring(found, self.matrix) for name, found in scores.items()}
