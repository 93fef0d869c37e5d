"""Scores of segmentation, change detection and classification, against torchmetrics and by hand."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_f1_score,
    binary_jaccard_index,
    binary_precision,
    binary_recall,
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from semikit.core.task import Scores
from semikit.metrics.change import change_metrics
from semikit.metrics.classification import classification_metrics
from semikit.metrics.confusion import Average, count
from semikit.metrics.scoring import confusion_matrix, nothing_counted, scores_of
from semikit.metrics.segmentation import segmentation_metrics
from tests.helpers.sync_counter import SyncCounter

CPU = torch.device("cpu")
NAMES = ("unchanged", "changed")


def change_scores(matrix: Tensor, names: tuple[str, ...] = NAMES, average: Average = "paper") -> Scores:
    metrics = change_metrics(len(names), average)
    confusion_matrix(metrics).add_(matrix)
    return scores_of(metrics, names)


def segmentation_scores(matrix: Tensor, average: Average = "paper") -> Scores:
    metrics = segmentation_metrics(len(matrix), average)
    confusion_matrix(metrics).add_(matrix)
    return scores_of(metrics, "abc"[: len(matrix)])


def test_two_classes_as_torchmetrics_has_them() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 40, 50, generator=generator) < 0.2
    predicted = truth ^ (torch.rand(truth.shape, generator=generator) < 0.15)
    valid = torch.rand(truth.shape, generator=generator) < 0.8
    scores = change_scores(count(predicted.long(), truth.long(), valid, 2))
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
    scores = change_scores(matrix, ("same", "house", "road"))
    assert scores.value == pytest.approx(100 * (10 / 16 + 30 / 37) / 2)
    assert scores.extra["precision"] == pytest.approx(100 * (10 / 12 + 30 / 33) / 2)
    assert scores.extra["recall"] == pytest.approx(100 * (10 / 14 + 30 / 34) / 2)
    assert scores.extra["OA"] == pytest.approx(90.0)


def test_nothing_changed_and_nothing_predicted() -> None:
    matrix = torch.tensor([[90, 0], [0, 0]])
    for average in ("paper", "present"):
        scores = change_scores(matrix, average=average)
        assert (scores.value, scores.extra["OA"], scores.per_class["changed"]) == (0.0, 100.0, 0.0)


def test_an_absent_class_counts_0_or_not_at_all() -> None:
    matrix = torch.tensor([[50, 2, 0], [1, 10, 0], [0, 0, 0]])
    paper, present = (change_scores(matrix, ("a", "b", "c"), way) for way in ("paper", "present"))
    assert present.value == pytest.approx(2 * paper.value) == pytest.approx(100 * 10 / 13)


def test_absent_classes_of_segmentation_both_ways() -> None:
    matrix = torch.tensor([[6, 2, 0], [0, 4, 0], [0, 0, 0]])
    paper, present = segmentation_scores(matrix), segmentation_scores(matrix, "present")
    assert paper.metric == "mIoU"
    assert paper.per_class == pytest.approx({"a": 75.0, "b": 100 * 4 / 6, "c": 0.0})
    assert paper.value == pytest.approx((75 + 400 / 6) / 3)
    assert present.value == pytest.approx((75 + 400 / 6) / 2)
    for scores in (paper, present):
        assert scores.extra["mIoU_paper"] == paper.value
        assert scores.extra["mIoU_present"] == present.value
        assert scores.extra["pixel_accuracy"] == pytest.approx(100 * 10 / 12)
        assert scores.extra["mean_class_accuracy"] == pytest.approx((75 + 100) / 2)


def test_a_class_without_a_score_is_left_out_of_it() -> None:
    scores = segmentation_scores(torch.tensor([[6, 2, 0], [0, 4, 0], [1, 1, 0]]))
    assert scores.class_scores["recall"] == pytest.approx({"a": 75.0, "b": 100.0, "c": 0.0})
    assert scores.class_scores["precision"] == pytest.approx({"a": 600 / 7, "b": 400 / 7})
    assert scores.class_scores["F1"] == pytest.approx({"a": 80.0, "b": 800 / 11, "c": 0.0})
    assert "NaN" not in json.dumps(scores.plain())


def test_classification_as_torchmetrics_has_it() -> None:
    """Class 6 is neither in the truth nor predicted."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 7, generator=generator)
    logits[:, 6] = -100
    labels = torch.randint(6, (300,), generator=generator)
    confidence, predicted = logits.softmax(1).max(1)
    batch = {"logits": logits, "confidence": confidence, "predicted": predicted, "labels": labels}
    metrics = classification_metrics(7, 15, CPU)
    assert nothing_counted(metrics)
    with SyncCounter() as counter:
        metrics.update(**batch, valid=torch.ones(300, dtype=torch.bool))
    assert not counter.found
    scores = scores_of(metrics, tuple("abcdefg"))
    assert (scores.metric, list(scores.per_class)) == ("top-1", list("abcdef"))
    assert scores.value == pytest.approx(100 * float((predicted == labels).float().mean()))
    for name, expected in (
        ("balanced_accuracy", multiclass_recall(predicted, labels, 7, average="macro")),
        ("macro_F1", multiclass_f1_score(predicted, labels, 7, average="macro")),
        ("top-5", multiclass_accuracy(logits, labels, 7, average="micro", top_k=5)),
    ):
        assert scores.extra[name] == pytest.approx(100 * float(expected), abs=1e-4), name
    for name, function in (
        ("precision", multiclass_precision), ("recall", multiclass_recall), ("F1", multiclass_f1_score),
    ):  # fmt: skip
        expected = [100 * value for value in function(predicted, labels, 7, average=None).tolist()[:6]]
        assert list(scores.class_scores[name].values()) == pytest.approx(expected, abs=1e-4), name


def test_five_classes_have_no_top_5() -> None:
    assert len(classification_metrics(5, 15, CPU)) == 2
