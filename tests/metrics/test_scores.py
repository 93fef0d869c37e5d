"""Scores of segmentation, change detection and classification, against torchmetrics and by hand."""

from __future__ import annotations

import json
import math

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
from semikit.core.transitions import Transitions
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


def of_kind(
    matrix: list[list[int]], names: tuple[str, ...], average: Average = "paper", damage: bool = False
) -> Scores:
    metrics = change_metrics(len(names), average, Transitions.of(names), damage=damage)
    confusion_matrix(metrics).add_(torch.tensor(matrix))
    return scores_of(metrics, names)


def test_semantic_change_by_hand() -> None:
    """Both dates are counted: the land cover of 2 x 108 pixels is [[160, 4, 4], [2, 11, 3], [2, 3, 11]]."""
    names = ("unchanged", "a → b", "b -> a")
    scores = of_kind([[80, 4, 0], [2, 6, 2], [0, 1, 5]], names)
    kappa = (22 / 40 - 608 / 1600) / (1 - 608 / 1600)
    sek, mean = 100 * kappa * math.exp(28 / 40 - 1), 100 * (160 / 172 + 28 / 40) / 2
    assert (scores.metric, scores.value) == ("SeK", pytest.approx(sek))
    assert scores.extra["mIoU"] == pytest.approx(mean)
    assert scores.extra["Fscd"] == pytest.approx(100 * 2 * 22 / (32 + 36))
    assert scores.extra["score"] == pytest.approx(0.3 * mean + 0.7 * sek)
    assert scores.extra["IoU"] == pytest.approx(100 * (6 / 15 + 5 / 8) / 2)
    assert scores.per_class["b -> a"] == pytest.approx(100 * 5 / 8)


@pytest.mark.parametrize("matrix", [[[9, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [9, 0, 0], [0, 0, 0]]])
def test_what_semantic_change_does_not_define_is_0(matrix: list[list[int]]) -> None:
    scores = of_kind(matrix, ("unchanged", "a → b", "b → a"))
    assert (scores.value, scores.extra["Fscd"]) == (0.0, 0.0)


def test_grades_of_damage_by_hand() -> None:
    """The F1 of a grade is over buildings of the truth, and what is predicted as none there is missed."""
    matrix, names = [[90, 3, 1, 0], [2, 8, 2, 0], [1, 1, 6, 0], [0, 0, 0, 0]], ("none", "intact", "destroyed", "lost")
    located, intact, destroyed = 2 * 17 / (2 * 17 + 7), 16 / 21, 12 / 16
    paper, present = (of_kind(matrix, names, way, damage=True) for way in ("paper", "present"))
    graded = 2 / (1 / (intact + 1e-6) + 1 / (destroyed + 1e-6))
    assert present.extra["localisation_F1"] == pytest.approx(100 * located)
    assert present.extra["damage_F1"] == pytest.approx(100 * graded)
    assert (present.metric, present.value) == ("score", pytest.approx(100 * (0.3 * located + 0.7 * graded)))
    assert present.class_scores["damage_F1"] == pytest.approx(
        {"none": None, "intact": 100 * intact, "destroyed": 100 * destroyed, "lost": None}
    )
    assert paper.extra["damage_F1"] == pytest.approx(100 * 3 / (1 / intact + 1 / destroyed + 1e6), rel=1e-4)


def test_names_that_say_no_transitions() -> None:
    assert Transitions.of(("unchanged", "changed")) is None
    assert Transitions.of(("same", "a → b", "road")) is None
    assert Transitions.of(("same", "a →")) is None
    found = Transitions.of(("same", "a->b", "c → a"))
    assert found == Transitions(("a", "c", "b"), (0, 1, 2), (0, 3, 1))


def test_nothing_changed_and_nothing_predicted() -> None:
    matrix = torch.tensor([[90, 0], [0, 0]])
    for average in ("paper", "present"):
        scores = change_scores(matrix, average=average)
        assert (scores.value, scores.extra["OA"], scores.per_class["changed"]) == (0.0, 100.0, None)


def test_nothing_changed_but_some_was_predicted() -> None:
    """No change is in the truth, so what is predicted of it has no score of its own."""
    for average in ("paper", "present"):
        scores = change_scores(torch.tensor([[80, 10], [0, 0]]), average=average)
        assert (scores.value, scores.extra["F1"], scores.extra["recall"]) == (0.0, 0.0, 0.0)
        assert scores.per_class == {"unchanged": pytest.approx(800 / 9), "changed": None}
        assert {name: of["changed"] for name, of in scores.class_scores.items()} == {
            "precision": None, "recall": None, "F1": None,
        }  # fmt: skip


def test_changes_that_are_predicted_but_nowhere_true_do_not_count_with_present() -> None:
    matrix = torch.tensor([[50, 2, 3], [1, 10, 1], [0, 0, 0]])
    paper, present = (change_scores(matrix, ("a", "b", "c"), way) for way in ("paper", "present"))
    assert present.value == pytest.approx(100 * 10 / 14)
    assert present.value == pytest.approx(2 * paper.value)
    assert present.per_class["c"] is None


def test_a_change_that_is_never_predicted_has_no_precision_and_counts_0() -> None:
    matrix = torch.tensor([[50, 2, 0], [1, 10, 0], [5, 0, 0]])
    for average in ("paper", "present"):
        scores = change_scores(matrix, ("a", "b", "c"), average)
        assert scores.extra["precision"] == pytest.approx(100 * (10 / 12) / 2)
        assert (scores.class_scores["precision"]["c"], scores.class_scores["recall"]["c"]) == (None, 0.0)


def test_an_absent_class_counts_0_or_not_at_all() -> None:
    matrix = torch.tensor([[50, 2, 0], [1, 10, 0], [0, 0, 0]])
    paper, present = (change_scores(matrix, ("a", "b", "c"), way) for way in ("paper", "present"))
    assert present.value == pytest.approx(2 * paper.value) == pytest.approx(100 * 10 / 13)


def test_absent_classes_of_segmentation_both_ways() -> None:
    matrix = torch.tensor([[6, 2, 0], [0, 4, 0], [0, 0, 0]])
    paper, present = segmentation_scores(matrix), segmentation_scores(matrix, "present")
    assert paper.metric == "mIoU"
    assert paper.per_class == pytest.approx({"a": 75.0, "b": 100 * 4 / 6, "c": None})
    assert paper.value == pytest.approx((75 + 400 / 6) / 3)
    assert present.value == pytest.approx((75 + 400 / 6) / 2)
    for scores in (paper, present):
        assert scores.extra["mIoU_paper"] == paper.value
        assert scores.extra["mIoU_present"] == present.value
        assert scores.extra["pixel_accuracy"] == pytest.approx(100 * 10 / 12)
        assert scores.extra["mean_class_accuracy"] == pytest.approx((75 + 100) / 2)


def test_a_class_that_is_predicted_but_nowhere_true() -> None:
    """It counts 0 as released, not at all with `present`, and has no scores of its own."""
    matrix = torch.tensor([[6, 1, 1], [0, 4, 0], [0, 0, 0]])
    paper, present = segmentation_scores(matrix), segmentation_scores(matrix, "present")
    assert paper.value == pytest.approx((75 + 80) / 3)
    assert present.value == pytest.approx((75 + 80) / 2)
    for scores in (paper, present):
        assert scores.per_class == pytest.approx({"a": 75.0, "b": 80.0, "c": None})
        assert [of["c"] for of in scores.class_scores.values()] == [None, None, None]


def test_a_class_without_a_score_has_none() -> None:
    scores = segmentation_scores(torch.tensor([[6, 2, 0], [0, 4, 0], [1, 1, 0]]))
    assert scores.class_scores["recall"] == pytest.approx({"a": 75.0, "b": 100.0, "c": 0.0})
    assert scores.class_scores["precision"] == pytest.approx({"a": 600 / 7, "b": 400 / 7, "c": None})
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
    assert (scores.metric, list(scores.per_class)) == ("top-1", list("abcdefg"))
    assert scores.per_class["g"] is None
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
        assert list(scores.class_scores[name].values()) == pytest.approx([*expected, None], abs=1e-4), name


def test_five_classes_have_no_top_5() -> None:
    assert len(classification_metrics(5, 15, CPU)) == 2
