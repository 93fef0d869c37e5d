"""The threshold, and the balance of the classes."""

from __future__ import annotations

import pytest
import torch

from semikit.core.batch import Prediction
from semikit.core.thresholds import ClassBalance, FixedThreshold


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
