"""Items that are made in a thread, one ahead of who takes them: the network works while its maps are written."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from queue import SimpleQueue
from threading import Semaphore, Thread
from types import TracebackType
from typing import Any, Generic, TypeVar, final

T = TypeVar("T")

_END = object()


@final
class Ahead(Generic[T]):
    """What a generator yields, drawn in a thread: while an item is used the next one is made, and no more than that,
    so that two are held; items that are `light` do not count. Used as a context, at whose end the thread has ended;
    what the generator raises is raised where its next item would be taken.
    """

    def __init__(self, items: Generator[T, None, None], light: Callable[[T], bool] = lambda item: False) -> None:
        self._items, self._light, self._stopped = items, light, False
        self._room, self._made = Semaphore(1), SimpleQueue[Any]()
        self._thread = Thread(target=self._draw, name="semikit-ahead")

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._taken()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._room.release()
        self._thread.join()

    def _draw(self) -> None:
        with closing(self._items) as items:
            while True:
                self._room.acquire()
                if self._stopped:
                    return
                try:
                    item: Any = next(items, _END)
                except BaseException as error:
                    self._made.put((None, error))
                    return
                self._made.put((item, None))
                if item is _END:
                    return
                if self._light(item):
                    self._room.release()

    def _taken(self) -> Iterator[T]:
        while True:
            item, error = self._made.get()
            if error is not None:
                raise error
            if item is _END:
                return
            if not self._light(item):
                self._room.release()
            yield item
