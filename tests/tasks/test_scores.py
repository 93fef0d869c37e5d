"""What is read off a confusion matrix, against torchmetrics and by hand."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_f1_score,
    binary_jaccard_index,
    binary_precision,
    binary_recall,
)

from semikit.inference.windows import EvaluateSettings
from semikit.metrics import confusion
from semikit.tasks._scores import change_scores

NAMES = ("unchanged", "changed")


def test_two_classes_as_torchmetrics_has_them() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 40, 50, generator=generator) < 0.2
    predicted = truth ^ (torch.rand(truth.shape, generator=generator) < 0.15)
    valid = torch.rand(truth.shape, generator=generator) < 0.8
    scores = change_scores(confusion.count(predicted.long(), truth.long(), valid, 2), NAMES, EvaluateSettings())
    pair = predicted[valid].int(), truth[valid].int()
    assert scores.metric == "IoU"
    assert scores.value == pytest.approx(100 * float(binary_jaccard_index(*pair)), abs=1e-4)
    assert scores.per_class["changed"] == scores.value
    assert scores.per_class["unchanged"] == pytest.approx(
        100 * float(binary_jaccard_index(1 - pair[0], 1 - pair[1])), abs=1e-4
    )
    for name, metric in (
        ("F1", binary_f1_score), ("precision", binary_precision), ("recall", binary_recall), ("OA", binary_accuracy),
    ):  # fmt: skip
        assert scores.extra[name] == pytest.approx(100 * float(metric(*pair)), abs=1e-4), name


def test_several_classes_of_change() -> None:
    """The mean over all but the first class."""
    matrix = torch.tensor([[50, 2, 0], [1, 10, 3], [4, 0, 30]])
    scores = change_scores(matrix, ("same", "house", "road"), EvaluateSettings())
    assert scores.value == pytest.approx(100 * (10 / 16 + 30 / 37) / 2)
    assert scores.extra["precision"] == pytest.approx(100 * (10 / 12 + 30 / 33) / 2)
    assert scores.extra["recall"] == pytest.approx(100 * (10 / 14 + 30 / 34) / 2)
    assert scores.extra["OA"] == pytest.approx(90.0)


def test_nothing_changed_and_nothing_predicted() -> None:
    matrix = torch.tensor([[90, 0], [0, 0]])
    for average in ("paper", "present"):
        scores = change_scores(matrix, NAMES, EvaluateSettings(average=average))
        assert (scores.value, scores.extra["OA"], scores.per_class["changed"]) == (0.0, 100.0, 0.0)


def test_an_absent_class_counts_0_or_not_at_all() -> None:
    matrix = torch.tensor([[50, 2, 0], [1, 10, 0], [0, 0, 0]])
    paper, present = (change_scores(matrix, "abc", EvaluateSettings(average=way)) for way in ("paper", "present"))
    assert present.value == pytest.approx(2 * paper.value) == pytest.approx(100 * 10 / 13)
