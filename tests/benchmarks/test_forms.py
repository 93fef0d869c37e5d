from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.step import parts
from benchmarks.step.forms import OURS, measure_forms, threads
from benchmarks.step.watch import Watch


class Slow:
    """A clock that goes on only where a form says it worked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def form(self, watch: Watch, seconds: dict[str, Callable[[int], float]]) -> Callable[[Any, int], torch.Tensor]:
        def step(raw: Any, number: int) -> torch.Tensor:
            assert raw == number * 10
            for name, spent in seconds.items():
                with watch.section(name):
                    self.now += spent(number)
            return torch.zeros(())

        return step


def test_medians_and_the_three_ratios_of_pairs() -> None:
    clock = Slow()
    watch = Watch(torch.device("cpu"), clock)
    forms = {
        OURS: clock.form(watch, {parts.VIEWS: lambda _: 1.0, parts.BACKWARD: lambda step: 2.0 + step}),
        "reference": clock.form(
            watch, {parts.LOADER: lambda _: 3.0, parts.VIEWS: lambda _: 0.5, parts.BACKWARD: lambda _: 10.0}
        ),
    }
    times = measure_forms(forms, lambda step: step * 10, watch, 3, 1, 4, {OURS: 1, "reference": 2})
    assert times.other == "reference"
    assert times.seconds[OURS] == {parts.VIEWS: 1.0, parts.BACKWARD: 4.0, parts.STEP: 5.0}
    assert times.seconds["reference"][parts.STEP] == 10.5, "the loader works beside the step"
    assert times.ratios is not None
    assert times.ratios.step == pytest.approx((10 / 3, 10 / 4, 10 / 5))
    assert times.ratios.with_views == pytest.approx((10.5 / 4, 10.5 / 5, 10.5 / 6))
    assert times.ratios.one_core == pytest.approx((13.5 / 4, 13.5 / 5, 13.5 / 6))
    assert times.as_plain()["ratios"]["step"]["median"] == 2.5


def test_one_form_alone() -> None:
    clock = Slow()
    watch = Watch(torch.device("cpu"), clock)
    forms = {OURS: clock.form(watch, {parts.VIEWS: lambda _: 1.0})}
    times = measure_forms(forms, lambda step: step * 10, watch, 1, 0, 4, {OURS: 1})
    assert (times.other, times.ratios) == (None, None)
    assert times.as_plain()["ratios"] is None


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
