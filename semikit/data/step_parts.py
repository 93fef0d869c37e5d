"""Steps made in parts, each by a worker of its own, and put together again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import Sampler

from semikit.core.batch import share_of
from semikit.data.stacking import merged


@final
class StepParts(Sampler[tuple[int, int, int]]):
    """(step, part, parts) for every part of every step. torch hands them out in turn, so that a worker always has the
    same part; were it otherwise, the images would be the same and only come later.
    """

    def __init__(self, steps: range, parts: int) -> None:
        self.steps, self.parts = steps, parts

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return ((step, part, self.parts) for step in self.steps for part in range(self.parts))

    def __len__(self) -> int:
        return len(self.steps) * self.parts


def share(slots: range, part: int, parts: int) -> range:
    """The slots of a part: consecutive, and as many as of another, give or take one."""
    return slots[share_of(len(slots), part, parts)]


def joined(parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Batches of the parts of a step as the batches of the step; a part may lack a stream it has no slots of."""
    if len(parts) == 1:
        return parts[0]
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _joined([part[name] for part in parts if name in part]) for name in names}


def _joined(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    return None if first is None else merged(_joined, values)
