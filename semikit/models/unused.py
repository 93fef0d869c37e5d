"""Parameters that no output depends on: DistributedDataParallel would wait for their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call


def freeze_unused(network: nn.Module, shape: Sequence[int]) -> list[str]:
    """Freeze the parameters that get no gradient from images of `shape` (B, …); returns their names.

    Nothing is computed: the pass goes over shapes alone. A network that cannot be passed so is left as it is, and
    DistributedDataParallel names what it misses.
    """
    own = {name: value for name, value in network.named_parameters() if value.requires_grad}
    shadows = {
        name: value.detach().to("meta").requires_grad_(value.requires_grad)
        for name, value in network.named_parameters()
    }
    buffers = {name: value.to("meta") for name, value in network.named_buffers()}
    try:
        result = functional_call(network, {**shadows, **buffers}, (torch.empty(tuple(shape), device="meta"),))
        result.sum().backward()
    except (NotImplementedError, RuntimeError):
        return []
    unused = [name for name in own if shadows[name].grad is None]
    for name in unused:
        own[name].requires_grad_(False)
    return unused
