"""The processes of a run as torchrun starts them: joining, agreeing, and what only the first one does.

Collectives of the step go over the device's backend (NCCL, or gloo on CPUs). What the hosts tell each other goes over
gloo beside it, so that no device waits for it.
"""

from __future__ import annotations

import inspect
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import DistStoreError, PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from semikit.distributed.collectives import process_count, process_rank
from semikit.errors import ConfigError, InputError, RunError, SemikitError

T = TypeVar("T")

GO, STOP, FAILED = 0, 1, 2
"""What a process says before each step; the largest counts for all."""

_PATIENCE = timedelta(hours=2)
"""How long the hosts wait for each other: the first one checks the data and draws pictures alone."""

_SECONDS_OF_A_NETWORK_DISK = 30.0

_hosts: dist.ProcessGroup | None = None
_store: Store | None = None


class LostError(RunError):
    """Another process of the run ended."""

    of_all = True


class ElsewhereError(InputError):
    """The first process refused; it has said why."""

    of_all = True


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def restarts() -> int:
    """How often torchrun has started the processes of this machine anew."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def may_restart() -> bool:
    """Whether torchrun starts this run anew when a process is lost."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the other processes while the block runs; alone there is nothing to join.

    Raises:
        ConfigError: more processes on this machine than it has GPUs.
        LostError: the others did not come.
    """
    global _hosts, _store
    if not started_by_torchrun():
        yield
        return
    backend, own = "gloo", None
    if device == "mps":
        raise ConfigError("several processes need cuda or cpu, not mps. Use --device cpu, or one process.")
    if device.startswith("cuda:") or device.isdigit():
        raise ConfigError(
            f"several processes have a GPU each, not {device} together. Use --device cuda (CUDA_VISIBLE_DEVICES says "
            "which), or one process."
        )
    if device in ("auto", "cuda") and torch.cuda.is_available():
        local, present = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        started = int(os.environ["LOCAL_WORLD_SIZE"])
        if started > present:
            raise ConfigError(f"{started} processes were started on this machine, which has {present} GPUs.")
        torch.cuda.set_device(local)
        backend, own = "nccl", torch.device("cuda", local)
    store, rank, count = next(rendezvous("env://"))
    with translate_dist_errors():
        _store = scoped_store(store, rank, count)
        # With its device NCCL connects at once, and no collective has to guess which GPU is meant.
        dist.init_process_group(backend, store=_store, rank=rank, world_size=count, device_id=own)
        _hosts = dist.new_group(backend="gloo", timeout=_PATIENCE)  # type: ignore[assignment]
    try:
        yield
    finally:
        _hosts = _store = None
        dist.destroy_process_group()


def store() -> Store:
    """Where processes that are `joined` leave each other words, without waiting."""
    assert _store is not None
    return _store


def over_processes(method: Any, reduce_dtype: str = "fp32") -> Any:
    """The forward of a method, in torch's DistributedDataParallel where there are several processes, which sums
    gradients in `reduce_dtype`, fp32 or bf16.

    Every parameter that learns gets a gradient in each step (what never would is frozen), and buffers are each
    process's own until the step averages them. Not with `static_graph`: there torch finds results only in lists and
    mappings, and would not average the first gradients; what it saves is the search for unused parameters.
    """
    if process_count() == 1:
        return method
    known = inspect.signature(DistributedDataParallel).parameters
    own_buffers: Any = {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}
    shared = DistributedDataParallel(method, gradient_as_bucket_view=True, **own_buffers)
    if reduce_dtype == "bf16":
        shared.register_comm_hook(None, bf16_compress_hook)
    return shared


def agreed(mine: int) -> int:
    """The largest number any process gives; all have to call it. No device waits.

    Raises:
        LostError: a process ended.
    """
    if process_count() == 1:
        return mine
    value = torch.tensor(mine)
    with translate_dist_errors():
        dist.all_reduce(value, op=dist.ReduceOp.MAX, group=_hosts)
    return int(value)


def everywhere(mine: list[T]) -> list[T]:
    """The items of all processes, in order of rank; plain values. All have to call it.

    Raises:
        LostError: a process ended.
    """
    if process_count() == 1:
        return mine
    parts: list[Any] = [None] * process_count()
    with translate_dist_errors():
        dist.all_gather_object(parts, mine, group=_hosts)
    return [item for part in parts for item in part]


def on_first(action: Callable[[], T]) -> T:
    """What the first process gets from `action`, for all; plain values. Where it fails there, all fail.

    Raises:
        SemikitError: what the action raised, or for the others `ElsewhereError` or `LostError`.
    """
    if process_count() == 1:
        return action()
    outcome: list[object] = [None, None]
    failed: Exception | None = None
    if process_rank() == 0:
        try:
            outcome[0] = action()
        except Exception as error:
            failed, outcome[1] = error, isinstance(error, InputError)
    with translate_dist_errors():
        dist.broadcast_object_list(outcome, src=0, group=_hosts)
    if failed is not None:
        raise failed
    if outcome[1] is not None:
        raise ElsewhereError("the first process refused") if outcome[1] else LostError("the first process failed")
    return outcome[0]  # type: ignore[return-value]


def seen_by_all(folder: Path) -> None:
    """Make sure that the machines share the run folder; a disk of the network may take some seconds.

    Raises:
        InputError: when a process does not see it.
    """
    limit = time.monotonic() + _SECONDS_OF_A_NETWORK_DISK
    while process_count() > 1 and not folder.is_dir() and time.monotonic() < limit:
        time.sleep(0.5)
    if agreed(int(not folder.is_dir())):
        raise InputError(f"not every process sees the run folder {folder}. Give an --out that all machines share.")


def same_step(step: int, folder: Path) -> None:
    """Make sure that all processes have read the same checkpoint.

    Raises:
        RunError: when the machines see different files.
    """
    if agreed(step) != -agreed(-step):  # the largest is not the smallest
        raise RunError(f"the processes read different checkpoints in {folder}; it has to be a folder they all share.")


@contextmanager
def translate_dist_errors() -> Iterator[None]:
    """What torch raises when another process ended, as an error of ours.

    Raises:
        LostError: in its place.
    """
    try:
        yield
    except SemikitError:
        raise
    except RuntimeError as error:
        if not started_by_torchrun() or not _is_loss(error):
            raise
        raise LostError(f"another process of the run is gone ({' '.join(str(error).split())[:200]})") from error


def _is_loss(error: RuntimeError) -> bool:
    """Whether a collective failed; gloo's failures have no class of their own."""
    distributed = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    return isinstance(error, distributed) or "gloo" in str(error) or "Connection" in str(error)


_JOIN_TIMEOUT = timedelta(minutes=30)
"""How long the first process waits for the others, as torch's store lets each of them wait for the first."""

_PAUSE = 0.05
"""Seconds between two polls of the first process."""


def scoped_store(store: Store, rank: int, count: int) -> Store:
    """The part of `store` in which the `count` processes that start now tell each other their addresses.

    Agents of torchrun keep one store for all processes they start one after another, in which those of before have left
    their addresses. No count of restarts tells them apart, for each of several machines counts its own. So the first
    process makes up a name, and tells it to whoever asks with a word that only that one has made up.

    Raises:
        DistStoreError: a process did not come in time.
    """
    if rank:
        word = uuid.uuid4().hex
        store.set(f"asked/{rank}", word)
        own = PrefixStore(store.get(f"named/{word}").decode(), store)
        own.add("came", 1)
        return own
    name = uuid.uuid4().hex
    own = PrefixStore(name, store)
    limit = time.monotonic() + _JOIN_TIMEOUT.total_seconds()
    while (came := own.add("came", 0)) < count - 1:
        if time.monotonic() > limit:
            raise DistStoreError(f"{came + 1} of {count} processes came within {_JOIN_TIMEOUT}")
        for other in range(1, count):
            store.set(f"named/{store.get(f'asked/{other}').decode()}", name)
        time.sleep(_PAUSE)
    return own
