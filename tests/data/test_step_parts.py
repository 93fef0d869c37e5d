from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from semikit.data.loading.loader import StepParts, joined, share


@dataclass(frozen=True)
class Item:
    image: Tensor
    none: None = None


@given(count=st.integers(0, 40), start=st.integers(0, 5), parts=st.integers(1, 9))
def test_parts_are_all_slots_in_order_and_even(count: int, start: int, parts: int) -> None:
    positions = range(start, start + count)
    found = [share(positions, part, parts) for part in range(parts)]
    assert [slot for part in found for slot in part] == list(positions)
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_parts_come_in_turn() -> None:
    assert list(StepParts(range(3, 5), 2)) == [(3, 0, 2), (3, 1, 2), (4, 0, 2), (4, 1, 2)]
    assert len(StepParts(range(3, 5), 2)) == 4


def test_what_parts_are_is_what_the_step_is() -> None:
    first = {"a": (Item(torch.tensor([1, 2])), {"n": torch.tensor([3, 4])}), "b": torch.tensor([0.5])}
    second = {"a": (Item(torch.tensor([5])), {"n": torch.tensor([6])})}
    whole = joined([first, {}, second])
    item, more = whole["a"]
    assert (item.image.tolist(), item.none, more["n"].tolist()) == ([1, 2, 5], None, [3, 4, 6])
    assert whole["b"].tolist() == [0.5]
    assert joined([first]) is first


@pytest.mark.parametrize("parts", [1, 3])
def test_nothing_in_a_step(parts: int) -> None:
    assert joined([{}] * parts) == {}
