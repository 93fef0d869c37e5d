"""How long a run would take on this machine, and what another precision would gain, from a few of its steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from semikit.core.batch import Labeled, Unlabeled
from semikit.distributed.collectives import process_count
from semikit.run.build import Run, stepper_of
from semikit.run.teacher import rounds_of
from semikit.training.device import wait_for
from semikit.training.memory import left_as_it_was
from semikit.training.step import Stepper

_WARMUP, _TIMED = 2, 5
_WORTH = 1000
"""Steps of a run from which a few to compare precisions cost less than a hundredth of it."""
_LONG = 5.0
"""Seconds of a step from which there is no comparison."""
_GAIN = 1.1
"""How many times as fast a step has to be to be called faster: no measurement is exact."""


def precision_compared(run: Run, always: bool = False) -> Run:
    """The run, whose plan says what a step takes in fp32 and in bf16: where `train.precision: auto` left the choice to
    the user of a processor that multiplies bf16, and the run is long enough, or `always`. The run is as it was, bit
    for bit.
    """
    config = run.config
    asked = "precision" in config.chosen and config.train.precision == "fp32"
    plain = process_count() == 1 and not config.train.compiled
    if not (asked and plain and (always or run.schedule.iterations >= _WORTH)):
        return run
    return replace(
        run,
        config=replace(config, chosen={**config.chosen, "precision": _compared(run, math.inf if always else _LONG)}),
    )


def _compared(run: Run, limit: float) -> str:
    """A sentence on the faster of two steps in each precision, after one that counts for nothing; only that one where
    it takes more than `limit` seconds.
    """
    config, method, task = run.config, run.trainer.method, run.task
    steppers = {
        name: stepper_of(replace(config, train=config.train.model_copy(update={"precision": name})), method, run.device)
        for name in ("fp32", "bf16")
    }
    with left_as_it_was(method, run.device):
        method.train()
        batch = task.views(next(iter(task.batches(range(1), 0, False))), 0, run.device)
        begun = time.perf_counter()
        _cost(steppers["fp32"], batch)
        first = time.perf_counter() - begun
        if first > limit:
            return f"fp32; a step takes {first:.0f} s, too long to try --precision bf16 here (--dry-run --time)"
        _cost(steppers["bf16"], batch)
        tried = [{name: _cost(stepper, batch) for name, stepper in steppers.items()} for _ in range(2)]
    full, half = (min(costs[name] for costs in tried) for name in steppers)
    if full < _GAIN * half:
        return "fp32; --precision bf16 does not make a step faster here"
    return f"fp32; --precision bf16 makes a step {full / half:.1f} times as fast here"


def _cost(stepper: Stepper, batch: tuple[Labeled, Unlabeled | None]) -> float:
    """Seconds of the processor, over all threads: other programs hardly count."""
    begun = time.process_time()
    stepper(*batch, 0)
    return time.process_time() - begun


def timed(run: Run) -> str:
    """The length of a run in words, after 2 + 5 steps with their batches; the network has learned them afterwards.

    Evaluations are counted, not timed.
    """
    trainer, schedule = run.trainer, run.schedule
    trainer.method.train()
    first = run.task.layout.typical_step
    steps = range(first, first + _WARMUP + _TIMED)
    batches: Iterable[Any] = run.task.batches(steps, run.config.train.workers, run.device.type == "cuda")
    begun = time.perf_counter()
    for step, raw in zip(steps, batches, strict=True):
        if step == first + _WARMUP:
            wait_for(run.device)
            begun = time.perf_counter()
        labeled, unlabeled = run.task.views(raw, step, run.device)
        trainer.stepper(labeled, unlabeled, step)
    wait_for(run.device)
    seconds, runs = (time.perf_counter() - begun) / _TIMED, max(len(rounds_of(run.config)), 1)
    several = f"{runs} runs of " if runs > 1 else ""
    evaluations = -(-schedule.iterations // schedule.eval_every)
    counts = run.task.counts
    return (
        f"{_words(seconds * schedule.iterations * runs)} here for {several}{schedule.iterations} steps of "
        f"{seconds:.3g} s ({_TIMED} were timed), and {evaluations * runs} evaluations of {counts.val} images"
    )


def _words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
