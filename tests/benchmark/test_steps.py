from __future__ import annotations

from collections.abc import Callable
from statistics import median

import pytest
import torch

from semikit.benchmark import parts
from semikit.benchmark.steps import measure_steps, threads
from semikit.config import Config
from semikit.errors import InputError

Configure = Callable[..., Config]


def test_medians_and_the_ratio_of_pairs(small: Configure) -> None:
    times = measure_steps(small(), 4, repeats=3, warmup=1, against_naive=True)
    assert times.crop == 42
    assert times.views > 0
    assert times.naive is not None
    assert len(times.ratios) == 3
    assert times.ratio == median(times.ratios)
    for form in (times.current, times.naive):
        split = [form[name] for name in form if name != parts.STEP]
        assert 0.3 * form[parts.STEP] < sum(split) < 3 * form[parts.STEP]
    assert list(times.current)[-1] == parts.STEP


def test_without_the_naive_form(small: Configure) -> None:
    times = measure_steps(small(), 4, repeats=1, warmup=0, against_naive=False)
    assert (times.naive, times.ratio, times.ratios) == (None, None, ())
    plain = times.as_plain()
    assert plain["current"][parts.STEP] > 0


def test_the_naive_form_refuses_before_anything_is_measured(small: Configure) -> None:
    with pytest.raises(InputError, match="without --against naive"):
        measure_steps(small({"method": {"kept": 0.0}}), 4, repeats=1, warmup=0, against_naive=True)


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
