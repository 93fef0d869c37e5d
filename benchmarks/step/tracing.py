"""A trace of one step by torch's profiler, and what in it copies between host and device or makes the host wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch.profiler import ProfilerActivity, profile, record_function

STEP = "semikit step"
_WAITS = ("StreamSynchronize", "DeviceSynchronize", "EventSynchronize")
_RUNTIMES = ("cuda", "hip")
_READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::bincount")


@final
@dataclass(frozen=True, slots=True)
class Event:
    """One event of a trace: its name, where it begins and ends, microseconds."""

    name: str
    begin: float
    end: float


@final
@dataclass(frozen=True, slots=True)
class StepTrace:
    """Counts inside one step; None where there is no device.

    `pinned`: copies to the device from page-locked memory, which nobody waits for; `pageable`: those from other memory,
    which wait; `to_host`: copies back; `waits`: calls of the runtime in which the host waits for the device; `reads`:
    operations whose result the host needs.
    """

    pinned: int | None
    pageable: int | None
    to_host: int | None
    waits: int | None
    reads: int | None

    def told(self) -> str:
        """One line for people."""
        if self.waits is None:
            return "in the step: no copies and no waits, for there is no device beside the CPU"
        return (
            f"in the step: {self.pinned} copies to the device from page-locked memory (nobody waits), {self.pageable} "
            f"from other memory, {self.to_host} copies to the host, {self.waits} waits for the device, "
            f"{self.reads} operations that the host needs the result of"
        )


def trace_step(run: Callable[[], Any], path: Path, device: torch.device) -> StepTrace:
    """Run once under the profiler and write its trace, in Chrome's format, to `path`."""
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    if on_cuda:
        torch.accelerator.synchronize()
    with profile(activities=activities) as profiler:
        with record_function(STEP):
            run()
        if on_cuda:
            torch.accelerator.synchronize()
    profiler.export_chrome_trace(str(path))
    events = [Event(event.name, event.time_range.start, event.time_range.end) for event in profiler.events() or ()]
    return counted(events, with_device=on_cuda)


def counted(events: Iterable[Event], with_device: bool) -> StepTrace:
    """Counts of a trace whose step is the event called `STEP`; copies are counted wherever the device makes them, as it
    may be late.
    """
    events = list(events)
    whole = next(event for event in events if event.name == STEP)
    inside = [event.name for event in events if whole.begin <= event.begin <= whole.end]
    if not with_device:
        return StepTrace(None, None, None, None, None)
    names = [event.name for event in events]
    to_device = [name for name in names if name.startswith("Memcpy HtoD")]
    pinned = sum("Pinned" in name for name in to_device)
    to_host = sum(name.startswith("Memcpy DtoH") for name in names)
    waits = sum(name.startswith(_RUNTIMES) and name.endswith(_WAITS) for name in inside)
    return StepTrace(pinned, len(to_device) - pinned, to_host, waits, sum(name in _READS for name in inside))
