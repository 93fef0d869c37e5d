"""The eval-mode context; student and teacher themselves are checked on every method in contracts/."""

from __future__ import annotations

import pytest
from torch import nn

from semikit.core.pseudo_labels import evaluating


def network() -> nn.Sequential:
    made = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    made.train()
    made[1][0].eval()  # a frozen part
    return made


def test_eval_inside_and_every_modules_own_mode_afterwards() -> None:
    made = network()
    with evaluating(made):
        assert not any(module.training for module in made.modules())
    assert [made.training, made[0].training, made[1][0].training, made[1][1].training] == [True, True, False, True]


def test_modes_come_back_after_an_error() -> None:
    made = network()
    with pytest.raises(RuntimeError, match="broken"), evaluating(made):
        raise RuntimeError("broken")
    assert made.training
    assert not made[1][0].training
