"""Which device a run uses, and the autocast of its forward passes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from semikit.errors import ConfigError, unknown

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """`auto` is cuda, else mps, else cpu.

    Raises:
        UnknownNameError: for any other name; ConfigError: when the named device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name not in ("auto", *there):
        raise unknown("device", name, ["auto", *there])
    if name == "auto":
        return torch.device(next(kind for kind, present in there.items() if present))
    if not there[name]:
        present = ", ".join(kind for kind, ok in there.items() if ok)
        raise ConfigError(f"device {name!r} is not available here. Available: {present}. Use --device auto.")
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """A readable name, for messages and reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU (mps)"
    return f"CPU, {torch.get_num_threads()} threads"


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """A maker of contexts for forward passes: fp32 as it is, bf16 or fp16 by torch's autocast.

    Raises:
        UnknownNameError: for any other precision.
    """
    if precision == "fp32":
        return nullcontext
    if precision not in _TYPES:
        raise unknown("precision", precision, ["fp32", *_TYPES])
    return lambda: torch.autocast(device.type, dtype=_TYPES[precision])


def grad_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler | None:
    """Loss scaling, needed for fp16 only."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


@contextmanager
def convolutions_timed(timed: bool) -> Iterator[None]:
    """While the block runs cuDNN times its algorithms for every new shape, or does not: in training all steps have the
    same shapes, in evaluation images may all have others.
    """
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, timed
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def wait_for(device: torch.device) -> None:
    """Until what was asked of a device is done, so that a clock can be read."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def peak_memory(device: torch.device) -> float:
    """Most memory in use so far, bytes: of a CUDA device its own, else that of this process (NaN on Windows)."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return math.nan
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
