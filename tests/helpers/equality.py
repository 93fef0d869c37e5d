"""Bit-for-bit comparison of nested states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Where two structures of tensors and plain values differ; tensors must agree in every bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [where]
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        inner = [line for key in a.keys() & b.keys() for line in differences(a[key], b[key], f"{where}.{key}")]
        return inner + [f"{where}.{key} in one only" for key in a.keys() ^ b.keys()]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [line for k, pair in pairs for line in differences(*pair, f"{where}[{k}]")]
    return [] if type(a) is type(b) and a == b else [f"{where}: {a!r} and {b!r}"]
