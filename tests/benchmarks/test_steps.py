from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.step.class_workload import configure_classes
from benchmarks.step.forms import OURS
from benchmarks.step.steps import Asked, measure_steps, speed_of, steady
from benchmarks.step.subjects import subject_of
from semikit.errors import InputError
from semikit.run.config import Config

Configure = Callable[..., Config]


@pytest.mark.parametrize("task", ["seg", "cd"])
def test_the_reference_starts_in_fp32(small: Configure, task: str) -> None:
    config = small({"train": {"precision": "bf16"}}, task)
    found = measure_steps(config, Asked(4, repeats=1, warmup=0, against="reference"))
    assert found.precisions == {OURS: "bf16", "reference": "fp32"}
    assert found.times.images == 4
    assert found.speed.memory > 2**20
    assert found.trace is None


@pytest.mark.long
def test_the_contiguous_form_keeps_the_precision() -> None:
    config = configure_classes({"train": {"batch": 1, "ratio": 2, "device": "cpu", "precision": "bf16"}})
    found = measure_steps(config, Asked(3, repeats=1, warmup=0, against="contiguous"))
    assert found.precisions == {OURS: "bf16", "contiguous": "bf16"}


def test_the_reference_refuses_before_anything_is_measured(small: Configure) -> None:
    with pytest.raises(InputError, match="without --against reference"):
        measure_steps(
            small({"method": {"dropout": {"undropped": 0.0}}}), Asked(4, repeats=1, warmup=0, against="reference")
        )


def test_steps_that_follow_each_other(small: Configure) -> None:
    subject, ticks = subject_of(small(), 4, None), iter([100.0, 106.0])
    ran: list[int] = []
    run = subject.run

    def counting(raw: object, step: int) -> object:
        ran.append(step)
        return run(raw, step)

    subject.run = counting  # type: ignore[method-assign,assignment]
    seconds, memory = steady(subject, warmup=1, repeats=3, clock=lambda: next(ticks))
    assert (seconds, ran) == (2.0, [0, 1, 2, 3])
    assert memory > 0


def test_speeds_follow_from_the_seconds(small: Configure) -> None:
    subject = subject_of(small(), 4, None)
    speed = speed_of(subject, seconds=2.0, memory=5.0, peak=0.25)
    assert speed.images_per_second == 2.0
    assert speed.tflops == speed.step_tflop / 2
    assert speed.share_of_peak == speed.tflops / 0.25
    assert speed_of(subject, 2.0, 5.0, None).share_of_peak > 0, "the peak of a CPU is measured"


@pytest.mark.parametrize(
    ("above", "passes"),
    [
        ({}, (4, 2 + 8)),
        ({"method": {"streams": 1, "dropout": "none"}}, (4, 2 + 4)),
        ({"method": {"forward": "joint", "teacher": "student"}}, (0, 2 + 4 + 8)),
    ],
)
def test_images_that_pass(small: Configure, above: dict[str, object], passes: tuple[int, int]) -> None:
    assert subject_of(small({"train": {"ratio": 2}, **above}), 4, None).passes == passes


def test_images_that_pass_in_classification() -> None:
    config = configure_classes({"train": {"batch": 8, "device": "cpu"}})
    assert subject_of(config, 10, None).passes == (0, 8 + 2 * 56)


def test_bytes_that_are_moved(small: Configure) -> None:
    subject, pixels = subject_of(small(), 4, None), 42 * 42
    assert subject.moved(OURS) == 2 * (3 + 1 + 1) * pixels + 2 * (3 + 1) * pixels + 4 * 8
    assert subject.moved("reference") == 2 * (3 * 4 + 8) * pixels + 2 * (3 * 3 * 4 + 8 + 2 * 4) * pixels
    classes = subject_of(configure_classes({"train": {"batch": 1, "ratio": 2, "device": "cpu"}}), 10, None)
    assert classes.moved(OURS) == 3 * 8
    assert classes.moved("reference") == 5 * 3 * 32 * 32 * 4 + 8
