from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks.step.tracing import STEP, Event, StepTrace, counted, trace_step

EVENTS = [
    Event("cudaDeviceSynchronize", 0, 5),  # before the step
    Event(STEP, 10, 100),
    Event("cudaMemcpyAsync", 11, 12),
    Event("Memcpy HtoD (Pinned -> Device)", 12, 13),
    Event("Memcpy HtoD (Pinned -> Device)", 150, 160),  # the device is late
    Event("Memcpy HtoD (Pageable -> Device)", 20, 30),
    Event("Memcpy DtoD (Device -> Device)", 20, 30),
    Event("Memcpy DtoH (Device -> Pageable)", 40, 50),
    Event("aten::item", 39, 52),
    Event("aten::_local_scalar_dense", 39, 51),
    Event("aten::nonzero", 60, 61),
    Event("cudaStreamSynchronize", 41, 50),
    Event("cudaLaunchKernel", 42, 43),
    Event("hipDeviceSynchronize", 70, 71),
    Event("cudaDeviceSynchronize", 101, 120),  # after the step
]


def test_what_copies_and_what_waits() -> None:
    found = counted(EVENTS, with_device=True)
    assert found == StepTrace(pinned=2, pageable=1, to_host=1, waits=2, reads=2)
    told = found.told()
    assert "2 copies to the device from page-locked memory (nobody waits), 1 from other memory" in told
    assert "1 copies to the host, 2 waits for the device, 2 operations" in told


def test_a_step_that_waits_for_nothing() -> None:
    quiet = [event for event in EVENTS if event.name in (STEP, "cudaMemcpyAsync", "cudaLaunchKernel")]
    assert counted(quiet, with_device=True) == StepTrace(0, 0, 0, 0, 0)


def test_without_a_device_nothing_is_counted() -> None:
    assert counted(EVENTS, with_device=False) == StepTrace(None, None, None, None, None)
    assert "no device" in counted(EVENTS, with_device=False).told()


def test_the_trace_of_a_cpu(tmp_path: Path) -> None:
    values = torch.randn(8, 8)
    found = trace_step(lambda: values @ values, tmp_path / "trace.json", torch.device("cpu"))
    assert found.waits is None
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {STEP, "aten::mm"} <= names
