from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from semikit.benchmark.workload import Workload, build_workload, configure
from semikit.config import Config
from semikit.recipes import merge

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
    return lambda above=None: configure(merge(SMALL, above or {}))


@pytest.fixture
def workload(small: Configure) -> Workload:
    """The small network, some of whose predictions are confident."""
    made = build_workload(small(), CLASSES)
    for network in (made.network, made.method.student, made.method.teacher):
        network.classifier.weight.data.mul_(40)
    return made
