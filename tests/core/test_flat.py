from __future__ import annotations

import torch

from semikit.core.flat import flat, spread
from tests.helpers.sync_counter import SyncCounter


def test_a_vector_for_each_type_and_back() -> None:
    kept = [torch.tensor(3), torch.arange(6.0).view(2, 3), torch.tensor([7, 8]), torch.tensor(1.5)]
    vectors = flat(kept)
    assert [vector.tolist() for vector in vectors] == [[3, 7, 8], [0, 1, 2, 3, 4, 5, 1.5]]
    spread([vector + 1 for vector in vectors], kept)
    assert [tensor.tolist() for tensor in kept] == [4, [[1, 2, 3], [4, 5, 6]], [8, 9], 2.5]


def test_the_vectors_are_copies() -> None:
    kept = [torch.zeros(2)]
    (vector,) = flat(kept)
    kept[0] += 1
    assert vector.tolist() == [0, 0]


def test_nothing() -> None:
    assert flat([]) == []
    spread([], [])


def test_operations_do_not_grow_with_the_tensors() -> None:
    totals = []
    for count in (4, 40):
        kept = [torch.zeros(3) for _ in range(count)]
        with SyncCounter() as counter:
            vectors = flat(kept)
        assert not counter.found
        assert len(vectors) == 1
        totals.append(counter.total)
    assert totals == [1, 1]
