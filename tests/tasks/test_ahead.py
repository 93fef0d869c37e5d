"""The network works in a thread of its own while maps are written: order, faults, and an end that leaves nothing."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semikit.errors import FileFault
from semikit.inference.ahead import Ahead
from semikit.inference.scenes import DatePairs, SingleDates
from tests.tasks.test_maps import Bright, Case, blocks, names, opened


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "semikit-ahead"]


class TestAhead:
    def test_the_next_item_is_made_while_one_is_used_and_no_more(self) -> None:
        made = [threading.Event() for _ in range(4)]

        def items() -> Generator[int, None, None]:
            for number, event in enumerate(made):
                event.set()
                yield number

        with Ahead(items()) as taken:
            for number in taken:
                if number < 3:
                    assert made[number + 1].wait(10), "made while this one is used"
                assert not any(event.is_set() for event in made[number + 2 :])
        assert not threads()

    def test_light_items_do_not_count(self) -> None:
        made = threading.Event()

        def items() -> Generator[int, None, None]:
            yield from (1, -1, -1, -1)
            made.set()
            yield 2

        with Ahead(items(), light=lambda number: number < 0) as taken:
            assert next(taken) == 1
            assert made.wait(10)
            assert list(taken) == [-1, -1, -1, 2]

    def test_what_it_raises_comes_where_the_next_item_would(self) -> None:
        def items() -> Generator[int, None, None]:
            yield 1
            raise KeyError("of the generator")

        with Ahead(items()) as taken:
            assert next(taken) == 1
            with pytest.raises(KeyError, match="of the generator"):
                next(taken)
        assert not threads()

    def test_given_up_it_is_closed_and_its_thread_ends(self) -> None:
        closed: list[str] = []

        def items() -> Generator[int, None, None]:
            try:
                yield from range(1000)
            finally:
                closed.append(threading.current_thread().name)

        with Ahead(items()) as taken:
            assert next(taken) == 0
        assert closed == ["semikit-ahead"]
        assert not threads()


@pytest.fixture(params=["seg", "cd"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    made = Case(request.param, tmp_path)
    for number, name in enumerate("abc"):
        made.raster(np.roll(blocks(made, (32, 32), empty=0), number, 0), name)
    return made


def test_the_network_works_on_the_next_image_while_one_is_written(case: Case, tmp_path: Path) -> None:
    """Each image is only then written when the network has begun with the next one."""
    begun = [threading.Event() for _ in range(3)]
    where: set[str] = set()

    class Announcing(Bright):
        def encode(self, images: Any) -> Any:
            where.add(threading.current_thread().name)
            begun[len(self.seen)].set()
            return super().encode(images)

    def written(what: str, done: int, total: int) -> None:
        following = begun[min(3 * done // total, 2)]
        assert following.wait(10)

    case.predict(case.folders, tmp_path / "out", Announcing(len(case.names)), progress=written)
    assert where == {"semikit-ahead"}
    for number, name in enumerate("abc"):
        expected = np.roll(blocks(case, (32, 32), empty=0), number, 0)
        np.testing.assert_array_equal(opened(tmp_path / f"out/{name}.tif"), expected)


def test_a_fault_while_writing_is_that_of_its_image(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = SingleDates if case.task == "seg" else DatePairs
    plain = kind.notices

    def notices(self: Any, files: Any) -> Any:
        if files[0].stem == "b":
            raise FileFault("gone", files[0], "", "Bring it back.")
        return plain(self, files)

    monkeypatch.setattr(kind, "notices", notices)
    done = case.predict(case.folders, tmp_path / "out")
    assert (done.count, [Path(fault.file).stem for fault in done.failed]) == (2, ["b"])
    assert names(tmp_path / "out") == ["a.tif", "a.tif.aux.xml", "c.tif", "c.tif.aux.xml", "errors.csv"]
    np.testing.assert_array_equal(opened(tmp_path / "out/c.tif"), np.roll(blocks(case, (32, 32), empty=0), 2, 0))
