"""Batches by step number: nothing depends on how many workers there are. A worker makes a whole step or, where images
come out of shards, some positions of every step.

Which image stands where is a function of (seed, stream, step, slot), as are the draws of its weak view and the image
that stands in for one that cannot be read. Starting at step k gives what going there from 0 would have given.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from itertools import count, islice
from multiprocessing import get_start_method
from types import FrameType
from typing import Any, Generic, TypeVar, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from semikit.core.batch import packed, share_of
from semikit.core.rng import rng_for
from semikit.core.task import BadFileCounter
from semikit.data.loading.streams import Stream, item_at
from semikit.errors import DataError, FileFault, RunError, SemikitError

R = TypeVar("R")
Make = Callable[[str, int, np.random.Generator], R]
"""(stream name, image number, generator) -> one item: dataclass, tuple or mapping of arrays, tensors and numbers."""


@final
class StepLoader(Generic[R]):
    """The batches of `steps`, in order: for each step a mapping from stream name to the items, stacked.

    `make` is called with the generator of ("weak/STREAM", step, slot); it must be picklable where processes are
    spawned. `workers` = 0 works in this process. `pin` packs each step into one pinned buffer, for a fast copy.
    `bad_files` counts, in the order of the steps, what cannot be read (default: nothing is allowed).

    Raises (while iterating):
        DataError: more files than allowed could not be read.
        SemikitError: what else `make` raised, also from a worker.
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
        bad_files: BadFileCounter | None = None,
    ) -> None:
        assert all(stream.length != 0 for stream in streams if stream.batch), streams
        self.steps, self.pin, self.bad_files = steps, pin, bad_files
        # What comes out of shards is read once only if each worker keeps to positions of its own.
        self.parts = workers if workers and any(stream.length is None for stream in streams) else 1
        self._loader: DataLoader[_StepResult] = DataLoader(
            _Steps(tuple(streams), make, seed, 0 if bad_files is None else bad_files.limit),
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
        made: Any = _begun(self._loader)
        try:
            for _ in self.steps:
                batch = joined([self._next(made) for _ in range(self.parts)])
                yield packed(batch) if self.pin and self.parts > 1 else batch
        finally:
            # Left alone, workers live until nothing refers to the iterator any more, for one no traceback, and worker
            # processes started meanwhile inherit it and disturb its shutdown.
            if self._loader.num_workers:
                made._shutdown_workers()

    def _next(self, made: Iterator[_StepResult]) -> Any:
        """The batches of the next step; a bug in `make` comes as torch wraps it."""
        try:
            item = next(made)
        except RuntimeError as error:
            died = " ".join(str(error).split())
            if "DataLoader worker (pid" not in died:
                raise
            raise _dead_worker(died) from None
        except (EOFError, OSError, pickle.UnpicklingError) as error:  # it died while it handed a batch over
            if not self._loader.num_workers:
                raise
            raise _dead_worker(f"{type(error).__name__} while a batch was handed over") from None
        if self.bad_files is not None:
            self.bad_files.add(item.bad)
        elif item.bad:
            raise DataError("; ".join(reason for _, reason in item.bad))
        if item.error is not None:
            raise item.error
        return item.batch


@final
@dataclass(slots=True)
class _StepResult:
    """A step's batches, or the error that came instead (torch would wrap it in a traceback).

    `bad` are the files that could not be read, with what is wrong.
    """

    batch: Any
    error: SemikitError | None = None
    bad: tuple[tuple[str, str], ...] = ()

    def pin_memory(self, device: Any = None) -> _StepResult:
        """Called by torch's pinning thread."""
        return _StepResult(packed(self.batch), self.error, self.bad)


@final
class _Steps(Dataset[_StepResult]):
    """Step number -> its batches."""

    def __init__(self, streams: tuple[Stream, ...], make: Make[Any], seed: int, allowed: int) -> None:
        self.streams, self.make, self.seed, self.allowed = streams, make, seed, allowed

    def __getitem__(self, key: int | tuple[int, int, int]) -> _StepResult:
        step, part, parts = (key, 0, 1) if isinstance(key, int) else key
        bad: dict[str, str] = {}
        try:
            read = [stream for stream in self.streams if stream.batch]
            found = ((stream.name, self._items(stream, step, part, parts, bad)) for stream in read)
            made = {name: stack(items) for name, items in found if items}
        except _TooMany:
            return _StepResult(None, bad=tuple(bad.items()))
        except SemikitError as error:
            return _StepResult(None, error.with_traceback(None), tuple(bad.items()))
        return _StepResult(made, bad=tuple(bad.items()))

    def _items(self, stream: Stream, step: int, part: int, parts: int, bad: dict[str, str]) -> list[Any]:
        return [self._item(stream, step, slot, bad) for slot in share(stream.slots(step), part, parts)]

    def _item(self, stream: Stream, step: int, slot: int, bad: dict[str, str]) -> Any:
        """The item of a slot; where files cannot be read, the first that can of those that may stand in."""
        for index in self._candidates(stream, step, slot):
            try:
                return self.make(stream.name, index, rng_for(self.seed, f"weak/{stream.name}", step, slot))
            except (FileFault, OSError) as error:
                if not self.allowed and isinstance(error, FileFault):
                    raise
                file = error.file if isinstance(error, FileFault) else error.filename or f"{stream.name} {index}"
                bad[str(file)] = str(error)
            if len(bad) > self.allowed:
                raise _TooMany
        raise DataError(f"no image of the stream {stream.name} can be read: {'; '.join(bad.values())}")

    def _candidates(self, stream: Stream, step: int, slot: int) -> Iterator[int]:
        """The image of a slot, then all from a drawn one on; of a stream without end the next ones of the slot."""
        position = stream.begin(step) + slot
        if stream.length is None:
            yield from islice(count(position, stream.batch), self.allowed + 2)  # damage may hide all that follow
            return
        yield item_at(self.seed, stream.name, stream.length, position)
        first = int(rng_for(self.seed, f"instead/{stream.name}", step, slot).integers(stream.length))
        for number in range(stream.length):
            yield (first + number) % stream.length


def _begun(loader: DataLoader[_StepResult]) -> Any:
    """The loader's iterator, whose dead workers are found when a batch is fetched.

    Torch's handler of SIGCHLD would raise wherever the process is, also in the middle of an update of the weights.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        return iter(loader)
    former = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    finally:
        signal.signal(signal.SIGCHLD, former or signal.SIG_DFL)


def _dead_worker(how: str) -> RunError:
    why = "Most often memory or /dev/shm was full: use fewer workers (train.workers=0) or a smaller batch."
    if get_start_method() != "fork":  # a new process runs the script that began it from the top
        why += ' Of a script the call has to stand below `if __name__ == "__main__":`, or is given workers=0.'
    return RunError(f"a data worker died ({how}). {why}")


class _TooMany(Exception):
    """More files of one step than a whole run may have could not be read."""


def _as_it_is(item: Any) -> Any:
    return item


def _prepare_worker(number: int) -> None:
    """One thread; a stop request sent to the whole process group is for the main process to answer."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, partial(_second_time, []))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone; one that waits to hand over a batch would wait for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _second_time(times: list[int], number: int, frame: FrameType | None) -> None:
    times.append(number)
    if len(times) > 1:
        os._exit(0)


@final
class StepParts(Sampler[tuple[int, int, int]]):
    """(step, part, parts) for every part of every step. torch hands them out in turn, so that a worker always has the
    same part; were it otherwise, the images would be the same and only come later.
    """

    def __init__(self, steps: range, parts: int) -> None:
        self.steps, self.parts = steps, parts

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return ((step, part, self.parts) for step in self.steps for part in range(self.parts))

    def __len__(self) -> int:
        return len(self.steps) * self.parts


def share(positions: range, part: int, parts: int) -> range:
    """The positions of a part: consecutive, and as many as of another, give or take one."""
    return positions[share_of(len(positions), part, parts)]


def joined(parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Batches of the parts of a step as the batches of the step; a part may lack a stream it has no positions of."""
    if len(parts) == 1:
        return parts[0]
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _joined([part[name] for part in parts if name in part]) for name in names}


def _joined(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    return None if first is None else merged(_joined, values)


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
    return merged(stack, list(items))


def merged(action: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """A dataclass, mapping or tuple like the first item, each part made by `action` of all items' parts."""
    first = items[0]
    if is_dataclass(first) and not isinstance(first, type):
        parts = {field.name: action([getattr(item, field.name) for item in items]) for field in fields(first)}
        return type(first)(**parts)
    if isinstance(first, Mapping):
        return {key: action([item[key] for item in items]) for key in first}
    assert isinstance(first, tuple), f"cannot stack {type(first).__name__}"
    return tuple(action([item[k] for item in items]) for k in range(len(first)))
