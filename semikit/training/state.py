"""All that a run is, as plain values and tensors: what a checkpoint holds, and going on from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from semikit.core.method import Method
from semikit.core.network import Network
from semikit.training.meter import Meter
from semikit.training.step import Stepper


def learned_state(method: Method, stepper: Stepper, meter: Meter) -> dict[str, Any]:
    """What learning has changed: method, optimiser, loss scale, skipped steps, means since the last evaluation.

    Where the method is sharded all processes have to call it, and only the first gets method and optimiser.
    """
    scaler, sharding = stepper.scaler, stepper.sharding
    if sharding is None:
        learned = {"method": method.state_dict(), "optimizer": stepper.optimizer.state_dict()}
    else:
        learned = sharding.state(stepper.optimizer)
    return {
        **learned,
        "scaler": None if scaler is None else scaler.state_dict(),
        "skipped": [int(stepper.skipped), int(stepper.first_skipped)],
        "meter": [meter.since_evaluation, meter.steps_since_evaluation],
    }


def restore_learned(state: Mapping[str, Any], method: Method, stepper: Stepper, meter: Meter) -> None:
    """Put back what `learned_state` gave."""
    if stepper.sharding is None:
        method.load_state_dict(state["method"])
        stepper.optimizer.load_state_dict(state["optimizer"])
    else:
        stepper.sharding.load(stepper.optimizer, state)
    if stepper.scaler is not None and state["scaler"] is not None:
        stepper.scaler.load_state_dict(state["scaler"])
    stepper.skipped.fill_(state["skipped"][0])
    stepper.first_skipped.fill_(state["skipped"][1])
    meter.since_evaluation, meter.steps_since_evaluation = dict(state["meter"][0]), int(state["meter"][1])


@contextmanager
def whole_networks(method: Method, stepper: Stepper) -> Iterator[dict[str, Network]]:
    """Student and teacher as they are evaluated and kept; where they are sharded copies, for which all processes have
    to enter.
    """
    networks = {"student": method.student, "teacher": method.teacher}
    with nullcontext(networks) if stepper.sharding is None else stepper.sharding.whole(networks) as whole:
        yield whole
