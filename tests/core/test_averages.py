"""Averages over valid positions, against plain torch on those positions alone."""

from __future__ import annotations

import pytest
import torch

from semikit.core.running_averages import Mean, class_mean_of, class_share_of, follow, mean_of, quantile_of

SHAPES = [(9,), (3, 4, 5)]


@pytest.fixture(params=SHAPES, ids=["images", "pixels"])
def case(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(request.param[0], 4, *request.param[1:], generator=generator)
    valid = torch.rand(request.param, generator=generator) > 0.4
    assert 2 < valid.sum() < valid.numel()
    return logits.softmax(1), valid


def test_invalid_positions_count_for_nothing(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    probabilities, valid = case
    confidence, labels = probabilities.max(1)
    confidence = torch.where(valid, confidence, torch.nan)
    kept = probabilities.movedim(1, -1)[valid]
    torch.testing.assert_close(mean_of(confidence, valid).value, confidence[valid].mean())
    torch.testing.assert_close(class_mean_of(probabilities, valid).value, kept.mean(0))
    share = class_share_of(labels, valid, 4)
    torch.testing.assert_close(share.value, torch.bincount(labels[valid], minlength=4) / valid.sum())
    assert share.count == valid.sum()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_quantile_is_torchs(case: tuple[torch.Tensor, torch.Tensor], share: float) -> None:
    probabilities, valid = case
    confidence = probabilities.amax(1)
    torch.testing.assert_close(quantile_of(confidence, valid, share).value, confidence[valid].quantile(share))


def test_without_a_valid_position_nothing_moves(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    probabilities, valid = case
    none = torch.zeros_like(valid)
    confidence, labels = probabilities.max(1)
    means = [mean_of(confidence, none), quantile_of(confidence, none, 0.8)]
    for mean in (*means, class_mean_of(probabilities, none), class_share_of(labels, none, 4)):
        assert not mean.value.any()
        state = torch.full_like(mean.value, 0.3)
        follow(state, mean, 0.5)
        assert torch.equal(state, torch.full_like(state, 0.3))


def test_a_state_follows_by_its_momentum() -> None:
    state = torch.tensor([1.0, 0.0])
    follow(state, Mean(torch.tensor([0.0, 1.0]), torch.tensor(3.0)), 0.9)
    torch.testing.assert_close(state, torch.tensor([0.9, 0.1]))
