"""Tensors on their way to a device."""

from __future__ import annotations

import torch
from torch import Tensor

from semikit.core.batch import to_device


def test_a_tensor_that_is_there_stays() -> None:
    tensor = torch.arange(3)
    assert to_device(tensor, "cpu") is tensor


def test_the_way_to_an_accelerator_is_through_pinned_memory(monkeypatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(Tensor, "is_pinned", lambda self: False)
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: calls.append("pin") or self)
    monkeypatch.setattr(
        Tensor, "to", lambda self, device, non_blocking: calls.append(f"{device} {non_blocking}") or self
    )
    to_device(torch.arange(3), torch.device("cuda"))
    assert calls == ["pin", "cuda True"]
