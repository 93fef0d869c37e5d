"""Tensors of a step travel to a device together."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from semikit.core.batch import packed, take, to_device


@dataclass(frozen=True)
class Draws:
    flags: Tensor
    order: tuple[str, ...]
    empty: Tensor
    none: Tensor | None = None


def structure() -> tuple[dict[str, list[Tensor]], Draws]:
    turned = torch.arange(6, dtype=torch.int64).view(2, 3).T  # not as it lies in memory
    crops = [torch.arange(5, dtype=torch.uint8), torch.rand(3, 1, 5), turned]
    return {"crops": crops}, Draws(torch.tensor([True, False, True]), ("hue", "blur"), torch.zeros(0, 4))


def assert_same(arrived: tuple[dict[str, list[Tensor]], Draws], sent: tuple[dict[str, list[Tensor]], Draws]) -> None:
    assert (arrived[1].order, arrived[1].none) == (sent[1].order, None)
    pairs = zip([*arrived[0]["crops"], arrived[1].flags], [*sent[0]["crops"], sent[1].flags], strict=True)
    for one, other in pairs:
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert arrived[1].empty.shape == (0, 4)


def test_tensors_of_any_type_and_shape_lie_in_one_buffer() -> None:
    sent = structure()
    arrived = packed(sent, pin=False)
    assert_same(arrived, sent)
    assert len({tensor.untyped_storage().data_ptr() for tensor in (*arrived[0]["crops"], arrived[1].flags)}) == 1


def test_they_arrive_in_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[bool] = []
    monkeypatch.setattr(Tensor, "to", lambda self, device, non_blocking: copied.append(non_blocking) or self.clone())
    sent = structure()
    assert_same(to_device(sent, "mps"), sent)
    assert copied == [True]
    assert torch.equal(to_device(torch.arange(3), "mps"), torch.arange(3))


def test_on_the_cpu_nothing_is_copied() -> None:
    sent = structure()
    assert to_device(sent, "cpu") is sent


def test_part_of_a_structure() -> None:
    part = take((torch.arange(6), range(4, 10), Draws(torch.arange(6), ("hue",), torch.zeros(6))), slice(2, 5))
    assert part[0].tolist() == part[2].flags.tolist() == [2, 3, 4]
    assert (part[1], part[2].order) == (range(6, 9), ("hue",))
