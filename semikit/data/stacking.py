"""Items of a batch put together: nested structures of arrays, tensors and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def stack(items: Sequence[Any]) -> Any:
    """Items of one structure -> the same structure with a first axis more.

    Arrays and tensors are stacked, numbers become a tensor, None stays where all are None; dataclasses, tuples and
    mappings keep their kind.
    """
    first = items[0]
    if first is None:
        assert all(item is None for item in items), "None in some items of a batch only"
        return None
    if isinstance(first, Tensor):
        return torch.stack(list(items))
    if isinstance(first, (np.ndarray, np.generic)):
        return torch.from_numpy(np.stack(items))
    if isinstance(first, (bool, int, float)):
        return torch.tensor(items, dtype=torch.float32 if isinstance(first, float) else None)
    return merged(stack, list(items))


def merged(action: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """A dataclass, mapping or tuple like the first item, each part made by `action` of all items' parts."""
    first = items[0]
    if is_dataclass(first) and not isinstance(first, type):
        parts = {field.name: action([getattr(item, field.name) for item in items]) for field in fields(first)}
        return type(first)(**parts)
    if isinstance(first, Mapping):
        return {key: action([item[key] for item in items]) for key in first}
    assert isinstance(first, tuple), f"cannot stack {type(first).__name__}"
    return tuple(action([item[k] for item in items]) for k in range(len(first)))


def mapped(action: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same structure with `action` on every tensor."""
    if isinstance(value, Tensor):
        return action(value)
    return None if value is None else merged(lambda parts: mapped(action, parts[0]), [value])
