"""Convolutions of timm that are padded by the size of their input, as those of TensorFlow ("SAME")."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar, cast, final

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def pads_by_size(network: nn.Module) -> bool:
    """Whether some convolution is padded by the size of its input."""
    return any(isinstance(module, Conv2dSame) for module in network.modules())


def traceable(network: AnyModule, any_size: bool) -> AnyModule:
    """The network as a graph of images of several sizes is traced, a copy where that changes something: for sides that
    are a multiple of all its strides together, where the padding is the same for all sizes, or with convolutions of
    ONNX, which have such padding for `any_size` themselves.

    The formula of timm (ceil of a quotient, max) would grow with every layer while it is traced, to minutes.
    """
    if not pads_by_size(network):
        return network
    copied = deepcopy(network)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, Conv2dSame):
                setattr(module, name, _OnnxPadding(child) if any_size else _FixedPadding(child))
    return copied


@final
class _OnnxPadding(nn.Module):
    """(B, C, H, W) -> (B, D, ceil(H / stride), ceil(W / stride)); traced with sides that the strides divide. It is only
    traced: what it computes are zeros.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, images: Tensor) -> Tensor:
        """A node of the graph."""
        conv, strides, dilations = self.conv, list(self.conv.stride), list(self.conv.dilation)
        inputs = [images, conv.weight, *([] if conv.bias is None else [conv.bias])]
        # As the graph computes them for any side, which what follows reads.
        height, width = ((side + step - 1) // step for side, step in zip(images.shape[2:], strides, strict=True))
        return torch.onnx.ops.symbolic(
            "Conv",
            inputs,
            {"auto_pad": "SAME_UPPER", "strides": strides, "dilations": dilations, "group": conv.groups},
            dtype=images.dtype,
            shape=(images.shape[0], conv.out_channels, height, width),
        )


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
