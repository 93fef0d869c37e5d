"""Counts by cell, as a device takes them; those by class are in tests/training/test_collapse_guard.py."""

from __future__ import annotations

import pytest
import torch

from semikit.core.counts import _counted_in_lanes, cell_counts


@pytest.mark.parametrize("length", [0, 1, 63, 64, 1000])
def test_lanes_count_what_one_count_does(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    cells, weights = (torch.randint(high, (length,), generator=generator) for high in (7, 3))
    expected = torch.bincount(cells, weights.double(), minlength=7).long()
    assert torch.equal(cell_counts(cells, weights, 7), expected)
    assert torch.equal(_counted_in_lanes(cells, weights, 7), expected)
