"""The counter of syncs finds what it is there to find."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.helpers.sync_counter import SyncCounter

X = torch.arange(6.0)
MASK = X > 2


@pytest.mark.parametrize(
    "operation",
    [
        lambda: X.sum().item(),
        lambda: bool(X.any()),
        lambda: X[MASK],
        lambda: X.clone().__setitem__(MASK, torch.ones(3)),
        lambda: X.masked_select(MASK),
        lambda: MASK.nonzero(),
        lambda: torch.bincount(X.long()),
        lambda: X.unique(),
        lambda: torch.equal(X, X),
        lambda: float(X[0]),
    ],
)
def test_finds(operation: Callable[[], object]) -> None:
    with SyncCounter() as counter:
        operation()
    assert sum(counter.found.values()) >= 1


def test_copies_to_the_device_are_allowed() -> None:
    with SyncCounter() as counter:
        X.to("meta", non_blocking=True)
    assert not counter.found
    assert counter.total


def test_leaves_static_shapes_alone() -> None:
    with SyncCounter() as counter:
        torch.where(MASK, X, 0).sum()
        X[torch.tensor([0, 2])].index_select(0, torch.tensor([1]))
        X.kthvalue(2)
    assert not counter.found
    assert counter.total
