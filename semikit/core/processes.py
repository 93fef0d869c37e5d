"""Sums over the processes of a run; with one process they cost nothing. Nothing here waits for the device."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def process_count() -> int:
    """How many processes share the step; 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes; every process has to call it."""
    if process_count() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total


def gather_over_processes(value: Tensor) -> Tensor:
    """The rows of a tensor (N, ...) of all processes in order of rank, (P · N, ...); N must be the same everywhere."""
    count = process_count()
    if count == 1:
        return value
    parts = [torch.empty_like(value) for _ in range(count)]
    dist.all_gather(parts, value.contiguous())
    return torch.cat(parts)


def own_share(count: int) -> range:
    """The numbers of 0..count-1 that this process looks at; over all processes each one comes once."""
    shared = process_count()
    return range(dist.get_rank() if shared > 1 else 0, count, shared)
