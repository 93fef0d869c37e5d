from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.step.workload import Workload, build_workload, configure
from semikit.run.config import Config
from semikit.run.recipes import merge

CLASSES = 4
SMALL: dict[str, Any] = {
    "model": {
        "encoder_args": {"depth": 2, "embed_dim": 48, "num_heads": 2, "img_size": 28},
        "decoder_channels": 8,
        "decoder_widths": [8, 8, 16, 16],
    },
    "views": {"weak": {"crop": 42}, "mix": {"probability": 1.0}},
    "train": {"batch": 2, "device": "cpu"},
    "method": {"threshold": 0.5},
}

Configure = Callable[..., Config]


@pytest.fixture
def small() -> Configure:
    """A configuration of a small network and crop; more values are laid over it."""
    return lambda above=None, task="seg": configure(merge(SMALL, above or {}), task)


@pytest.fixture(params=["seg", "cd"])
def workload(small: Configure, request: pytest.FixtureRequest) -> Workload:
    """The small network of each task, some of whose predictions are confident."""
    made = build_workload(small(task=request.param), CLASSES)
    for network in (made.network, made.method.student, made.method.teacher):
        classifier = network.classifier if request.param == "seg" else network.segmenter.classifier
        classifier.weight.data.mul_(40 if request.param == "seg" else 120)
    return made
