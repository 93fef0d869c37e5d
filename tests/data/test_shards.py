from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semikit.data.loading.loader import StepLoader
from semikit.data.loading.streams import Stream
from semikit.data.shards import pool as shards
from semikit.data.shards.decoders import PoolImage
from semikit.data.shards.pool import ShardPool, ShardStream
from semikit.data.shards.tar_files import ShardCounts, list_shards
from semikit.errors import DataError, FileFault, RunError
from tests.helpers import tars

SIZES = (7, 5, 6, 4, 8, 5)
Numbers = Callable[..., list[list[int]]]


class Make:
    """The number in an image, and the draw that came with it."""

    def __init__(self, stream: ShardStream, number_of: Any) -> None:
        self.stream, self.number_of = stream, number_of

    def __call__(self, name: str, index: int, rng: np.random.Generator) -> tuple[int, float]:
        if name == "labeled":
            return index, float(rng.random())
        return self.number_of(self.stream.image(index)[0]), float(rng.random())


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ShardPool:
    return pool_of([str(path) for path in tars.pool(tmp_path_factory.mktemp("pool"), SIZES, 4)])


def pool_of(places: list[str], shuffle: int = 3) -> ShardPool:
    return ShardPool(list_shards(places), shuffle, PoolImage())


@pytest.fixture
def numbers(pool: ShardPool) -> Numbers:
    """The images of each step, slot by slot."""

    def numbers(
        steps: range,
        batch: int = 4,
        workers: int = 0,
        positions: range | None = None,
        of: ShardPool | None = None,
        counts: ShardCounts | None = None,
        seed: int = 1,
    ) -> list[list[int]]:
        stream = ShardStream(of or pool, seed, "unlabeled", batch, counts or ShardCounts())
        wanted = [Stream("labeled", 5, 2), Stream("unlabeled", None, batch, positions)]
        loader = StepLoader(wanted, Make(stream, tars.number_of), seed, steps, workers)
        return [made["unlabeled"][0].tolist() for made in loader]

    return numbers


def test_nothing_is_left_out(numbers: Numbers) -> None:
    """Shards of several sizes, six positions: a slot is through its third shard after 24 steps at the latest."""
    found = np.array(numbers(range(27), 6))
    assert set(found.ravel().tolist()) == set(range(sum(SIZES)))
    assert all(len(set(step)) >= 4 for step in found.tolist()), "positions read shards of their own"


@pytest.mark.parametrize("size", [5, 6])
def test_a_pass_of_equal_shards_holds_each_image_once(numbers: Numbers, tmp_path: Path, size: int) -> None:
    """6 shards over 3 positions, blocks of 1: 2 shards a slot and pass."""
    of = pool_of([str(path) for path in tars.pool(tmp_path, [size] * 6, 4)], 1)
    steps = 2 * size
    for number in range(3):
        found = np.array(numbers(range(number * steps, (number + 1) * steps), 3, of=of)).ravel()
        assert sorted(found.tolist()) == list(range(6 * size))


def test_blocks_are_permutations_of_what_follows(numbers: Numbers, pool: ShardPool) -> None:
    plain = ShardPool(pool.shards, 1, pool.decode)
    mixed = ShardPool(pool.shards, 6, pool.decode)
    one, other = (np.array(numbers(range(24), of=of)) for of in (plain, mixed))
    assert (one != other).any()
    for block in range(4):
        part = slice(6 * block, 6 * block + 6)
        assert (np.sort(one[part], axis=0) == np.sort(other[part], axis=0)).all()


def test_few_shards_are_dealt_out_image_by_image(numbers: Numbers, tmp_path: Path) -> None:
    """One shard, four positions: no image twice in a step, every one once a pass."""
    of = pool_of([str(path) for path in tars.pool(tmp_path, [20], 4)], 5)
    found = np.array(numbers(range(10), 4, of=of))
    assert all(len(set(step)) == 4 for step in found.tolist())
    assert sorted(found[:5].ravel().tolist()) == list(range(20))
    assert sorted(found[5:].ravel().tolist()) == list(range(20))


def test_seeds_streams_and_passes_have_orders_of_their_own(numbers: Numbers) -> None:
    assert numbers(range(5)) != numbers(range(5), seed=2)
    assert numbers(range(5)) == numbers(range(5))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(numbers: Numbers, workers: int) -> None:
    assert numbers(range(12), workers=workers) == numbers(range(12))


def test_more_workers_than_slots(numbers: Numbers) -> None:
    assert numbers(range(6), 1, workers=2) == numbers(range(6), 1)


def test_each_worker_reads_its_own_shards_alone(pool: ShardPool, tmp_path: Path) -> None:
    """Two workers, four positions: a slot's shards are opened by one process only."""
    stream = ShardStream(pool, 1, "unlabeled", 4, ShardCounts())
    made = list(StepLoader([Stream("unlabeled", None, 4)], Who(stream), 1, range(10), 2))
    processes = np.array([batch["unlabeled"].tolist() for batch in made])
    assert (processes == processes[0]).all(), "a slot stays with its worker"
    assert len(set(processes[0].tolist())) == 2


class Who:
    """The process that makes an image."""

    def __init__(self, stream: ShardStream) -> None:
        self.stream = stream

    def __call__(self, name: str, index: int, rng: np.random.Generator) -> int:
        import os

        self.stream.image(index)
        return os.getpid()


def test_shares_of_processes_put_together_are_the_step(numbers: Numbers) -> None:
    whole = numbers(range(9), 4)
    first, second = (numbers(range(9), 4, positions=positions) for positions in (range(2), range(2, 4)))
    assert [a + b for a, b in zip(first, second, strict=True)] == whole
    assert numbers(range(9), 4, positions=range(1, 4), workers=2) == [step[1:] for step in whole]


@pytest.mark.parametrize("start", [1, 3, 10, 29, 100])
def test_going_on_is_as_going_there(numbers: Numbers, start: int) -> None:
    whole = numbers(range(104))
    assert numbers(range(start, 104), workers=start % 2 * 2) == whole[start:]


def test_what_was_counted_is_not_read_again(numbers: Numbers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "counts.txt"
    whole = numbers(range(60), counts=ShardCounts.read(path))
    counts = ShardCounts.read(path)
    assert counts.known == dict(enumerate(SIZES))
    opened = []
    plain = shards.read_shard

    def watched(*arguments: Any, **options: Any) -> Any:
        opened.append(arguments[0].name)
        return plain(*arguments, **options)

    monkeypatch.setattr(shards, "read_shard", watched)
    assert numbers(range(55, 60), counts=counts) == whole[55:]
    with_counts = len(opened)
    opened.clear()
    assert numbers(range(55, 60)) == whole[55:]
    assert with_counts <= 4 * 3 < len(opened)


def test_a_stream_goes_to_a_worker_without_open_files(pool: ShardPool) -> None:
    stream = ShardStream(pool, 1, "unlabeled", 4, ShardCounts())
    found = [tars.number_of(stream.image(k)[0]) for k in range(8)]
    copy = pickle.loads(pickle.dumps(stream))
    assert [tars.number_of(copy.image(k)[0]) for k in range(8)] == found
    assert [tars.number_of(stream.image(k)[0]) for k in range(8)] == found, "back to the beginning"
    assert tars.number_of(stream.image(2)[0]) == tars.number_of(stream.image(2)[0]), "the same once more"


def test_the_next_of_a_slot_may_be_asked_for_early(pool: ShardPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in for a bad one; nothing is read again for it."""
    stream = ShardStream(pool, 1, "unlabeled", 4, ShardCounts())
    plain = [tars.number_of(stream.image(position)[0]) for position in range(80)]
    loads: list[int] = []
    load = shards._Slot._load
    monkeypatch.setattr(shards._Slot, "_load", lambda self, block: (loads.append(block), load(self, block)))
    stream = ShardStream(pool, 1, "unlabeled", 4, ShardCounts())
    for position in range(76):
        assert tars.number_of(stream.image(position)[0]) == plain[position]
        if position // 4 % 3 < 2:
            assert tars.number_of(stream.image(position + 4)[0]) == plain[position + 4]
    assert loads == [0] * 4


def test_a_damaged_shard_is_one_fault_and_the_others_go_on(tmp_path: Path, numbers: Numbers) -> None:
    paths = tars.pool(tmp_path, [6, 6], 4)
    data = paths[0].read_bytes()
    paths[0].write_bytes(data[: len(data) // 2])
    stream = ShardStream(pool_of([str(path) for path in paths]), 0, "unlabeled", 2, ShardCounts())
    found: list[Any] = []
    for position in range(60):
        try:
            found.append(tars.number_of(stream.image(position)[0]))
        except FileFault as fault:
            found.append(fault)
    faults = {str(fault) for fault in found if isinstance(fault, FileFault)}
    assert len(faults) == 1
    assert faults.pop().startswith(f"damaged or truncated shard: {paths[0]} (")
    found = ["fault" if isinstance(item, FileFault) else item for item in found]
    assert found.count("fault") >= 3
    assert set(found) - {"fault"} >= set(range(6, 12))
    again = ShardStream(stream.pool, 0, "unlabeled", 2, ShardCounts())
    assert [position for position in range(30, 60) if fails(again, position)] == [
        position for position in range(30, 60) if found[position] == "fault"
    ]


def fails(stream: ShardStream, position: int) -> bool:
    try:
        stream.image(position)
    except FileFault:
        return True
    return False


def test_shards_without_images(tmp_path: Path) -> None:
    pool = pool_of([str(path) for path in tars.pool(tmp_path, [0, 0], 4)])
    with pytest.raises(DataError, match="the shards hold no images"):
        ShardStream(pool, 0, "unlabeled", 2, ShardCounts()).image(0)
    with pytest.raises(DataError, match=r"pool-0\.tar holds no images"):
        pool.first()


def test_an_error_in_a_worker_arrives_as_itself(tmp_path: Path, numbers: Numbers) -> None:
    tars.write(tmp_path / "bad.tar", [("a.png", b"no image")])
    of = pool_of([str(tmp_path / "bad.tar")])
    with pytest.raises(FileFault, match=r"bad\.tar!a\.png"):
        numbers(range(2), 2, workers=2, of=of)


def test_a_command_that_fails_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semikit.data.shards.tar_samples._WAIT", 0.0)
    pool = pool_of(["pipe:exit 7"])
    with pytest.raises(RunError, match=r"its command failed 4 times \(exit status 7\)"):
        ShardStream(pool, 0, "unlabeled", 2, ShardCounts()).image(0)
    with pytest.raises(DataError, match=r"failed 1 times \(exit status 7\)"):
        pool.first()
