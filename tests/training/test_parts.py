from __future__ import annotations

import pytest

from semikit.errors import ConfigError
from semikit.training.settings import TrainSettings, check_micro_batches, describe_step


def settings(**given: object) -> TrainSettings:
    return TrainSettings.model_validate({"iterations": 1, "batch": 16, "group": 4, **given})


@pytest.mark.parametrize(
    ("given", "processes", "ohem", "told"),
    [
        ({}, 3, False, r"batch=16 cannot be shared evenly by 3 processes. Start 1 or 2 or 4 or 8 or 16,"),
        ({"accumulate": 8}, 4, False, r"each of 4 processes has 4 of train.batch=16 .*accumulate=8 micro-batches"),
        ({"accumulate": 4}, 2, True, r"mines inside groups of 4, .*16 / 2 processes / train.accumulate=4"),
    ],
)
def test_refused(given: dict[str, object], processes: int, ohem: bool, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_micro_batches(settings(**given), processes, ohem)


def test_taken() -> None:
    check_micro_batches(settings(accumulate=4), 4, False)
    check_micro_batches(settings(), 4, True)


@pytest.mark.parametrize(
    ("given", "processes", "unlabeled", "told"),
    [
        ({}, 1, True, "16 + 16 images"),
        ({}, 1, False, "16 images"),
        ({"ratio": 7}, 4, True, "16 + 112 images = 4 processes of 4 + 28"),
        ({"accumulate": 2}, 1, True, "16 + 16 images = 2 micro-batches of 8 + 8"),
        ({"accumulate": 2}, 4, True, "16 + 16 images = 4 processes x 2 micro-batches of 2 + 2"),
    ],
)
def test_told(given: dict[str, object], processes: int, unlabeled: bool, told: str) -> None:
    assert describe_step(settings(**given), processes, unlabeled) == told
