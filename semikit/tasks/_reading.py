"""Images read by threads while the network is busy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any


def read_ahead(read: Callable[[int], Any], count: int, threads: int = 4) -> Iterator[Any]:
    """`read(0)`, `read(1)` … in order, a few ahead."""
    with ThreadPoolExecutor(threads) as pool:
        numbers = iter(range(count))
        futures = [pool.submit(read, index) for index in islice(numbers, 2 * threads)]
        while futures:
            yield futures.pop(0).result()
            futures += [pool.submit(read, index) for index in islice(numbers, 1)]
