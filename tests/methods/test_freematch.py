"""FreeMatch: fairness looks at the whole batch, and at what counts in it."""

from __future__ import annotations

import pytest
import torch

from semikit.core.batch import Target
from semikit.methods.freematch import FreeMatchConfig, fairness, plugin


def target(weights: torch.Tensor) -> Target:
    zeros = torch.zeros(weights.shape)
    return Target(zeros.long(), weights, weights > 0, torch.ones(len(weights)))


@pytest.mark.parametrize("shape", [(6,), (2, 3, 2)], ids=["images", "pixels"])
def test_only_what_counts_is_looked_at(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape[0], 3, *shape[1:], generator=generator, requires_grad=True)
    weights = (torch.rand(shape, generator=generator) > 0.4).float()
    probability, share = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.6, 0.3, 0.1])
    value = fairness(logits, target(weights), probability, share)
    kept = logits.movedim(1, -1)[weights > 0]
    soft = kept.softmax(-1)
    found = torch.bincount(soft.argmax(-1), minlength=3) / len(kept)
    usual = probability / share
    here = torch.where(found > 0, soft.mean(0) / found, 0.0)
    expected = (usual / usual.sum() * (here / here.sum() + 1e-12).log()).sum()
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value, logits)
    assert not gradient.movedim(1, -1)[weights == 0].any()
    assert gradient.any()


def test_nothing_that_counts_is_no_loss_and_no_gradient() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    value = fairness(logits, target(torch.zeros(4)), torch.full((3,), 1 / 3), torch.tensor([1.0, 0.0, 0.0]))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value == 0
    assert not gradient.any()


def test_fairness_needs_the_whole_batch() -> None:
    assert plugin.needs_full_batch(FreeMatchConfig(teacher="ema", forward="auto"))
    assert not plugin.needs_full_batch(FreeMatchConfig(teacher="ema", forward="auto", fairness=0.0))
