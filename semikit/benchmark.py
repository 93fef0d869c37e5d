"""How fast a configuration trains: steps per second and their parts, memory, share of the device's peak, the loader.

The form of public code beside it is measured from the repository: `python -m benchmarks.step`.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, final

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from semikit import __version__
from semikit.core.pseudo_labels import call
from semikit.run import build
from semikit.run.config import Config
from semikit.training.device import choose_device, describe_device, kernels, peak_memory, settled_precision, wait_for
from semikit.training.reporter import Reporter
from semikit.training.step import PARTS

VIEWS, STEP = "semikit views", "semikit step"
RANGES = (VIEWS, *PARTS)
"""The parts of a step, in order; what they leave is for zeroing gradients and Python."""
PEAKS: Mapping[str, tuple[float, float, float, str]] = {
    "H200 NVL": (60.0, 417.5, 835.5, "H200 Tensor Core GPU"),
    "H200": (67.0, 494.5, 989.5, "H200 Tensor Core GPU"),
    "H100 NVL": (60.0, 417.5, 835.5, "H100 Tensor Core GPU"),
    "H100 PCIe": (51.0, 378.0, 756.5, "H100 Tensor Core GPU"),
    "H100": (67.0, 494.5, 989.5, "H100 Tensor Core GPU"),
    "A100": (19.5, 156.0, 312.0, "A100 Tensor Core GPU"),
    "L40S": (91.6, 183.0, 362.05, "L40S"),
    "L4": (30.3, 60.0, 121.0, "L4 Tensor Core GPU"),
    "RTX 4090": (82.6, 82.6, 165.2, "Ada GPU Architecture, appendix A"),
}
"""Words of a device's name -> dense TFLOP/s in fp32, in tf32, and in bf16 or fp16 (sums in fp32), and NVIDIA's data
sheet (of the RTX 4090 its white paper) that says so; a figure given with sparsity alone is halved. The first name that
fits counts.
"""
_SIDE, _TRIES, _ENOUGH = {"cuda": 8192, "mps": 4096, "cpu": 1024}, 3, 0.5
"""Of the matrix product that is timed where no data sheet is known: side, fewest repeats, seconds in all."""
_BATCHES = 4
"""Different batches that are read before the clock starts; the steps take them in turn."""
_PROFILED = 3
_CPU_INFO = Path("/proc/cpuinfo")


@final
@dataclass(frozen=True, slots=True)
class Peak:
    """What a device can do at best, TFLOP/s, and who says so."""

    tflops: float
    source: str


@final
@dataclass(frozen=True, slots=True)
class Waits:
    """What in `steps` steps lets the host wait for the device: copies to the device from memory that is not
    page-locked, copies to the host, and waits of the runtime.
    """

    steps: int
    pageable: int
    to_host: int
    waits: int


@final
@dataclass(frozen=True, slots=True)
class StepSpeed:
    """Steps of training that follow each other, views included, the loader left out.

    `parts`: seconds a step by range, on CUDA those of the kernels. `memory`: the most in use, bytes;
    on a CPU that of the whole process. `tflop` a step: matrix products and convolutions, forward and backward.
    `share_of_peak`: of the device's peak in the precision of the run, about 0..1. `waits`: None without a device.
    """

    seconds: float
    steps_per_second: float
    images_per_second: float
    parts: Mapping[str, float]
    memory: float
    tflop: float
    tflops: float
    peak: Peak
    share_of_peak: float
    waits: Waits | None

    def as_plain(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


@final
@dataclass(frozen=True, slots=True)
class LoaderSpeed:
    """The batches of training, made by `workers` processes (0: this one) while nothing else runs. `first_batch`:
    seconds until the workers' first batch, which counts for nothing else.
    """

    workers: int
    first_batch: float
    seconds: float
    images_per_second: float

    def as_plain(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


def measure_step(
    config: Config, steps: int, warmup: int, peak: float | None = None, trace: Path | None = None
) -> StepSpeed:
    """Train `steps` steps and time them; then a few more under the profiler, for the parts.

    `peak` of the device in TFLOP/s (None: its data sheet's, else measured). `trace`: where the profiler's trace is
    written, in Chrome's format.

    Raises:
        InputError: where training would raise it too.
    """
    run = build.build_run(config, Path("-"), Reporter(), begins=True)
    run.trainer.method.train()
    step_of = _steps(run)
    for step in range(warmup):
        step_of(step)
    wait_for(run.device)
    if run.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(run.device)
    begun = time.perf_counter()
    for step in range(warmup, warmup + steps):
        step_of(step)
    wait_for(run.device)
    seconds, memory = (time.perf_counter() - begun) / steps, peak_memory(run.device)
    parts, waits = _profiled(step_of, run.device, seconds, trace)
    tflop = _tflop(run, step_of)
    best = peak_of(run.device, run.config.train.precision, peak)
    images = run.trainer.meter.images_per_step
    return StepSpeed(
        seconds, 1 / seconds, images / seconds, parts, memory,
        tflop, tflop / seconds, best, tflop / seconds / best.tflops, waits,
    )  # fmt: skip


def measure_loader(config: Config, steps: int) -> LoaderSpeed:
    """Make the raw batches of so many steps as training does.

    Raises:
        InputError: where training would raise it too.
    """
    task, train = build.build_task(config), config.train
    begun = time.perf_counter()
    batches = iter(task.batches(range(steps + 1), train.workers, choose_device(train.device).type == "cuda"))
    next(batches)
    first = time.perf_counter()
    for _ in range(steps):
        next(batches)
    seconds = (time.perf_counter() - first) / steps
    if hasattr(batches, "close"):
        batches.close()  # ends the workers behind it
    images = train.batch * (1 + train.ratio * build.requirements_of(config).unlabeled)
    return LoaderSpeed(train.workers, first - begun, seconds, images / seconds)


def environment(config: Config) -> dict[str, str]:
    """Where a measurement was made, as text: versions, device, processor, precision, network, date."""
    train, device = config.train, choose_device(config.train.device)
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.is_file() else []
    compiled = f", compiled ({train.compile})" if train.compiled else ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "semikit": f"semikit {__version__}",
        "torch": f"torch {torch.__version__}",
        "python": f"Python {platform.python_version()}",
        "device": describe_device(device),
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "precision": f"{settled_precision(train.precision, device)}{compiled}",
        "network": f"{config.model.encoder}, {train.batch}+{train.batch * train.ratio} images",
        "date": date.today().isoformat(),
    }


def peak_of(device: torch.device, precision: str, given: float | None) -> Peak:
    """The peak that was given, else that of the device's data sheet in this precision, else that of a matrix product
    that is timed on it now.
    """
    if given is not None:
        return Peak(given, "given")
    precision = settled_precision(precision, device)
    return known_peak(describe_device(device), precision) or measured_peak(device, precision)


def known_peak(device: str, precision: str) -> Peak | None:
    """What the data sheet of the device of this name says; None for one that is not in the table, for a part of one
    (MIG), and for the slower ones of almost the same name.
    """
    if re.search(r"\bMIG\b|\bLaptop\b|\b4090 D\b", device):
        return None
    found = next((name for name in PEAKS if re.search(rf"\b{name}\b", device)), None)
    if found is None:
        return None
    full, tf32, half, sheet = PEAKS[found]
    tflops = {"fp32": full, "tf32": tf32}.get(precision, half)
    return Peak(tflops, f"{precision}, dense, data sheet of NVIDIA {sheet}")


def measured_peak(device: torch.device, precision: str) -> Peak:
    """The best of some matrix products in this precision on this device, with torch's threads on a CPU."""
    side, dtype = _SIDE[device.type], {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    one, two = torch.randn(2, side, side, device=device).to(dtype).unbind()
    times: list[float] = []
    with kernels(device, precision)():
        while len(times) < _TRIES or sum(times) < _ENOUGH:
            wait_for(device)
            begun = time.perf_counter()
            torch.mm(one, two)
            wait_for(device)
            times.append(time.perf_counter() - begun)
    return Peak(2 * side**3 / min(times) / 1e12, f"{precision}, measured, product of {side} x {side} matrices")


def _steps(run: build.Run) -> Callable[[int], None]:
    """Makes one step of training: a raw batch to the device, views, the optimiser's step."""
    batches = run.task.batches(range(_BATCHES), 0, run.device.type == "cuda")
    raws = list(islice(batches, _BATCHES))

    def step_of(step: int) -> None:
        with record_function(VIEWS):
            labeled, unlabeled = run.task.views(raws[step % _BATCHES], step, run.device)
        run.trainer.stepper(labeled, unlabeled, step)

    return step_of


def _tflop(run: build.Run, step_of: Callable[[int], None]) -> float:
    """Operations of a step, 10^12, 2 for a multiplication and an addition; uncompiled, as the counter sees no fused
    kernels. On the CPU attention runs as plain products, since the counter does not know its kernel there.
    """
    stepper = run.trainer.stepper
    if run.config.train.compiled:
        stepper.forward, run.trainer.method.label_pass = run.trainer.method, call
    plain = sdpa_kernel(SDPBackend.MATH) if run.device.type == "cpu" else nullcontext()
    with FlopCounterMode(display=False) as counter, plain:
        step_of(0)
    return int(counter.get_total_flops()) / 1e12


def _profiled(
    step_of: Callable[[int], None], device: torch.device, seconds: float, trace: Path | None
) -> tuple[dict[str, float], Waits | None]:
    """Seconds a step by part, and what waits in the steps that were profiled."""
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    wait_for(device)
    with profile(activities=activities) as profiler:
        for step in range(_PROFILED):
            with record_function(STEP):
                step_of(step)
        wait_for(device)
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    events = list(profiler.events() or ())
    if on_cuda:
        return {name: took / _PROFILED for name, took in kernels_of(events).items()}, waits_of(events)
    spans = spans_of(events)  # longer than without the profiler
    return {name: seconds * spans[name] / spans[STEP] for name in RANGES}, None


class Event(Protocol):
    """What is read of an event of torch's profiler; times in microseconds."""

    name: str
    device_type: Any
    time_range: Any
    kernels: Any


def spans_of(events: Iterable[Event]) -> dict[str, float]:
    """Seconds that the ranges lasted on the host."""
    seconds = dict.fromkeys((*RANGES, STEP), 0.0)
    for event in events:
        if event.name in seconds and event.device_type.name == "CPU":
            seconds[event.name] += (event.time_range.end - event.time_range.start) / 1e6
    return seconds


def kernels_of(events: Iterable[Event]) -> dict[str, float]:
    """Seconds of the device's kernels by the range that was open on the host when they were launched, by whatever
    thread: the backward pass has its own.
    """
    host = [event for event in events if event.device_type.name == "CPU"]
    spans = {name: [event.time_range for event in host if event.name == name] for name in RANGES}
    seconds = dict.fromkeys(RANGES, 0.0)
    for event in host:
        # The device's copy of a range is no kernel.
        took = sum(kernel.duration for kernel in event.kernels if kernel.name not in (*RANGES, STEP))
        for name, found in spans.items():
            if took and any(span.start <= event.time_range.start <= span.end for span in found):
                seconds[name] += took / 1e6
    return seconds


def waits_of(events: Iterable[Event]) -> Waits:
    """What lets the host wait inside the ranges called `STEP`; copies count wherever the device makes them, as it may
    be late.
    """
    events = list(events)
    whole = [event.time_range for event in events if event.name == STEP and event.device_type.name == "CPU"]
    copies = [event.name for event in events if event.name.startswith("Memcpy")]
    calls = [
        event
        for event in events
        if event.name.startswith(("cuda", "hip"))
        and event.name.endswith(("StreamSynchronize", "DeviceSynchronize", "EventSynchronize"))
    ]
    inside = [call for call in calls if any(span.start <= call.time_range.start <= span.end for span in whole)]
    pageable = sum(name.startswith("Memcpy HtoD") and "Pinned" not in name for name in copies)
    return Waits(len(whole), pageable, sum(name.startswith("Memcpy DtoH") for name in copies), len(inside))
