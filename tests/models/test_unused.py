from __future__ import annotations

import pytest
import torch
from torch import nn

from semikit.models.segmenter import build_segmenter
from semikit.models.settings import ModelSettings
from semikit.models.unused import freeze_unused


class Half(nn.Module):
    """Uses one of its two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.used(images))


def test_what_no_output_depends_on_is_frozen() -> None:
    network = Half()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert freeze_unused(network, (2, 3, 8, 8)) == ["idle.weight", "idle.bias"]
    assert not network.idle.weight.requires_grad
    assert network.used.weight.requires_grad
    assert network.used.weight.grad is None
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(("encoder", "idle"), [("hrnet_w18_small", True), ("test_vit", False)])
def test_encoders(encoder: str, idle: bool) -> None:
    """The last stage of HRNet makes a level that features leave out."""
    settings = ModelSettings(encoder=encoder, weights="none", decoder_channels=8)
    network = build_segmenter(settings, 3).train()
    assert bool(freeze_unused(network, (2, 3, 64, 64))) == idle
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters() if parameter.requires_grad)
