"""Attention in bf16 on a CPU, by matrix products: torch's fused kernel is up to five times as slow there backward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_KEPT = 512
"""Tokens up to which the weights of attention are kept for the backward pass: they are no larger than what the rest of
a block keeps. Of more tokens they are computed again, image by image."""


def attention_for(images: Tensor) -> AbstractContextManager[Any]:
    """A context in which networks attend to these images by the faster kernels of their device and precision."""
    slow = images.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if slow and torch.get_autocast_dtype("cpu") == torch.bfloat16 and not torch.compiler.is_compiling():
        return _ByProducts()
    return nullcontext()


@final
class _ByProducts(TorchFunctionMode):
    """Replaces `scaled_dot_product_attention` without mask and dropout, in networks of whatever library."""

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not functional.scaled_dot_product_attention or not _is_plain(args, kwargs):
            return func(*args, **kwargs)
        query, key, value = (part.to(torch.bfloat16) for part in args)
        scaled = query * query.shape[-1] ** -0.5
        if query.shape[-2] <= _KEPT:
            return (scaled @ key.mT).softmax(dim=-1) @ value
        if torch.is_grad_enabled() and query.requires_grad:
            return _Recomputed.apply(scaled, key, value)
        return func(*args)


def _is_plain(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call attends to all tokens alike, with none dropped."""
    changes = ("dropout_p", "is_causal", "scale", "enable_gqa")
    return len(args) == 3 and kwargs.get("attn_mask") is None and not any(kwargs.get(name) for name in changes)


@final
class _Recomputed(torch.autograd.Function):
    """Scaled queries, keys, values (B, H, N, D) -> (B, H, N, D), with the weights (H, N, N) of one image at a time."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value)
        images = zip(query, key, value, strict=True)
        return torch.stack([(q @ k.mT).softmax(dim=-1) @ v for q, k, v in images])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        found = [_gradients(*image) for image in zip(*ctx.saved_tensors, gradient, strict=True)]
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True))


def _gradients(query: Tensor, key: Tensor, value: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
    """Those of one image's queries, keys and values (H, N, D)."""
    weights = (query @ key.mT).softmax(dim=-1)
    scores = torch._softmax_backward_data(gradient @ value.mT, weights, -1, weights.dtype)
    return scores @ key, scores.mT @ query, weights.mT @ gradient
