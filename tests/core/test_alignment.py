"""Aligned probabilities come as often as they should."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from semikit.core.alignment import Alignment, AlignmentSettings, AverageMarginal, QueueMarginal
from semikit.core.running_averages import Mean
from semikit.errors import ConfigError

SKEWED = torch.tensor([4.0, 1.0, 0.0])


def skewed(shape: tuple[int, ...] = (64,), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], 3, *shape[1:], generator=generator)
    return (logits + SKEWED.view(3, *[1] * (len(shape) - 1))).softmax(1)


@pytest.mark.parametrize("shape", [(64,), (4, 6, 5)], ids=["images", "pixels"])
@pytest.mark.parametrize("kind", ["queue", "ema"])
def test_rare_classes_gain_and_all_sum_to_1(kind: str, shape: tuple[int, ...]) -> None:
    alignment = Alignment(AlignmentSettings(kind=kind, length=2, momentum=0.5), 3)
    probabilities, valid = skewed(shape), torch.ones(shape, dtype=torch.bool)
    aligned = alignment(probabilities, valid)
    torch.testing.assert_close(aligned.sum(1), torch.ones(shape))
    before, after = (x.movedim(1, -1).reshape(-1, 3).mean(0) for x in (probabilities, aligned))
    assert (after[1:] > before[1:]).all()
    assert after.std() < before.std()
    again = alignment(probabilities, valid)
    torch.testing.assert_close(again, aligned, rtol=0, atol=1e-4, msg="the factor of a queue that fills cancels")


def test_invalid_positions_are_not_observed() -> None:
    probabilities, valid = skewed(), torch.arange(64) < 40
    broken = torch.where(valid[:, None], probabilities, torch.nan)
    first, second = (Alignment(AlignmentSettings(kind="ema", momentum=0.9), 3) for _ in range(2))
    aligned = first(broken, valid)[:40]
    assert torch.equal(aligned, second(probabilities[:40], valid[:40]))
    first(broken, torch.zeros_like(valid))
    assert torch.equal(first.predicted.value(), second.predicted.value())


def test_a_queue_forgets_and_an_average_does_not() -> None:
    queue, average = QueueMarginal(2, 3), AverageMarginal(2, 0.5)
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.2, 0.8]])
    for row in rows:
        for marginal in (queue, average):
            marginal.observe(Mean(row, torch.tensor(4.0)))
    torch.testing.assert_close(queue.value(), rows[1:].mean(0))
    torch.testing.assert_close(average.value(), torch.tensor([0.35, 0.65]))
    assert queue.place.tolist() == [1]
    for marginal in (queue, average):
        before = marginal.value().clone()
        marginal.observe(Mean(torch.zeros(2), torch.tensor(0.0)))
        assert torch.equal(marginal.value(), before)
    assert queue.place.tolist() == [1]


def test_shares_of_ones_own() -> None:
    to = (0.7, 0.2, 0.1)
    alignment = Alignment(AlignmentSettings(length=1, momentum=0.0, target=to), 3)
    even = torch.full((5, 3), 1 / 3)
    torch.testing.assert_close(
        alignment(even, torch.ones(5, dtype=torch.bool)), torch.tensor(to).expand(5, 3), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("to", [(0.5, 0.5), (0.5, 0.5, 0.0), (0.5, 0.4, 0.3), ()])
def test_shares_that_cannot_be(to: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=rf"alignment\.target has {len(to)} shares .* allowed are 3 positive shares"):
        Alignment(AlignmentSettings(kind="ema", momentum=0.9, target=to), 3)
