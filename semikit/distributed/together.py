"""Processes that work apart and end together: what one of them fails with ends all, and the first one says it.

Work is shared only in a block of `ending_together`; elsewhere a process is the only one, whatever others there are.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, final

import torch.distributed as dist

from semikit.distributed import groups
from semikit.distributed.collectives import process_count
from semikit.errors import InputError

T = TypeVar("T")

_FLAG = "failed"
_PATIENCE = timedelta(days=30)
"""How long processes wait for the one with the most work; that one has ended shows at once."""

_group: Any = None


@final
@dataclass(frozen=True, slots=True)
class _Failure:
    """Takes the place of what a process has to say; without an error it ends because another one fails."""

    error: Exception | None


class _OtherFailedError(Exception):
    """Another process has failed, and waits to say with what."""


class _EndedError(Exception):
    """All processes know of a failure."""

    def __init__(self, rank: int, error: Exception) -> None:
        self.rank, self.error = rank, error


def place() -> tuple[int, int]:
    """The number of this process, from 0, and how many share the work."""
    return (0, 1) if _group is None else (dist.get_rank(), dist.get_world_size())


def exchanged(mine: T) -> list[T]:
    """What all processes say, in order of rank; plain values. Every process has to call it, as often as the others."""
    if _group is None:
        return [mine]
    said: list[Any] = [None] * place()[1]
    with groups.translate_dist_errors():
        dist.all_gather_object(said, mine, group=_group)
    errors = {rank: one.error for rank, one in enumerate(said) if isinstance(one, _Failure) and one.error is not None}
    if errors:
        raise _EndedError(*next(iter(errors.items())))
    return said


def from_first(action: Callable[[], T]) -> T:
    """What the first process gets from `action`, for all; plain values."""
    return exchanged(action() if place()[0] == 0 else None)[0]  # type: ignore[return-value]


def end_with_others() -> None:
    """End the block of `ending_together` where another process has failed; to be called between parts of the work."""
    if _group is not None and groups.store().check([_FLAG]):
        raise _OtherFailedError


@contextmanager
def ending_together() -> Iterator[None]:
    """While the block runs the processes share work. What one raises ends the others at their next `exchanged` or
    `end_with_others`; the first process raises it in its place.

    Raises:
        LostError: a process ended without a word; in other processes than the first also where any failed.
        ElsewhereError: in other processes than the first, where any was given wrong input.
    """
    global _group
    if process_count() == 1:
        yield
        return
    with groups.translate_dist_errors():
        _group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    own: Exception | None = None
    try:
        try:
            yield
        except (_EndedError, groups.LostError):
            raise
        except Exception as error:
            own = error
            groups.store().set(_FLAG, "")
            exchanged(_Failure(None if isinstance(error, _OtherFailedError) else _sent(error)))
    except groups.LostError:
        if own is None or isinstance(own, _OtherFailedError):
            raise
        raise own from None
    except _EndedError as ended:
        rank = place()[0]
        if rank == 0:
            raise (own if ended.rank == 0 and own is not None else ended.error) from None
        kind = groups.ElsewhereError if isinstance(ended.error, InputError) else groups.LostError
        raise kind(f"process {ended.rank} failed; the first one has said why") from None
    finally:
        _group = None


def _sent(error: Exception) -> Exception:
    """The error as it may go to another process, with its traceback as a note."""
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:  # made from other arguments than it holds
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(traceback.format_exc())
    return error
