"""Batches by step number: nothing depends on how many workers there are. A worker makes a whole step or, where images
come out of shards, some slots of every step.

Which image stands where is a function of (seed, stream, step, slot), as are the draws of its weak view. Starting at
step k gives what going there from 0 would have given.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache, partial
from types import FrameType
from typing import Any, Generic, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from semikit.core.draws import draw
from semikit.data.step_parts import StepParts, joined, share
from semikit.errors import RunError, SemikitError

R = TypeVar("R")
Make = Callable[[str, int, np.random.Generator], R]
"""(stream name, image number, generator) -> one item: dataclass, tuple or mapping of arrays, tensors and numbers."""


@final
@dataclass(frozen=True, slots=True)
class Stream:
    """Images of one kind: `length` of them, `batch` a step over all processes. `length` None: they come out of shards
    and have no number; `make` is given the position in the endless stream instead.

    `slots` are the positions in that batch made here (default all).
    """

    name: str
    length: int | None
    batch: int
    slots: range | None = None


def item_at(seed: int, stream: str, length: int, position: int) -> int:
    """The image at a position of an endless stream: passes follow each other, each in an order of its own."""
    return int(_order(seed, stream, length, position // length)[position % length])


def items_at(seed: int, stream: str, length: int, position: int, count: int) -> NDArray[np.int64]:
    """The images (count,) at consecutive positions of an endless stream; see `item_at`."""
    parts: list[NDArray[np.int64]] = []
    while count:
        number, start = divmod(position, length)
        part = _order(seed, stream, length, number)[start : start + count]
        parts.append(part)
        position, count = position + len(part), count - len(part)
    return np.concatenate(parts)


@lru_cache(maxsize=16)
def _order(seed: int, stream: str, length: int, number: int) -> NDArray[np.int64]:
    return draw(seed, f"order/{stream}", number).permutation(length)


@final
class StepLoader(Generic[R]):
    """The batches of `steps`, in order: for each step a mapping from stream name to the items, stacked.

    `make` is called with the generator of ("weak/STREAM", step, slot); it must be picklable where processes are
    spawned. `workers` = 0 works in this process. `pin` copies to pinned memory, for a fast way to the device.

    Raises (while iterating):
        SemikitError: what `make` raised, also from a worker.
        RunError: a worker died.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        make: Make[R],
        seed: int,
        steps: range,
        workers: int = 0,
        *,
        pin: bool = False,
        prefetch: int = 2,
    ) -> None:
        assert all(stream.length != 0 for stream in streams if stream.batch), streams
        self.steps, self.pin = steps, pin
        # What comes out of shards is read once only if each worker keeps to slots of its own.
        self.parts = workers if workers and any(stream.length is None for stream in streams) else 1
        self._loader: DataLoader[_Made] = DataLoader(
            _Steps(tuple(streams), make, seed),
            batch_size=None,
            sampler=StepParts(steps, self.parts) if self.parts > 1 else steps,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pin and self.parts == 1,
            prefetch_factor=prefetch * self.parts if workers else None,
            worker_init_fn=_prepare_worker,
            # Its own, or each iteration would advance torch's global generator.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Mapping[str, R]]:
        made: Any = iter(self._loader)
        try:
            for _ in self.steps:
                batch = joined([_next(made) for _ in range(self.parts)])
                yield _mapped(Tensor.pin_memory, batch) if self.pin and self.parts > 1 else batch
        finally:
            # Left alone, workers live until nothing refers to the iterator any more, for one no traceback, and worker
            # processes started meanwhile inherit it and disturb its shutdown.
            if self._loader.num_workers:
                made._shutdown_workers()


def _next(made: Iterator[_Made]) -> Any:
    """The batches of the next step; a bug in `make` comes as torch wraps it."""
    try:
        item = next(made)
    except RuntimeError as error:
        died = " ".join(str(error).split())
        if "DataLoader worker (pid" not in died:
            raise
        raise RunError(
            f"a data worker died ({died}). Most often memory or /dev/shm was full: use fewer workers "
            "(train.workers=0) or a smaller batch."
        ) from None
    if item.error is not None:
        raise item.error
    return item.batch


@final
@dataclass(slots=True)
class _Made:
    """A step's batches, or the error that came instead (torch would wrap it in a traceback)."""

    batch: Any
    error: SemikitError | None = None

    def pin_memory(self, device: Any = None) -> _Made:
        """Called by torch's pinning thread."""
        return _Made(_mapped(torch.Tensor.pin_memory, self.batch), self.error)


@final
class _Steps(Dataset[_Made]):
    """Step number -> its batches."""

    def __init__(self, streams: tuple[Stream, ...], make: Make[Any], seed: int) -> None:
        self.streams, self.make, self.seed = streams, make, seed

    def __getitem__(self, key: int | tuple[int, int, int]) -> _Made:
        step, part, parts = (key, 0, 1) if isinstance(key, int) else key
        try:
            made = ((stream.name, self._items(stream, step, part, parts)) for stream in self.streams if stream.batch)
            return _Made({name: stack(items) for name, items in made if items})
        except SemikitError as error:
            return _Made(None, error.with_traceback(None))

    def _items(self, stream: Stream, step: int, part: int, parts: int) -> list[Any]:
        slots = range(stream.batch) if stream.slots is None else stream.slots
        return [self._item(stream, step, slot) for slot in share(slots, part, parts)]

    def _item(self, stream: Stream, step: int, slot: int) -> Any:
        index = step * stream.batch + slot
        if stream.length is not None:
            index = item_at(self.seed, stream.name, stream.length, index)
        return self.make(stream.name, index, draw(self.seed, f"weak/{stream.name}", step, slot))


def stack(items: Sequence[Any]) -> Any:
    """Items of one structure -> the same structure with a first axis more.

    Arrays and tensors are stacked, numbers become a tensor, None stays where all are None; dataclasses, tuples and
    mappings keep their kind.
    """
    first = items[0]
    if first is None:
        assert all(item is None for item in items), "None in some items of a batch only"
        return None
    if isinstance(first, Tensor):
        return torch.stack(list(items))
    if isinstance(first, (np.ndarray, np.generic)):
        return torch.from_numpy(np.stack(items))
    if isinstance(first, (bool, int, float)):
        return torch.tensor(items, dtype=torch.float32 if isinstance(first, float) else None)
    return _joined(stack, list(items))


def _joined(action: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """A structure like the first item's, each part made by `action` of all items' parts."""
    first = items[0]
    if is_dataclass(first) and not isinstance(first, type):
        parts = {field.name: action([getattr(item, field.name) for item in items]) for field in fields(first)}
        return type(first)(**parts)
    if isinstance(first, Mapping):
        return {key: action([item[key] for item in items]) for key in first}
    assert isinstance(first, tuple), f"cannot stack {type(first).__name__}"
    return tuple(action([item[k] for item in items]) for k in range(len(first)))


def _mapped(action: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same structure with `action` on every tensor."""
    if isinstance(value, Tensor):
        return action(value)
    return None if value is None else _joined(lambda parts: _mapped(action, parts[0]), [value])


def _as_it_is(item: Any) -> Any:
    return item


def _prepare_worker(number: int) -> None:
    """One thread; a stop request sent to the whole process group is for the main process to answer."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, partial(_second_time, []))


def _second_time(times: list[int], number: int, frame: FrameType | None) -> None:
    times.append(number)
    if len(times) > 1:
        os._exit(0)
