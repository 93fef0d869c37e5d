"""How long a run would take on this machine, from a few of its steps."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from semikit.run.build import Run
from semikit.training.device import wait_for

_WARMUP, _TIMED = 2, 5


def timed(run: Run) -> str:
    """The length of a run in words, after 2 + 5 steps with their batches; the network has learned them afterwards.

    Evaluations are counted, not timed.
    """
    trainer, schedule = run.trainer, run.schedule
    trainer.method.train()
    batches: Iterable[Any] = run.task.batches(
        range(_WARMUP + _TIMED), run.config.train.workers, run.device.type == "cuda"
    )
    begun = time.perf_counter()
    for step, raw in enumerate(batches):
        if step == _WARMUP:
            wait_for(run.device)
            begun = time.perf_counter()
        labeled, unlabeled = run.task.views(raw, step, run.device)
        trainer.stepper(labeled, unlabeled, step)
    wait_for(run.device)
    seconds = (time.perf_counter() - begun) / _TIMED
    evaluations = -(-schedule.iterations // schedule.eval_every)
    counts = run.task.counts
    return (
        f"{_words(seconds * schedule.iterations)} here for {schedule.iterations} steps of {seconds:.3g} s ({_TIMED} "
        f"were timed), and {evaluations} evaluations of {counts.val} images"
    )


def _words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
