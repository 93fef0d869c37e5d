from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from semikit.core.batch import packed
from semikit.core.rng import rng_for
from semikit.data.loading import loader
from semikit.data.loading.loader import StepLoader, _StepResult, stack
from semikit.data.loading.streams import Stream, item_at
from semikit.errors import DataError, FileFault, RunError, SemikitError

STREAMS = (Stream("labeled", 3, 4), Stream("unlabeled", 11, 2), Stream("none", 0, 0))


@dataclass(frozen=True)
class Item:
    image: NDArray[np.uint8] | Tensor
    index: int | Tensor
    noise: float | Tensor
    views: tuple[NDArray[np.float32] | Tensor, ...]
    valid: None = None


def make(stream: str, index: int, rng: np.random.Generator) -> Item:
    pixels = rng.integers(0, 256, (2, 3), dtype=np.uint8)
    return Item(pixels, index, float(rng.random()), (np.float32(rng.random(2)), np.float32(rng.random(2))))


def broken(stream: str, index: int, rng: np.random.Generator) -> int:
    if stream == "unlabeled" and index == 5:
        raise FileFault("unreadable or truncated image", "five.png", "cut", "Replace it.")
    return index


def faulty(stream: str, index: int, rng: np.random.Generator) -> int:
    raise RuntimeError("a bug")


def dying(stream: str, index: int, rng: np.random.Generator) -> int:
    import os

    os._exit(3)


def flat(batch: Any) -> list[Tensor]:
    return [t for name in ("labeled", "unlabeled") for t in (batch[name].image, batch[name].index, *batch[name].views)]


def run(steps: range, workers: int) -> list[list[Tensor]]:
    return [flat(batch) for batch in StepLoader(STREAMS, make, 7, steps, workers)]


@given(length=st.integers(1, 40), seed=st.integers(0, 99), number=st.integers(0, 5))
def test_every_pass_is_a_permutation(length: int, seed: int, number: int) -> None:
    items = [item_at(seed, "s", length, number * length + k) for k in range(length)]
    assert sorted(items) == list(range(length))


def test_passes_seeds_and_streams_differ() -> None:
    orders = {
        tuple(item_at(seed, stream, 30, number * 30 + k) for k in range(30))
        for seed in (0, 1)
        for stream in ("a", "b")
        for number in (0, 1)
    }
    assert len(orders) == 8


def test_items_and_draws_are_functions_of_step_and_slot() -> None:
    batches = list(StepLoader(STREAMS, make, 7, range(5)))
    assert list(batches[0]) == ["labeled", "unlabeled"]
    labeled = batches[2]["labeled"]
    assert isinstance(labeled.index, Tensor)
    assert labeled.index.tolist() == [item_at(7, "labeled", 3, 8 + slot) for slot in range(4)]
    expected = make("labeled", int(labeled.index[3]), rng_for(7, "weak/labeled", 2, 3))
    assert isinstance(labeled.image, Tensor)
    np.testing.assert_array_equal(labeled.image[3].numpy(), expected.image)
    assert labeled.image.shape == (4, 2, 3)
    assert labeled.image.dtype == torch.uint8
    assert isinstance(labeled.noise, Tensor)
    assert labeled.noise.dtype == torch.float32
    assert labeled.views[1].shape == (4, 2)
    assert labeled.valid is None


def test_a_short_list_repeats_evenly() -> None:
    seen = torch.cat([batch["labeled"].index for batch in StepLoader(STREAMS, make, 0, range(6))])
    assert torch.bincount(seen).tolist() == [8, 8, 8]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(workers: int) -> None:
    for ours, theirs in zip(run(range(5), 0), run(range(5), workers), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_starting_later_gives_the_same() -> None:
    for ours, theirs in zip(run(range(8), 0)[3:], run(range(3, 8), 2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_process_s_slots_are_a_part_of_the_batch() -> None:
    parts = [
        next(iter(StepLoader([Stream("s", 9, 4, positions)], make, 1, range(5, 6))))["s"]
        for positions in (range(2), range(2, 4))
    ]
    whole = next(iter(StepLoader([Stream("s", 9, 4)], make, 1, range(5, 6))))["s"]
    assert torch.equal(torch.cat([part.image for part in parts]), whole.image)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(StepLoader(STREAMS, make, 7, range(2)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_arrives_as_it_is(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(StepLoader([Stream("unlabeled", 11, 2)], broken, 0, range(6), workers))
    assert type(caught.value) is FileFault
    assert str(caught.value) == "unreadable or truncated image: five.png (cut). Replace it."
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_stays_a_bug(workers: int) -> None:
    with pytest.raises(RuntimeError, match="a bug") as caught:
        list(StepLoader([Stream("s", 2, 1)], faulty, 0, range(2), workers))
    assert not isinstance(caught.value, SemikitError)
    assert multiprocessing.active_children() == []


def test_a_dead_worker_is_told() -> None:
    with pytest.raises(RunError, match=r"a data worker died .* fewer workers \(train\.workers=0\)") as caught:
        list(StepLoader([Stream("s", 2, 1)], dying, 0, range(2), 1))
    assert multiprocessing.active_children() == []
    assert "__main__" not in str(caught.value)


def test_where_processes_are_spawned_a_script_is_told_of_its_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "get_start_method", lambda: "spawn")
    assert 'has to stand below `if __name__ == "__main__":`' in str(loader._dead_worker("killed"))


def test_closing_early_ends_the_workers() -> None:
    batches = iter(StepLoader(STREAMS, make, 7, range(1000), 2))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_a_worker_outlives_the_stop_signals_of_a_group() -> None:
    import os
    import signal
    import time

    batches = iter(StepLoader(STREAMS, make, 7, range(30), 1))
    next(batches)
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid or 0, number)
    time.sleep(0.2)
    assert len(list(batches)) == 29


def test_stacking_keeps_the_structure() -> None:
    items = [
        {"a": (torch.ones(2), None), "b": True, "c": np.float32(2)},
        {"a": (torch.zeros(2), None), "b": False, "c": np.float32(3)},
    ]
    whole = stack(items)
    assert whole["a"][0].tolist() == [[1, 1], [0, 0]]
    assert whole["a"][1] is None
    assert whole["b"].dtype == torch.bool
    assert whole["c"].tolist() == [2, 3]


def test_pinning_packs_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch pins a batch of a kind it does not know by calling its `pin_memory`."""
    monkeypatch.setattr(loader, "packed", partial(packed, pin=False))
    made = stack([make("s", 0, rng_for(0, "t")), make("s", 1, rng_for(0, "t"))])
    batch = _StepResult({"s": made}).pin_memory().batch["s"]
    assert len({tensor.untyped_storage().data_ptr() for tensor in (batch.image, batch.index, *batch.views)}) == 1
    assert batch.index.tolist() == [0, 1]
    assert batch.valid is None
