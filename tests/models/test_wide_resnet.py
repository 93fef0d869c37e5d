"""Wide residual networks: sizes, where norms are used, and what the public code does by mistake."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from semikit.models.encoders.names import WIDE
from semikit.models.encoders.wide_resnet import WideResNet


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [("wrn-28-2", 10, 1_469_642), ("wrn-28-8", 100, 23_409_092), ("wrn-stl", 10, 5_933_770)],
)
def test_sizes(name: str, classes: int, parameters: int) -> None:
    """The first and the last are those of TorchSSL and USB (PROTOCOL 3.7)."""
    network = WideResNet(WIDE[name])
    assert sum(p.numel() for p in network.parameters()) + (network.width + 1) * classes == parameters


@pytest.mark.parametrize("name", WIDE)
def test_features_of_any_size(name: str) -> None:
    network = WideResNet(WIDE[name], blocks=1).eval()
    assert network(torch.randn(2, 3, 32, 40)).shape == (2, WIDE[name][-1])


def test_norms_follow_the_public_code() -> None:
    norms = [module for module in WideResNet(WIDE["wrn-28-2"]).modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.001, 0.001)}


def test_the_first_block_of_a_group_reads_activations_unless_told_otherwise() -> None:
    right, released = (WideResNet(WIDE["wrn-28-2"], blocks=1, activated=given) for given in (True, False))
    released.load_state_dict(right.state_dict())
    images = torch.randn(2, 3, 16, 16)
    assert not torch.allclose(right.eval()(images), released.eval()(images))
    for network, learns in ((right, True), (released, False)):
        network.train()(images).square().sum().backward()
        norms = [network.get_submodule(f"blocks.{k}").norm1.weight for k in (1, 2)]
        assert [norm.grad is not None for norm in norms] == [learns] * 2
        assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
