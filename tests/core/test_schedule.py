"""Learning rates and ramps."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from semikit.core.schedule import Schedule, learning_rate, linear_ramp


@dataclass
class Settings:
    schedule: Schedule = "poly"
    power: float = 0.9
    warmup: int = 0


def test_poly_lags_one_step() -> None:
    rates = [learning_rate(2.0, step, 10, Settings()) for step in range(10)]
    assert rates[0] == rates[1] == 2.0
    assert rates[2] == pytest.approx(2.0 * 0.9**0.9)
    assert rates[9] == pytest.approx(2.0 * 0.2**0.9)
    assert all(a > b for a, b in itertools.pairwise(rates[1:]))


def test_constant() -> None:
    assert {learning_rate(0.5, step, 10, Settings("constant")) for step in range(10)} == {0.5}


def test_warm_up_is_linear_and_ends() -> None:
    rates = [learning_rate(1.0, step, 100, Settings("constant", warmup=4)) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_linear_ramp() -> None:
    assert [linear_ramp(step, 4) for step in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert linear_ramp(0, 0) == 1.0
