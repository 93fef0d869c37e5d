"""Which device a run uses, and how it computes there: precision, autocast, kernels."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from semikit.core.task import Inference
from semikit.errors import ConfigError, unknown

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FULL = ("fp32", "tf32")
_DEVICES, _NUMBERED = ("auto", "cpu", "cuda", "mps"), ("0", "cuda:1")
_BF16_CAPABILITY = (8, 0)
"""Compute capability from which CUDA devices multiply bf16 (Ampere)."""
_BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")
"""What torch calls the instructions of processors that do: Intel, Intel and AMD, ARM."""
_ATTENTION = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def device_name(given: str | int) -> str:
    """A device as it is written: auto, cpu, cuda, mps, or cuda:N, which the number N alone means too.

    Raises:
        UnknownNameError: for any other name.
    """
    name = str(given)
    if re.fullmatch(r"(cuda:)?\d+", name):
        return f"cuda:{int(name.removeprefix('cuda:'))}"
    if name not in (*_DEVICES, *_NUMBERED):
        raise unknown("device", name, (*_DEVICES, *_NUMBERED), first=_DEVICES)
    return name


def choose_device(given: str | int) -> torch.device:
    """`auto` is cuda, else mps, else cpu; a GPU that is named by its number becomes the one in use.

    Raises:
        UnknownNameError: for any other name; ConfigError: when the named device is not there.
    """
    name = device_name(given)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind, numbered, number = name.partition(":")
    if numbered and there["cuda"]:
        present = torch.cuda.device_count()
        if int(number) >= present:
            raise ConfigError(f"device {name!r} is not there: this machine has GPUs 0 to {present - 1}.")
        torch.cuda.set_device(int(number))  # what is not named otherwise (streams, pinned memory) goes there too
        return torch.device(kind, int(number))
    if name == "auto":
        return torch.device(next(kind for kind, present in there.items() if present))
    if not there[kind]:
        available = ", ".join(one for one, ok in there.items() if ok)
        raise ConfigError(f"device {name!r} is not available here. Available: {available}. Use --device auto.")
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """A readable name, for messages and reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU (mps)"
    return f"CPU, {torch.get_num_threads()} threads"


def settled_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 on a CUDA device that multiplies it (compute capability 8.0), elsewhere fp32; others stay."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and multiplies_bf16(device) else "fp32"


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bf16; False where torch does not know."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _BF16_CAPABILITY
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions
    return device.type == "cpu" and any(capabilities.get(name) for name in _BF16_INSTRUCTIONS)


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """A maker of contexts for forward passes: bf16 or fp16 by torch's autocast, fp32 and tf32 as they are.

    Raises:
        UnknownNameError: for any other precision.
    """
    precision = settled_precision(precision, device)
    if precision in _FULL:
        return nullcontext
    if precision not in _TYPES:
        raise unknown("precision", precision, ["auto", *_FULL, *_TYPES])
    return lambda: torch.autocast(device.type, dtype=_TYPES[precision])


def attention_backends(device: torch.device, precision: str) -> tuple[str, ...]:
    """Kernels of attention that a run may use on CUDA, in their order: the first that can compute a call does. None
    elsewhere, where they are not chosen among.

    Flash attention takes 16 bits only; cuDNN's is left out, so that a run does not depend on its version.
    """
    if device.type != "cuda":
        return ()
    return tuple(_ATTENTION)[1 if precision in _FULL else 0 :]


def kernels(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """A maker of contexts for whole steps and evaluations, in which a CUDA device chooses among the same kernels in all
    of a run: those of `attention_backends`, and products of float32 in TF32 where `precision` is tf32.

    Convolutions of float32 use TF32 in fp32 too, as torch does and the published runs did.
    """
    if device.type != "cuda":
        return nullcontext
    backends = [_ATTENTION[name] for name in attention_backends(device, precision)]

    rounded = _products_in_tf32 if precision == "tf32" else nullcontext

    @contextmanager
    def chosen() -> Iterator[None]:
        with rounded(), sdpa_kernel(backends, set_priority=True):
            yield

    return chosen


@contextmanager
def _products_in_tf32() -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def inference_on(device: torch.device, precision: str) -> Inference:
    """Device, autocast and kernels of networks that are evaluated or predict.

    Raises:
        UnknownNameError: for an unknown precision.
    """
    precision = settled_precision(precision, device)
    cast, chosen = autocast(device, precision), kernels(device, precision)

    @contextmanager
    def context() -> Iterator[None]:
        with chosen(), cast():
            yield

    return Inference(device, context)


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
