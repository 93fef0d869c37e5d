"""Small tensors travel to a device in one copy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from semikit.core import batch


def test_tensors_of_any_type_and_shape_arrive_in_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[Tensor] = []
    monkeypatch.setattr(batch, "to_device", lambda tensor, device: copied.append(tensor) or tensor)
    sent = [
        torch.tensor([True, False, True]),
        torch.arange(6, dtype=torch.int64).view(2, 3).T,  # not as it lies in memory
        torch.rand(3, 1, 5),
        torch.zeros(0, 4, dtype=torch.int32),
        torch.arange(5, dtype=torch.uint8),
    ]
    arrived = batch.to_device_together(sent, "cuda")
    assert len(copied) == 1
    for one, other in zip(arrived, sent, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_on_the_cpu_nothing_is_copied() -> None:
    sent = [torch.rand(3), torch.ones(2, dtype=torch.bool)]
    assert all(one is other for one, other in zip(batch.to_device_together(sent, "cpu"), sent, strict=True))
