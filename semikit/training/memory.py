"""How large a micro-batch fits on the device: found by real steps that leave no trace."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from semikit.core.batch import Labeled, Unlabeled
from semikit.core.method import Method
from semikit.core.task import Task
from semikit.distributed.collectives import alone
from semikit.errors import RunError
from semikit.training.step import Stepper

MARGIN = 0.05
"""Share of the device's memory that has to be left: other programs, and blocks that do not fit into gaps."""

_STEPS = 2
"""Steps of a try: from the second on the optimiser's state is there while the gradients are taken."""

_STRUCTURE = ("_parameters", "_buffers", "_modules")
_NO_ROOM = ("out of memory", "ALLOC_FAILED")
"""What torch, cuDNN and cuBLAS say when there is none."""


def largest_micro_batch(try_step: Callable[[int], None], sizes: Sequence[int], device: torch.device) -> int:
    """The largest of `sizes` whose step fits on a CUDA device and leaves `MARGIN` of its memory.

    `try_step` makes one; what fits is assumed to fit in smaller steps too. The largest is tried first, then the
    interval is halved; between tries all memory is given back.

    Raises:
        RunError: when not even the smallest fits.
    """
    ordered = sorted(set(sizes))
    fitting, failing = -1, len(ordered)
    while failing - fitting > 1:
        place = failing - 1 if failing == len(ordered) else (fitting + failing) // 2
        if _fits(try_step, ordered[place], device):
            fitting = place
        else:
            failing = place
    if fitting < 0:
        raise RunError(
            f"not even a micro-batch of {ordered[0]} labelled images leaves {MARGIN:.0%} of the memory of {device}. "
            "Set model.checkpointing=true, use --precision bf16 or a smaller --crop, or share the network out over "
            "several processes (train.shard=true)."
        )
    return ordered[fitting]


def micro_batch_sizes(own: int, multiple: int = 1) -> list[int]:
    """The sizes into which a process's `own` labelled images of a step can be cut evenly, multiples of `multiple`."""
    return [size for size in range(1, own + 1) if own % size == 0 and size % multiple == 0]


def planned_micro_batches(
    method: Method,
    task: Task,
    stepper_of: Callable[[int], Stepper],
    multiple: int,
    whole: bool,
    device: torch.device,
) -> tuple[int, str]:
    """Into how few micro-batches the largest step has to be cut to fit on the device, and a sentence that tells it.

    Micro-batches are multiples of `multiple` images, with `whole` the whole share. Elsewhere than on a CUDA device
    there is no limit that could be tried, and the number is 1. All processes have to call it.
    """
    if device.type != "cuda":
        return 1, f"train.accumulate auto is 1 on {device.type}, whose memory has no limit that could be tried"
    step = task.layout.largest_step
    raw = next(iter(task.batches(range(step, step + 1), 0, False)))
    labeled, unlabeled = task.views(raw, step, device)
    own = len(labeled.index)
    parts = fitting_micro_batches(method, stepper_of, labeled, unlabeled, own if whole else multiple, device)
    return parts, f"train.accumulate auto: {parts} micro-batches of {own // parts} labelled images fit on {device}"


def fitting_micro_batches(
    method: Method,
    stepper_of: Callable[[int], Stepper],
    labeled: Labeled,
    unlabeled: Unlabeled | None,
    multiple: int,
    device: torch.device,
) -> int:
    """Into how few micro-batches this process's share of a step has to be cut to fit on the device.

    `stepper_of` makes a stepper, with an optimiser of its own, for a number of micro-batches. Other processes are not
    asked, so each may find another number. Afterwards nothing is different: parameters, buffers, gradients, modes and
    what is drawn next.

    Raises:
        RunError: when even micro-batches of one image do not fit.
    """
    own = len(labeled.index)
    if unlabeled is not None:
        # Alone, this process's share is the whole batch.
        count = len(unlabeled.index)
        partner = unlabeled.partner % count if unlabeled.cross_rank else unlabeled.partner
        unlabeled = replace(unlabeled, cross_rank=False, partner=partner, positions=range(count))

    def try_step(size: int) -> None:
        try:
            stepper = stepper_of(own // size)
            for step in range(_STEPS):
                stepper(labeled, unlabeled, step)
        finally:
            method.zero_grad(set_to_none=True)

    with alone(), left_as_it_was(method, device):
        method.train()
        return own // largest_micro_batch(try_step, micro_batch_sizes(own, multiple), device)


@contextmanager
def left_as_it_was(method: Method, device: torch.device) -> Iterator[None]:
    """When the block ends, the method has the values, modes and plain attributes it began with, no gradients, and
    torch draws the numbers it would have drawn. Values wait on the host, so that the device is as full as in a run.
    """
    tensors: list[Tensor] = [*method.parameters(), *method.buffers()]
    values = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    attributes = {module: _attributes(module) for module in method.modules()}
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        method.zero_grad(set_to_none=True)
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
        for module, before in attributes.items():
            for name in _attributes(module).keys() - before.keys():
                del module.__dict__[name]
            module.__dict__.update(before)


def _attributes(module: nn.Module) -> dict[str, object]:
    """What a module holds beside tensors and other modules."""
    return {name: value for name, value in module.__dict__.items() if name not in _STRUCTURE}


def _fits(try_step: Callable[[int], None], size: int, device: torch.device) -> bool:
    _give_back(device)
    try:
        try_step(size)
        return _room(device) >= MARGIN
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and not any(text in str(error) for text in _NO_ROOM):
            raise
        return False
    finally:
        _give_back(device)


def _room(device: torch.device) -> float:
    """The share of the device's memory that was left when it was fullest; elsewhere than on CUDA there is no limit."""
    if device.type != "cuda":
        return 1.0
    torch.cuda.synchronize(device)
    free, total = torch.cuda.mem_get_info(device)
    held, fullest = torch.cuda.memory_reserved(device), torch.cuda.max_memory_reserved(device)
    return (free + held - fullest) / total


def _give_back(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
