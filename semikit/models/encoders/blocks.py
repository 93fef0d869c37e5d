"""The repeated blocks of an encoder, and their recomputation in the backward pass where memory is short.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semikit.core.batch_norm import batch_norms
from semikit.errors import ConfigError
from semikit.models.encoders.attention import attention_for

_HOLDS = re.compile(r"(block|stage|layer)s?(_?\d+)?|s\d")
"""What timm and transformers call a list of blocks or of lists of blocks."""


def blocks_of(encoder: nn.Module) -> list[nn.Module]:
    """The blocks an encoder is a chain of, in order and none inside another: of a transformer its layers, of a network
    of stages theirs. Empty where the encoder has none (VGG, DenseNet).
    """
    found: list[nn.Module] = []
    for name, child in encoder.named_children():
        holds = _HOLDS.fullmatch(name) is not None
        found += _inside(child) if holds else blocks_of(child)
    return found


def _inside(module: nn.Module) -> list[nn.Module]:
    """The blocks of a module that has the name of a list of blocks."""
    if not isinstance(module, nn.Sequential | nn.ModuleList):
        deeper = blocks_of(module)  # a stage that holds its blocks in a list of its own, or as its children (RegNet)
        return deeper or ([child for child in module.children() if _is_block(child)] if _is_stage(module) else [])
    found: list[nn.Module] = []
    for child in module.children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            found += _inside(child)
        else:
            found += blocks_of(child) or ([child] if _is_block(child) else [])
    return found


def _is_stage(module: nn.Module) -> bool:
    return type(module).__name__.endswith("Stage")


def _is_block(module: nn.Module) -> bool:
    """Whether it is more than one layer and learns."""
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def recompute(encoder: nn.Module, name: str) -> None:
    """From now on keep only the inputs of the encoder's blocks for the backward pass, and compute the rest there anew.

    Nothing else changes: loss, gradients, the running statistics of norms and the draws of drop path are the same. It
    acts where a gradient is taken, so never on a teacher or in evaluation.

    Raises:
        ConfigError: for an encoder (called `name`) without blocks.
    """
    blocks = blocks_of(encoder)
    if not blocks:
        raise ConfigError(
            f"model.checkpointing: true, but {name} is no chain of blocks that could be computed anew. Leave it out, "
            "use train.accumulate=2 (the same batch in two parts), or choose another encoder: transformers, ResNet, "
            "ConvNeXt, EfficientNet and many others have blocks."
        )
    for block in blocks:
        block.forward = MethodType(_recomputed, block)


def _recomputed(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """The block's output (that of its class's `forward`), with nothing kept but the arguments."""
    plain = type(block).forward
    if not torch.is_grad_enabled():
        return plain(block, *args, **kwargs)
    if torch.compiler.is_compiling():  # there nothing is written twice
        return checkpoint(plain, block, *args, use_reentrant=False, **kwargs)
    again = _Again(block, attention_for(args[0]))
    return checkpoint(plain, block, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), again), **kwargs)


@final
class _Again(AbstractContextManager[None]):
    """While a block is computed a second time it attends as at first, and its batch norms write their running
    statistics into copies.
    """

    def __init__(self, block: nn.Module, attention: AbstractContextManager[Any]) -> None:
        self.attention = attention
        self.norms = batch_norms(block)
        self.recorded = [norm.track_running_stats for norm in self.norms]
        self.saved: list[dict[str, Tensor | None]] = []

    def __enter__(self) -> None:
        self.attention.__enter__()
        self.saved = [dict(norm._buffers) for norm in self.norms]
        for norm, recorded in zip(self.norms, self.recorded, strict=True):
            norm.track_running_stats = recorded  # as when the block was computed first
            for name, buffer in norm._buffers.items():
                norm._buffers[name] = None if buffer is None else buffer.clone()

    def __exit__(self, *_: object) -> None:
        for norm, saved in zip(self.norms, self.saved, strict=True):
            norm._buffers.update(saved)
            norm.track_running_stats = True
        self.attention.__exit__(None, None, None)
