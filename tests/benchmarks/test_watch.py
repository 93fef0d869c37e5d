from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from benchmarks.step.watch import CLOCKS, Watch


@pytest.fixture
def watch() -> Watch:
    """Its clock goes on by 1, 2, 4, 8 ... seconds from one reading to the next."""
    times: Iterator[float] = (2.0**k for k in range(60))
    return Watch(torch.device("cpu"), lambda: next(times))


def test_a_moment_counts_for_the_innermost_section(watch: Watch) -> None:
    with watch.section("outer"):  # 1 .. 32
        with watch.section("inner"):  # 2 .. 4
            pass
        with watch.section("inner"):  # 8 .. 16
            pass
    assert watch.read() == {"outer": (2 - 1) + (8 - 4) + (32 - 16), "inner": (4 - 2) + (16 - 8)}


def test_time_between_sections_counts_for_nothing(watch: Watch) -> None:
    with watch.section("a"):
        pass
    with watch.section("b"):
        pass
    assert watch.read() == {"a": 1, "b": 4}


def test_a_reading_begins_anew(watch: Watch) -> None:
    with watch.section("a"):
        pass
    watch.read()
    assert watch.read() == {}


def test_a_timed_function_is_the_same_function(watch: Watch) -> None:
    timed = watch.around("f", lambda a, b=0: a - b)
    assert timed(5, b=2) == 3
    assert list(watch.read()) == ["f"]


def test_an_error_closes_its_section(watch: Watch) -> None:
    with pytest.raises(ZeroDivisionError), watch.section("a"):
        _ = 1 / 0
    assert watch.read() == {"a": 1}


def test_processor_time_does_not_count_waiting() -> None:
    found = []
    for clock in ("wall", "cpu"):
        watch = Watch(torch.device("cpu"), CLOCKS[clock])
        with watch.section("asleep"):
            time.sleep(0.1)
        found.append(watch.read()["asleep"])
    assert found[0] >= 0.1 > 0.05 > found[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_events_on_a_gpu() -> None:
    watch = Watch(torch.device("cuda"))
    values = torch.randn(1024, 1024, device="cuda")
    with watch.section("outer"), watch.section("product"):
        values @ values
    found = watch.read()
    assert found["product"] > 0
    assert found["outer"] >= 0
