"""Where processes that start together find each other, and only they."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

from torch.distributed import DistStoreError, PrefixStore, Store  # type: ignore[attr-defined]

_PATIENCE = timedelta(minutes=30)
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
    limit = time.monotonic() + _PATIENCE.total_seconds()
    while (came := own.add("came", 0)) < count - 1:
        if time.monotonic() > limit:
            raise DistStoreError(f"{came + 1} of {count} processes came within {_PATIENCE}")
        for other in range(1, count):
            store.set(f"named/{store.get(f'asked/{other}').decode()}", name)
        time.sleep(_PAUSE)
    return own
