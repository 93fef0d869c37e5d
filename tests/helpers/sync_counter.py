"""Counts dispatched operations that make the host wait for the device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    "_local_scalar_dense",
    "bincount",
    "equal",
    "is_nonzero",
    "item",
    "masked_scatter",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
    "_unique",
    "_unique2",
    "histc",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}


class SyncCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`with SyncCounter() as counter: ...`; then `counter.found` names what would have waited, and how often.

    Counted on the CPU as well, where the same operations run without a device: reading a value (`item`, `bool`), shapes
    that depend on values (`nonzero`, boolean indexing, `unique`), and copies to the CPU from elsewhere.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name().split("::")[1].split(".")[0]
        self.total += 1
        if name in WAITING:
            self.found[name] += 1
        if name in INDEXING and any(_is_boolean(index) for index in args[1]):
            self.found[f"{name} with a boolean"] += 1
        if (
            name == "repeat_interleave"
            and any(isinstance(a, torch.Tensor) for a in args)
            and "output_size" not in kwargs
        ):
            self.found[name] += 1
        result = func(*args, **kwargs)
        if name in {"_to_copy", "copy_"} and _leaves_device(name, args, result):
            self.found["copy to the host"] += 1
        return result


def _is_boolean(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)


def _leaves_device(name: str, args: tuple[Any, ...], result: Any) -> bool:
    source = args[1] if name == "copy_" else args[0]
    return isinstance(source, torch.Tensor) and source.device.type != "cpu" and result.device.type == "cpu"
