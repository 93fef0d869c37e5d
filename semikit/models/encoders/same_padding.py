"""Convolutions of timm that are padded by the size of their input, as those of TensorFlow ("SAME")."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar, cast, final

from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def pads_by_size(network: nn.Module) -> bool:
    """Whether some convolution is padded by the size of its input."""
    return any(isinstance(module, Conv2dSame) for module in network.modules())


def with_fixed_padding(network: AnyModule) -> AnyModule:
    """The network for sides that are a multiple of all its strides together, a copy where that changes something.

    There the padding is the same for all sizes. Its formula for any size (ceil of a quotient, max) grows with every
    layer when a graph of any size is traced, to minutes.
    """
    if not pads_by_size(network):
        return network
    copied = deepcopy(network)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, Conv2dSame):
                setattr(module, name, _FixedPadding(child))
    return copied


@final
class _FixedPadding(nn.Module):
    """(B, C, H, W) -> (B, D, H / stride, W / stride)."""

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        self.conv = conv
        kernel, stride, dilation = (cast(tuple[int, int], x) for x in (conv.kernel_size, conv.stride, conv.dilation))
        height, width = (max((kernel[axis] - 1) * dilation[axis] + 1 - stride[axis], 0) for axis in (0, 1))
        self.padding = (width // 2, width - width // 2, height // 2, height - height // 2)

    def forward(self, images: Tensor) -> Tensor:
        """Pad, convolve."""
        conv = self.conv
        padded = functional.pad(images, self.padding)
        return functional.conv2d(padded, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)
