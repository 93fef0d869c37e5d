"""A whole measurement of one step: its parts, by turns with another form; its speed; a trace."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, final

import torch

from benchmarks.step import parts
from benchmarks.step.flops import step_flops
from benchmarks.step.forms import OURS, StepTimes, measure_forms
from benchmarks.step.subjects import CONTIGUOUS, Subject, subject_of
from benchmarks.step.tracing import StepTrace, trace_step
from benchmarks.step.watch import Clock, Watch
from semikit.benchmark import Peak, peak_of
from semikit.run.config import Config
from semikit.training.device import peak_memory


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured.

    `against`: another form, beside semikit's; it runs in fp32 unless `same_precision` (contiguous always runs in
    semikit's). `peak` of the device in TFLOP/s (None: by its name). `trace`: where the profiler's trace is written.
    """

    num_classes: int
    repeats: int
    warmup: int
    against: str | None = None
    clock: Clock = perf_counter
    same_precision: bool = False
    peak: float | None = None
    trace: Path | None = None


@final
@dataclass(frozen=True, slots=True)
class Speed:
    """Semikit's step without a stopwatch: seconds, images and TFLOP/s (matrix products and convolutions of the model),
    the most memory in use, bytes, and the peak that the TFLOP/s are a share of.

    On an accelerator steps follow each other without waiting for the device, as in training. On the CPU the seconds
    are the median of the timed steps, and the memory is that of the whole process.
    """

    seconds: float
    images_per_second: float
    step_tflop: float
    tflops: float
    peak: Peak
    share_of_peak: float
    memory: float


@final
@dataclass(frozen=True, slots=True)
class Measured:
    """All that was found."""

    times: StepTimes
    precisions: dict[str, str]
    speed: Speed
    trace: StepTrace | None

    def as_plain(self) -> dict[str, Any]:
        """For a JSON file."""
        trace = None if self.trace is None else asdict(self.trace)
        return {**self.times.as_plain(), "precisions": self.precisions, "speed": asdict(self.speed), "trace": trace}


def measure_steps(config: Config, asked: Asked) -> Measured:
    """Time steps of the configuration on made images; every pair of steps sees the same images under the same draws.

    Raises:
        InputError: for a configuration that training, or the other form, refuses.
    """
    subject = subject_of(config, asked.num_classes, asked.against)
    watch, other = Watch(subject.device, asked.clock), asked.against
    own = config.train.precision
    beside = own if asked.same_precision or other == CONTIGUOUS else "fp32"
    accelerated = subject.device.type != "cpu"
    seconds, memory = steady(subject, asked.warmup, asked.repeats) if accelerated else (0.0, 0.0)
    forms = {OURS: subject.ours(watch)}
    precisions: dict[str, str] = {OURS: own}
    if other is not None:
        forms[other], precisions[other] = subject.other(other, watch, beside), beside
    moved = {name: subject.moved(name) for name in forms}
    times = measure_forms(forms, subject.raw, watch, asked.repeats, asked.warmup, subject.images, moved)
    if not accelerated:
        seconds, memory = times.seconds[OURS][parts.STEP], peak_memory(subject.device)
    step = asked.warmup + asked.repeats
    trace = None if asked.trace is None else _traced(subject, step, asked.trace)
    return Measured(times, precisions, speed_of(subject, seconds, memory, asked.peak), trace)


def steady(subject: Subject, warmup: int, repeats: int, clock: Clock = time.perf_counter) -> tuple[float, float]:
    """Seconds a step of semikit takes where steps follow each other as in training, and the most memory in use, bytes.

    The device is waited for at the end only.
    """
    raws = [subject.raw(step) for step in range(min(4, warmup + repeats))]
    wait: Callable[[], None] = torch.accelerator.synchronize if subject.device.type != "cpu" else lambda: None
    for step in range(warmup):
        subject.run(raws[step % len(raws)], step)
    wait()
    if subject.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(subject.device)
    begun = clock()
    for step in range(warmup, warmup + repeats):
        subject.run(raws[step % len(raws)], step)
    wait()
    return (clock() - begun) / repeats, peak_memory(subject.device)


def speed_of(subject: Subject, seconds: float, memory: float, peak: float | None) -> Speed:
    """Speeds from the seconds of a step."""
    tflop = step_flops(subject.network, subject.image_shape, *subject.passes) / 1e12
    best, rate = peak_of(subject.device, subject.config.train.precision, peak), tflop / seconds
    return Speed(seconds, subject.images / seconds, tflop, rate, best, rate / best.tflops, memory)


def _traced(subject: Subject, step: int, path: Path) -> StepTrace:
    raw = subject.raw(step)
    return trace_step(lambda: subject.run(raw, step), path, subject.device)
