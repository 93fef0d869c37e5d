"""Convolutions padded by the size of their input, traced for any size."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from semikit.models.encoders.same_padding import pads_by_size, traceable


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (1, 2, 1), ((3, 5), (2, 1), (1, 2))])
def test_as_the_convolutions_themselves(kernel: int, stride: int, dilation: int) -> None:
    network = nn.Sequential(
        nn.Sequential(Conv2dSame(3, 4, kernel, stride, dilation=dilation)),
        Conv2dSame(4, 4, kernel, stride, dilation=dilation, groups=4, bias=False),
    )
    fixed, images = traceable(network, any_size=False), torch.rand(2, 3, 32, 64)
    assert torch.equal(fixed(images), network(images))
    assert pads_by_size(network)


def test_the_traced_padding_does_not_depend_on_the_size() -> None:
    fixed = traceable(nn.Sequential(Conv2dSame(3, 4, 3, 2), Conv2dSame(4, 4, 5, 2)), any_size=False)
    sides = {axis: 32 * torch.export.Dim(name, min=2) for axis, name in ((2, "height"), (3, "width"))}
    graph = torch.export.export(fixed.eval(), (torch.rand(2, 3, 96, 64),), dynamic_shapes=((sides),)).graph
    pads = [node for node in graph.nodes if node.target is torch.ops.aten.pad.default]
    assert [node.args[1] for node in pads] == [[0, 1, 0, 1], [1, 2, 1, 2]]


def test_other_networks_are_not_copied() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert traceable(network, any_size=True) is network
