"""The confusion matrix and its scores, by hand and against torchmetrics."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

from semikit.metrics.confusion import accuracy, class_mean, count, f1, iou, mean_iou, occurring, precision, recall
from tests.helpers.sync_counter import SyncCounter

HAND = torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]])


def test_scores_by_hand() -> None:
    values = iou(HAND)
    assert values[:2].tolist() == pytest.approx([3 / 6, 4 / 7])
    assert values[2].isnan()
    assert mean_iou(HAND, "paper").item() == pytest.approx((3 / 6 + 4 / 7) / 3)
    assert mean_iou(HAND, "present").item() == pytest.approx((3 / 6 + 4 / 7) / 2)
    assert accuracy(HAND).item() == pytest.approx(0.7)
    assert precision(HAND)[:2].tolist() == pytest.approx([3 / 5, 4 / 5])
    assert recall(HAND)[:2].tolist() == pytest.approx([3 / 4, 4 / 6])
    assert f1(HAND)[:2].tolist() == pytest.approx([2 * 3 / 9, 2 * 4 / 11])


def test_the_truth_alone_says_which_classes_are_present() -> None:
    """The second class is predicted, but nowhere true."""
    matrix = torch.tensor([[8, 2], [0, 0]])
    assert occurring(matrix).tolist() == [True, False]
    assert mean_iou(matrix, "paper").item() == pytest.approx(0.4)
    assert mean_iou(matrix, "present").item() == pytest.approx(0.8)


def test_a_score_of_a_class_that_is_not_defined_counts_0() -> None:
    """The second class is true, but never predicted: it has no precision."""
    matrix = torch.tensor([[8, 0], [2, 0]])
    values, occurs = precision(matrix), occurring(matrix)
    assert values[1].isnan()
    for average in ("paper", "present"):
        assert class_mean(values, occurs, average).item() == pytest.approx(0.4)


@pytest.mark.parametrize("shape", [(50,), (4, 9, 7)], ids=["images", "pixels"])
def test_matrix_against_torchmetrics(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, labels = (torch.randint(5, shape, generator=generator) for _ in range(2))
    valid = torch.rand(shape, generator=generator) > 0.2
    matrix = count(predicted, labels.masked_fill(~valid, 255), valid, 5)
    assert torch.equal(matrix, multiclass_confusion_matrix(predicted[valid], labels[valid], 5))
    expected = multiclass_jaccard_index(predicted[valid], labels[valid], 5, average=None)
    torch.testing.assert_close(iou(matrix).float(), expected)


def test_matrices_add_up_and_nothing_valid_is_empty() -> None:
    predicted, labels = torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 0], [1, 1]])
    valid = torch.tensor([[True, True], [False, True]])
    with SyncCounter() as counter:
        whole = count(predicted, labels, valid, 2)
    assert not counter.found
    parts = [count(predicted[i : i + 1], labels[i : i + 1], valid[i : i + 1], 2) for i in range(2)]
    assert torch.equal(whole, parts[0] + parts[1])
    assert not count(predicted, labels, torch.zeros_like(valid), 2).any()
    assert whole.dtype == torch.int64
