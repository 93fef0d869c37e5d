"""Learning rates and ramps."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest

from semikit.core.schedules import Schedule, learning_rate, linear_ramp


@dataclass
class Settings:
    schedule: Schedule = "poly"
    power: float = 0.9
    warmup: int = 0
    cycles: float = 7 / 16


def test_poly_lags_one_step() -> None:
    rates = [learning_rate(2.0, step, 10, Settings()) for step in range(10)]
    assert rates[0] == rates[1] == 2.0
    assert rates[2] == pytest.approx(2.0 * 0.9**0.9)
    assert rates[9] == pytest.approx(2.0 * 0.2**0.9)
    assert all(a > b for a, b in itertools.pairwise(rates[1:]))


def test_constant() -> None:
    assert {learning_rate(0.5, step, 10, Settings("constant")) for step in range(10)} == {0.5}


def test_cosine_does_not_lag_and_ends_above_zero() -> None:
    rates = [learning_rate(0.03, step, 8, Settings("cosine")) for step in range(8)]
    assert rates[0] == 0.03
    assert rates[4] == pytest.approx(0.03 * math.cos(7 / 32 * math.pi))
    assert learning_rate(1.0, 8, 8, Settings("cosine")) == pytest.approx(0.19509032)


def test_half_a_cosine_begins_after_the_warm_up() -> None:
    rates = [learning_rate(2.0, step, 12, Settings("half-cosine", warmup=4)) for step in range(13)]
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[8] == pytest.approx(1.0)
    assert rates[12] == pytest.approx(0.0)
    assert [learning_rate(1.0, step, 3, Settings("half-cosine", warmup=4)) for step in range(3)] == [0.25, 0.5, 0.75]


def test_warm_up_is_linear_and_ends() -> None:
    rates = [learning_rate(1.0, step, 100, Settings("constant", warmup=4)) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_linear_ramp() -> None:
    assert [linear_ramp(step, 4) for step in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert linear_ramp(0, 0) == 1.0
