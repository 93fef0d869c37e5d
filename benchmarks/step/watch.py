"""A stopwatch for the parts of a step: on a GPU by events in its queue, so that measuring does not make it wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, ParamSpec, TypeAlias, TypeVar, final

import torch

P = ParamSpec("P")
T = TypeVar("T")
Clock = Callable[[], float]
Replacement: TypeAlias = tuple[object, str, Callable[..., Any]]
"""Owner, name of its function, and what takes its place."""
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
"""By name. The processor's time is the fairer one on a machine that others use too; it is of no use with a GPU."""


@final
class Watch:
    """Seconds spent in named sections, which may lie inside each other: each moment counts for the innermost only.

    `clock` is what is read on the host: the time on the wall, or the processor's that this process used.
    """

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter) -> None:
        self.device, self.clock = device, clock
        self.open: list[str] = []
        self.marks: list[tuple[str | None, Any]] = []

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count the time of the block for `name`, except where another section is inside."""
        self.open.append(name)
        self._mark(name)
        try:
            yield
        finally:
            self.open.pop()
            self._mark(self.open[-1] if self.open else None)

    def around(self, name: str, function: Callable[P, T]) -> Callable[P, T]:
        """The same function, its time counted for `name`."""

        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.section(name):
                return function(*args, **kwargs)

        return timed

    def read(self) -> dict[str, float]:
        """Seconds of every section since the last reading; waits for the device."""
        assert not self.open, self.open
        marks, self.marks = self.marks, []
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        found: dict[str, float] = {}
        for (name, begin), (_, end) in pairwise(marks):
            if name is not None:
                seconds = begin.elapsed_time(end) / 1000 if self.device.type == "cuda" else end - begin
                found[name] = found.get(name, 0.0) + seconds
        return found

    def _mark(self, name: str | None) -> None:
        self.marks.append((name, self._now()))

    def _now(self) -> Any:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            return event
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        return self.clock()


@contextmanager
def in_place_of(replacements: Sequence[Replacement]) -> Iterator[None]:
    """Functions are the given ones inside the block, and themselves again afterwards."""
    with ExitStack() as stack:
        for owner, name, timed in replacements:
            stack.callback(_put_back, owner, name, vars(owner).get(name))
            setattr(owner, name, timed)
        yield


def _put_back(owner: object, name: str, former: Any) -> None:
    if former is None:
        delattr(owner, name)
    else:
        setattr(owner, name, former)
