"""Thresholds that follow the run: what they let through, and what they remember."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from semikit.core.batch import Prediction
from semikit.core.thresholds import FlexPixelThreshold, FlexThreshold, FreeThreshold, SoftWeights, Threshold


def belief(labels: list[int], confidence: list[float], classes: int = 3) -> Prediction:
    top, c = torch.tensor(labels), torch.tensor(confidence)
    rest = ((1 - c) / (classes - 1)).unsqueeze(1).expand(-1, classes)
    return Prediction(top, c, rest.scatter(1, top.unsqueeze(1), c.unsqueeze(1)))


def weigh(
    threshold: Threshold, given: Prediction, index: list[int] | None = None, valid: Tensor | None = None
) -> Tensor:
    count = len(given.labels)
    valid = torch.ones(count, dtype=torch.bool) if valid is None else valid
    return threshold(given, valid, torch.tensor(index or list(range(count))))


def test_flex_classes_learned_less_get_a_lower_threshold() -> None:
    flex = FlexThreshold(3, 8, 0.9, warmup=False)
    assert weigh(flex, belief([0, 0, 1], [0.95, 0.92, 0.95])).tolist() == [1, 1, 1]
    assert flex.learned.tolist() == [1, 0.5, 0]
    # 0.9 · 0.5 / 1.5 = 0.3 for class 1
    weights = weigh(flex, belief([0, 1, 1, 2], [0.89, 0.31, 0.29, 0.34]), [4, 5, 6, 7])
    assert weights.tolist() == [0, 1, 0, 1]
    assert flex.selected[:-1].tolist() == [0, 0, 1, -1, -1, -1, -1, -1]


def test_flex_warms_up_while_most_images_wait() -> None:
    flex = FlexThreshold(2, 10, 0.9, warmup=True)
    weigh(flex, belief([0, 0], [0.95, 0.92], 2))
    assert flex.learned.tolist() == [0.25, 0]
    weigh(flex, belief([0] * 8, [0.95] * 8, 2), list(range(2, 10)))
    assert flex.learned.tolist() == [1, 0]


def test_flex_remembers_the_last_sure_label_of_an_image_that_comes_twice() -> None:
    flex = FlexThreshold(3, 4, 0.9, warmup=True)
    weigh(flex, belief([2, 1, 0, 2], [0.95, 0.95, 0.5, 0.99]), [3, 3, 3, 0])
    assert flex.selected[:-1].tolist() == [2, -1, -1, 1]
    assert flex.learned.tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("warmup", [True, False])
def test_flex_over_pixels_follows_shares(warmup: bool) -> None:
    """Zhang et al. 2021, eq. 5-11, with pixels for images, by hand: five steps make an epoch, and one of them found
    0.6 / 0.2 / 0 sure pixels of the classes among the valid ones and 0.2 others.
    """
    flex = FlexPixelThreshold(3, 5, 0.9, warmup)
    labels, confidence = torch.tensor([[0, 0, 0], [1, 2, 2]]), torch.tensor([[0.95, 0.92, 0.99], [0.9, 0.8, 0.99]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    first = flex(Prediction(labels, confidence), valid, torch.zeros(2))
    assert torch.equal(first, valid), "nothing is learned yet: all thresholds are 0"
    torch.testing.assert_close(flex.found, torch.tensor([0.12, 0.04, 0.0, 0.84]))
    # warm-up: learned 1/7 of class 0 -> 0.9 · (1/7) / (13/7) = 0.069; without: class 0 at 0.9, class 1 at 0.9 · 0.2
    sure = torch.tensor([[0.07, 0.06], [0.05, 0.01]]) if warmup else torch.tensor([[0.9, 0.89], [0.19, 0.17]])
    found = flex(Prediction(torch.tensor([[0, 0], [1, 1]]), sure), torch.ones(2, 2, dtype=torch.bool), torch.zeros(2))
    assert found.int().flatten().tolist() == [1, 0, 1, 0]


def test_flex_counts_no_invalid_image() -> None:
    flex = FlexThreshold(2, 4, 0.9, warmup=True)
    weights = weigh(flex, belief([0, 1], [0.95, 0.95], 2), valid=torch.tensor([False, True]))
    assert weights.tolist() == [0, 1]
    assert flex.selected[:-1].tolist() == [-1, 1, -1, -1]


def test_free_threshold_is_the_usual_confidence_lowered_for_rare_classes() -> None:
    free = FreeThreshold(3, 0.0, None, None)
    given = belief([0, 0, 0, 1], [0.9, 0.9, 0.5, 0.5])
    weights = weigh(free, given)
    assert free.usual.item() == pytest.approx(0.7)
    torch.testing.assert_close(free.probability, given.probabilities.mean(0))
    assert free.share.tolist() == [0.75, 0.25, 0]
    assert weights.tolist() == [1, 1, 0, 1], "0.5 is enough for class 1 alone"


@pytest.mark.parametrize(("quantile", "cap", "usual"), [(1.0, None, 0.9), (0.0, None, 0.5), (None, 0.6, 0.6)])
def test_free_threshold_by_quantile_and_with_a_cap(quantile: float | None, cap: float | None, usual: float) -> None:
    free = FreeThreshold(3, 0.0, quantile, cap)
    weigh(free, belief([0, 0, 0, 1], [0.9, 0.9, 0.5, 0.5]))
    assert free.usual.item() == pytest.approx(usual)


def test_soft_weights_are_a_truncated_gaussian() -> None:
    soft = SoftWeights(2, 0.0, 2.0)
    values = [0.9, 0.7, 0.5]
    weights = weigh(soft, belief([0, 0, 1], values, 2))
    assert soft.mean.item() == pytest.approx(0.7)
    assert soft.variance.item() == pytest.approx(0.04)
    assert weights.tolist() == pytest.approx([1, 1, math.exp(-(0.2**2) / (2 * 0.04 / 4))])


def test_soft_weights_of_one_image_or_equal_ones_are_no_nan() -> None:
    soft = SoftWeights(2, 0.5, 2.0)
    weigh(soft, belief([0], [0.9], 2))
    assert soft.variance.item() == 1.0
    assert soft.mean.item() == pytest.approx(0.7)
    narrow = SoftWeights(2, 0.0, 2.0)
    assert weigh(narrow, belief([0, 1], [0.8, 0.8], 2)).tolist() == [1, 1]
    assert narrow.variance.item() == 0


@pytest.mark.parametrize("made", [FreeThreshold(3, 0.5, 0.8, None), SoftWeights(3, 0.5, 2.0)])
def test_pixels_are_positions_like_images(made: Threshold) -> None:
    given = belief([0, 1, 2, 0], [0.9, 0.8, 0.6, 0.4])
    flat = weigh(made, given)
    fresh = type(made)(3, 0.5, *((0.8, None) if isinstance(made, FreeThreshold) else (2.0,)))
    probabilities = given.probabilities.view(2, 2, 1, 3).permute(0, 3, 1, 2)
    maps = Prediction(given.labels.view(2, 2, 1), given.confidence.view(2, 2, 1), probabilities)
    weights = fresh(maps, torch.ones(2, 2, 1, dtype=torch.bool), torch.arange(2))
    torch.testing.assert_close(weights.flatten(), flat)
