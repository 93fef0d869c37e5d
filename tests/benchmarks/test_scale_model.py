"""docs/scale.md says what its model says, and the model what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scale_model as model

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


@pytest.mark.parametrize("make", model.TABLES, ids=lambda make: make.__name__)
def test_tables_of_the_page_are_those_of_the_model(make: object) -> None:
    assert callable(make)
    assert make() in PAGE.read_text(), "print them anew: python -m benchmarks.scale_model"


def test_a_step_of_the_base_network_is_what_was_counted() -> None:
    _, forward, learned, _ = model.NETWORKS["B"]
    assert model.step_tflop(forward, learned, 8, 8) == pytest.approx(30.48, rel=1e-3)


def test_bytes_and_processor_time_follow_from_fewer_processes() -> None:
    alone, two = model.MEASURED[0][2], model.MEASURED[1][2]
    for count, size, seconds, sent in model.MEASURED[1:]:
        assert sent == pytest.approx(model.ring_bytes(24.72, count, size) / 1e6, rel=0.03)
        assert seconds == pytest.approx(alone + (count - 1) * (two - alone), rel=0.06)


def test_hours_of_the_authors() -> None:
    for name, steps, (forward, learned, images), hours in model.LOGGED:
        found = steps * (model.step_tflop(forward, learned, images, images) / model.A100 + model.OVERHEAD) / 3600
        if name.startswith("Cityscapes"):
            assert found < 0.6 * hours, "sliding windows and large PNGs are not in the model"
        else:
            assert found == pytest.approx(hours, rel=0.125), name


def test_more_gpus_never_make_a_step_shorter_nor_smaller_sums_longer() -> None:
    for name, (millions, *_) in model.NETWORKS.items():
        found = [model.step_seconds(name, gpus, model.SLOW) for gpus in (1, 8, 64, 512)]
        assert found == sorted(found)
        assert model.reduce_seconds(millions, 1, model.SLOW) == 0
        assert model.step_seconds(name, 64, model.SLOW, 2) <= model.step_seconds(name, 64, model.SLOW)
