"""What the processes of a run have together: sums, rows, shares of a step. With one process they cost nothing.

Nothing here waits for the device. Each process makes an equal part of every step: consecutive positions of the total
batch, in order of rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T", int, Tensor)

_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """While the block runs this process counts as the only one: nothing is exchanged with others."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def process_count() -> int:
    """How many processes share the step; 1 without `torch.distributed`, or in a block of `alone`."""
    if _alone:
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """The number of this process, from 0; 0 without `torch.distributed`."""
    return dist.get_rank() if process_count() > 1 else 0


def over_all_processes(own: T) -> T:
    """What there is of something in all processes, where each has as much as this one."""
    count = process_count()
    return own if count == 1 else own * count


def own_positions(total: int) -> range:
    """The positions in a batch of `total` images over all processes that this process makes."""
    size, rest = divmod(total, process_count())
    assert not rest, (total, process_count())
    return range(process_rank() * size, (process_rank() + 1) * size)


def own_part(total: int) -> slice:
    """The same positions, to take rows with."""
    positions = own_positions(total)
    return slice(positions.start, positions.stop)


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes; every process has to call it."""
    if process_count() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total


def learned_sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes; every process has to call it.

    Its gradient becomes that of the whole sum where gradients are averaged over the processes, as in
    DistributedDataParallel.
    """
    count = process_count()
    return value if count == 1 else sum_over_processes(value.detach()) + count * (value - value.detach())


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes; every process has to call it."""
    return sum_over_processes(value) / process_count()


def gather_over_processes(value: Tensor) -> Tensor:
    """The rows of a tensor (N, ...) of all processes in order of rank, (P · N, ...); N must be the same everywhere."""
    count = process_count()
    if count == 1:
        return value
    sent = value.contiguous()
    sent = sent.view(torch.uint8) if value.dtype == torch.bool else sent  # not every backend knows bool
    parts = [torch.empty_like(sent) for _ in range(count)]
    dist.all_gather(parts, sent)
    return torch.cat(parts).view(value.dtype)


def learned_gather_over_processes(value: Tensor) -> Tensor:
    """As `gather_over_processes`, with a gradient that becomes that of one process with all rows, where each process
    takes the same loss of all of them and gradients are averaged.
    """
    count = process_count()
    if count == 1:
        return value
    parts = list(torch.split(gather_over_processes(value.detach()), len(value)))
    parts[process_rank()] = parts[process_rank()] + count * (value - value.detach())
    return torch.cat(parts)


def own_share(count: int) -> range:
    """The numbers of 0..count-1 that are this process's share; over all processes each one comes once."""
    return range(process_rank(), count, process_count())
