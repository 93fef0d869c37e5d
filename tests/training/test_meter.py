from __future__ import annotations

import pytest
import torch

from semikit.training import meter as module
from semikit.training.meter import Meter
from tests.helpers.sync_counter import SyncCounter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_means_and_pace(clock: list[float]) -> None:
    meter = Meter(images_per_step=4)
    for loss in (1.0, 2.0, 6.0):
        meter.add({"loss": torch.tensor(loss)}, waited=0.5)
        clock[0] += 1
    assert meter.read() == {"loss": 3.0, "images_per_second": 4.8, "waiting": 0.4}, "3 s, 1.5 s waited"
    meter.add({"loss": torch.tensor(1.0)}, waited=0.5)
    clock[0] += 1
    assert meter.read() == {"loss": 1.0, "images_per_second": 4.0, "waiting": 0.5}


def test_the_first_batch_is_kept_apart(clock: list[float]) -> None:
    meter = Meter(images_per_step=4)
    assert meter.first_batch is None
    clock[0] += 10
    meter.add({"loss": torch.tensor(1.0)}, waited=10.0)
    clock[0] += 2
    assert meter.read() == {"loss": 1.0, "images_per_second": 2.0, "waiting": 0.0}
    assert meter.first_batch == 10.0


def test_nothing_was_added(clock: list[float]) -> None:
    assert Meter(4).read() == {}


def test_each_reading_begins_anew(clock: list[float]) -> None:
    meter = Meter(2)
    for loss in (1.0, 5.0):
        meter.add({"loss": torch.tensor(loss)}, waited=0.0)
        clock[0] += 1
        assert meter.read()["loss"] == loss


def test_means_since_the_evaluation_span_readings(clock: list[float]) -> None:
    meter = Meter(2)
    for losses in ((1.0, 2.0), (6.0,)):
        for loss in losses:
            meter.add({"loss": torch.tensor(loss)}, waited=0.0)
        meter.read()
    assert meter.mean_since_evaluation() == {"loss": 3.0}
    assert meter.mean_since_evaluation() == {}


def test_an_evaluation_is_not_training_time(clock: list[float]) -> None:
    meter = Meter(10)
    clock[0] += 50
    meter.resume_clock()
    meter.add({"loss": torch.tensor(1.0)}, waited=0.0)
    clock[0] += 2
    assert meter.read()["images_per_second"] == 5


def test_adding_does_not_wait_for_the_device() -> None:
    meter = Meter(2)
    with SyncCounter() as counter:
        for _ in range(3):
            meter.add({"loss": torch.ones(()), "confident": torch.ones(())}, waited=0.0)
    assert not counter.found


def test_vectors_are_summed_and_not_told_as_means(clock: list[float]) -> None:
    meter = Meter(2)
    for loss in (1.0, 3.0):
        meter.add({"loss": torch.tensor(loss), "classes": torch.tensor([loss, 2.0])}, waited=0.0)
        clock[0] += 1
    assert meter.read() == {"loss": 2.0, "images_per_second": 2.0, "waiting": 0.0}
    assert meter.since_evaluation == {"loss": [4.0], "classes": [4.0, 4.0]}
    meter.add({"loss": torch.tensor(5.0), "classes": torch.tensor([1.0, 0.0])}, waited=0.0)
    meter.read()
    assert meter.since_evaluation["classes"] == [5.0, 4.0]
    assert meter.mean_since_evaluation() == {"loss": 3.0}
    assert meter.since_evaluation == {}
