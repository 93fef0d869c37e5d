"""The threshold, and the balance of the classes."""

from __future__ import annotations

import pytest
import torch

from semikit.core.batch import Prediction
from semikit.core.thresholds import ClassBalance, ClassThreshold, FixedThreshold, Threshold, threshold_of
from semikit.methods.unimatch_v2 import UniMatchV2Config
from tests.helpers import tiny
from tests.helpers.sync_counter import SyncCounter


def test_reaching_the_threshold_is_enough_and_invalid_never_is() -> None:
    confidence = torch.tensor([0.94, 0.95, 0.96, 0.99, float("nan")])
    valid = torch.tensor([True, True, True, False, True])
    index = torch.arange(5)
    given = Prediction(torch.zeros(5, dtype=torch.long), confidence)
    assert FixedThreshold(0.95)(given, valid, index).tolist() == [False, True, True, False, False]
    assert FixedThreshold(0.0)(given, valid, index).tolist() == [True, True, True, False, False]


def settle(balance: ClassBalance, counts: list[int], steps: int = 2000) -> torch.Tensor:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    for _ in range(steps):
        balance.observe(labels, torch.ones_like(labels, dtype=torch.bool))
    return balance.weights()


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
def test_weights_settle_on_the_power_of_the_share(power: float) -> None:
    counts = [60, 30, 10]
    balance = ClassBalance(3, power)
    weights = settle(balance, counts)
    share = torch.tensor(counts) / 100
    torch.testing.assert_close(balance.share, share, rtol=1e-3, atol=1e-4)
    expected = share.pow(-power)
    torch.testing.assert_close(weights / weights[0], expected / expected[0], rtol=1e-3, atol=1e-3)
    assert (weights * share).sum().item() == pytest.approx(1.0, rel=1e-3), "a position weighs 1 on average"


def test_equal_at_first_and_at_power_0() -> None:
    assert ClassBalance(4, 1.0).weights().tolist() == pytest.approx([1.0] * 4)
    assert settle(ClassBalance(3, 0.0), [90, 9, 1], 50).tolist() == pytest.approx([1.0] * 3)


def test_a_class_that_never_comes_has_a_bounded_weight() -> None:
    weights = settle(ClassBalance(4, 1.0), [100, 100, 100, 0])
    assert torch.isfinite(weights).all()
    assert weights[3] / weights[0] == pytest.approx((1 / 3) / 0.025, rel=1e-3)


def test_nothing_confident_changes_nothing() -> None:
    balance = ClassBalance(2, 1.0)
    settle(balance, [3, 1], 20)
    before = balance.share.clone()
    balance.observe(torch.tensor([0, 1, 1]), torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(balance.share, before)


def test_only_confident_positions_are_counted() -> None:
    first, second = ClassBalance(2, 1.0), ClassBalance(2, 1.0)
    labels = torch.tensor([[0, 1], [1, 1]])
    first.observe(labels, torch.tensor([[True, True], [False, False]]))
    second.observe(torch.tensor([0, 1]), torch.tensor([True, True]))
    assert torch.equal(first.share, second.share)


def weigh(
    threshold: Threshold, labels: list[int], confidence: list[float], valid: list[bool] | None = None
) -> list[bool]:
    given = Prediction(torch.tensor(labels), torch.tensor(confidence))
    is_valid = torch.ones(len(labels), dtype=torch.bool) if valid is None else torch.tensor(valid)
    return [bool(weight) for weight in threshold(given, is_valid, torch.arange(len(labels)))]


def test_the_surest_of_each_class_count_and_whatever_reaches_the_threshold() -> None:
    labels, confidence = [0] * 4 + [1] * 4, [0.99, 0.98, 0.97, 0.5, 0.8, 0.6, 0.5, 0.4]
    assert weigh(FixedThreshold(0.95), labels, confidence) == [True] * 3 + [False] * 5
    assert weigh(ClassThreshold(2, 0.95, 0.75), labels, confidence) == [True] * 3 + [False, True] + [False] * 3
    assert weigh(ClassThreshold(2, 0.95, 0.5), labels, confidence) == [True] * 3 + [False] + [True] * 2 + [False] * 2
    assert weigh(ClassThreshold(2, 0.95, 0.0), labels, confidence) == [True] * 8


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.5, 0.8, 0.95])
def test_at_least_the_share_above_the_quantile_counts_and_hardly_more(quantile: float) -> None:
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(3, (4, 30, 30), generator=generator)
    confidence = 0.3 + 0.1 * labels + 0.4 * torch.rand(4, 30, 30, generator=generator)
    valid = torch.rand(4, 30, 30, generator=generator) > 0.2
    weights = ClassThreshold(3, 1.0, quantile)(Prediction(labels, confidence), valid, torch.arange(4))
    assert not (weights & ~valid).any()
    for number in range(3):
        of_class = valid & (labels == number)
        chosen, others = confidence[of_class & weights], confidence[of_class & ~weights]
        share = len(chosen) / int(of_class.sum())
        assert 1 - quantile <= share <= 1 - quantile + 0.03
        assert not len(others) or chosen.min() > others.max()


def test_a_class_that_was_rare_so_far_keeps_its_own_threshold() -> None:
    """What was seen before counts: of one position alone one cannot say whether it is among the surest."""
    made = ClassThreshold(2, 0.95, 0.85)
    for _ in range(5):
        weigh(made, [0] * 4 + [1] * 5, [0.99] * 4 + [0.9, 0.5, 0.5, 0.5, 0.5])
    assert weigh(made, [0, 1], [0.99, 0.6]) == [True, False]
    assert weigh(made, [0, 1], [0.9, 0.92]) == [False, True]


def test_what_is_not_a_number_or_not_valid_changes_nothing() -> None:
    made = ClassThreshold(2, 0.95, 0.5)
    assert weigh(made, [0, 0, 1], [0.9, 0.4, 0.3]) == [True, False, True]
    before = made.histogram.clone()
    assert weigh(made, [1, 1], [0.99, float("nan")], [False, False]) == [False, False]
    torch.testing.assert_close(made.histogram, 0.99 * before)
    assert weigh(made, [1, 0], [float("nan"), 0.9]) == [False, True]
    assert made.histogram.isfinite().all()
    assert weigh(ClassThreshold(3, 0.95, 0.8), [2], [1.0]) == [True]


def test_the_thresholds_of_classes_do_not_wait_for_the_device() -> None:
    given = Prediction(torch.zeros(2, 4, 4, dtype=torch.long), torch.rand(2, 4, 4))
    with SyncCounter() as counter:
        ClassThreshold(2, 0.95, 0.8)(given, given.confidence > 0.1, torch.arange(2))
    assert counter.total > 5
    assert not counter.found


def test_which_threshold_a_method_has() -> None:
    fixed = threshold_of(UniMatchV2Config(threshold=0.7), tiny.run_info())
    lowered = threshold_of(UniMatchV2Config(threshold=0.7, class_quantile=0.6), tiny.run_info(4))
    assert isinstance(fixed, FixedThreshold)
    assert isinstance(lowered, ClassThreshold)
    assert (lowered.threshold, lowered.quantile, len(lowered.histogram)) == (0.7, 0.6, 4)
