"""Dash: where its threshold begins, when it falls, and what its labels become."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from semikit.core.batch import Labeled, Prediction, Requirements
from semikit.methods.dash import DashConfig, FallingThreshold
from tests.helpers import tiny


def threshold(**settings: Any) -> FallingThreshold:
    return FallingThreshold(DashConfig(**settings), iterations=100)


def labelled(losses: list[float]) -> tuple[torch.Tensor, Labeled]:
    """Logits of two classes whose labelled loss is given."""
    found, _ = tiny.batch(tiny.run_info(2), Requirements(unlabeled=False), len(losses), pixels=False)
    right = torch.tensor(losses).neg().exp()
    return torch.stack([right, 1 - right], 1).log(), replace(found, labels=torch.zeros(len(losses), dtype=torch.long))


def counted(falling: FallingThreshold, *confidence: float) -> list[bool]:
    c = torch.tensor(confidence)
    prediction = Prediction(torch.zeros(len(c), dtype=torch.long), c, torch.stack([c, 1 - c], 1))
    return falling(prediction, torch.ones(len(c), dtype=torch.bool), torch.arange(len(c))).tolist()


def test_it_begins_at_the_mean_labelled_loss_of_the_warm_up_and_falls() -> None:
    falling = threshold(warmup=2, fall_every=2, fall=2, factor=1, minimum=0.1, soft_labels=None)
    logits, labels = labelled([0.6, 0.2, 7.0])
    labels = replace(labels, valid=torch.tensor([True, True, False]))
    for _ in range(2):
        falling.observe_labeled(logits, labels)
        assert counted(falling, 1.0) == [False], "labelled images alone teach"
    falling.observe_labeled(*labelled([5.0]))
    assert falling.reference.item() == pytest.approx(0.4)
    found = [counted(falling, *torch.tensor([-0.39, -0.19, -0.11, -0.09]).exp().tolist()) for _ in range(6)]
    assert [sum(row) for row in found] == [4, 4, 3, 3, 1, 1]


def test_labels_are_soft_until_the_minimum() -> None:
    falling, soft = threshold(warmup=0, fall_every=0.01, fall=2, initial=0.3, minimum=0.1), torch.tensor([[0.7, 0.3]])
    found = []
    for _ in range(3):
        counted(falling, 0.9)
        found.append(falling.labels_of(soft).tolist()[0])
    assert found == [soft.tolist()[0], soft.tolist()[0], [1, 0]]


@pytest.mark.parametrize("length", [0.02, 2])
def test_lengths_are_shares_of_the_run_or_iterations(length: float) -> None:
    falling = threshold(warmup=length, fall_every=length)
    assert (falling.warmup, falling.every) == (2, 2)
