"""The teacher as a moving average of the student (paper eq. 18)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from semikit.core.flat import flat, own_shards, spread


def ema_decay(step: int, cap: float, ramp: bool = True) -> float:
    """The teacher's share after optimiser step `step` (from 0): min(1 - 1 / (step + 1), cap), as released.

    The first step copies the student. Without `ramp` the decay is `cap` from the start.
    """
    return min(1 - 1 / (step + 1), cap) if ramp else cap


@torch.no_grad()
def update(teacher: nn.Module, student: nn.Module, decay: float, applied: Tensor) -> None:
    """Teacher <- decay · teacher + (1 - decay) · student, parameters and buffers; integer buffers are copied.

    Parameters the student does not learn (a frozen encoder) are left out: the two are equal there from the start. Where
    both are sharded over processes in the same way, each averages its shards.

    `applied` () float is 1, or 0 where the optimiser skipped its step: then the teacher keeps every value. It is read
    on the device. A skipped step must have left the student's parameters finite (as a masked optimiser does); its
    buffers may hold anything.
    """
    if teacher is student:
        return
    weight = applied * (1 - decay)
    learned = [pair for pair in zip(teacher.parameters(), student.parameters(), strict=True) if pair[1].requires_grad]
    _average(own_shards([average for average, _ in learned]), own_shards([new for _, new in learned]), weight)
    buffers = list(teacher.buffers())  # batch norm's statistics are averaged too (as released), its counter is copied
    spread(
        [_mixed(*pair, weight, applied) for pair in zip(flat(buffers), flat([*student.buffers()]), strict=True)],
        buffers,
    )


def _mixed(average: Tensor, new: Tensor, weight: Tensor, applied: Tensor) -> Tensor:
    mixed = torch.lerp(average, new, weight.to(average.dtype)) if average.is_floating_point() else new
    return torch.where(applied > 0, mixed, average)


def _average(teacher: list[Tensor], student: list[Tensor], weight: Tensor) -> None:
    if not teacher:
        return
    if weight.device.type == "cpu":
        torch._foreach_lerp_(teacher, student, [weight.to(parameter.dtype) for parameter in teacher])
    else:
        _descend(teacher, student, weight)


def _descend(teacher: list[Tensor], student: list[Tensor], weight: Tensor) -> None:
    """The average as steps of gradient descent, teacher - weight · (teacher - student): one pass over memory in one
    operation. On a device a tensor as the weight of lerp costs one launch for every parameter.
    """
    options: dict[str, Any] = {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "maximize": True, "fused": True}
    sgd(teacher, student, [None] * len(teacher), weight_decay=1.0, lr=weight, **options)
