"""What every decoder on every kind of encoder promises."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from semikit.core.network import Features
from semikit.errors import ConfigError
from semikit.models.segmenter import Segmenter, build_segmenter
from semikit.models.settings import ModelSettings
from semikit.registry import DECODERS

NARROW = {"depth": 2, "embed_dim": 32, "num_heads": 2}
TINY = {
    "vit": ("vit_tiny_patch16_224", NARROW),
    "dinov2": ("dinov2-small", NARROW),
    "dinov2-gated": ("vit_giant_patch14_dinov2", NARROW),
    "dinov2-registers": ("vit_small_patch14_reg4_dinov2", NARROW),
    "dinov3": ("dinov3-small", NARROW),
    "beit": ("beit-base", NARROW),
    "eva02": ("eva02-tiny", NARROW),
    "siglip": ("vit_base_patch16_siglip_224", {**NARROW, "num_heads": 2}),
    "sam": ("sam-base", {**NARROW, "window_size": 3, "global_attn_indexes": [1]}),
    "resnet": ("resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32], "stem_width": 8}),
    "convnext": ("convnext-atto", {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}),
    "mit": ("mit-b0", {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 40, 64]}),
    "mobilenet": ("mobilenetv4_conv_small_035", {}),
    "swin": ("swin_tiny_patch4_window7_224", {"depths": [1, 1, 1, 1], "embed_dim": 8, "num_heads": [1, 1, 2, 2]}),
}
ODD = ("resnet", "convnext", "mit", "mobilenet")


def tiny(encoder: str, decoder: str = "auto", **changes: object) -> ModelSettings:
    name, args = TINY[encoder]
    return ModelSettings(
        encoder=name, decoder=decoder, weights="none", encoder_args=args, decoder_channels=8, **changes
    )


def batch(network: Segmenter, odd: bool = False) -> Tensor:
    step = network.multiple if network.multiple > 1 else 32
    size = (65, 49) if odd else (2 * step, 3 * step) if step < 32 else (step, 2 * step)
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


PAIRS = [
    pytest.param(encoder, decoder, marks=() if decoder == "dpt" or encoder in ("vit", "resnet") else pytest.mark.long)
    for encoder in TINY
    for decoder in DECODERS.names()
]
"""Every encoder with one decoder and every decoder with two encoders; the others are long."""


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
class TestContract:
    @pytest.fixture
    def network(self, encoder: str, decoder: str) -> Segmenter:
        torch.manual_seed(0)
        return build_segmenter(tiny(encoder, decoder), 3)

    def test_shapes(self, network: Segmenter) -> None:
        images = batch(network).requires_grad_(False)
        features = network.encode(images)
        embedding = network.embed(features)
        assert isinstance(features, Features)
        assert tuple(level.shape[1] for level in features.levels) == network.widths
        assert len(features.levels) == 4
        assert features.size == tuple(images.shape[-2:])
        assert embedding.shape[1] == network.embed_dim == 8
        assert network(images).shape == (2, 3, *images.shape[-2:])
        for level, reduction in zip(features.levels, network.encoder.reductions, strict=True):
            assert tuple(level.shape[-2:]) == tuple(side // reduction for side in images.shape[-2:])

    def test_every_parameter_learns(self, network: Segmenter) -> None:
        for parameter in network.parameters():  # ones and zeros of fresh layers would hide what lies behind them
            nn.init.normal_(parameter, std=0.3)
        network(batch(network)).square().mean().backward()
        silent = [name for name, p in network.named_parameters() if p.grad is None]
        assert silent == []
        assert {id(p) for p in network.encoder_parameters()} == {id(p) for p in network.encoder.parameters()}

    def test_channel_masks_act(self, network: Segmenter) -> None:
        network.eval()
        features = network.encode(batch(network))
        zero = Features(
            tuple(
                level * torch.zeros(2, width)[:, :, None, None]
                for level, width in zip(features.levels, network.widths, strict=True)
            ),
            features.size,
        )
        half = Features(
            tuple(
                level * (torch.arange(width) % 2)[None, :, None, None]
                for level, width in zip(features.levels, network.widths, strict=True)
            ),
            features.size,
        )
        logits = network.decode(zero)
        assert torch.allclose(logits[0], logits[1])
        assert not torch.allclose(network.decode(half), network.decode(features))

    def test_copy_and_state(self, network: Segmenter, encoder: str, decoder: str) -> None:
        network.eval()
        images = batch(network)
        expected = network(images)
        twin = copy.deepcopy(network)
        assert torch.equal(twin(images), expected)
        assert not {id(p) for p in twin.parameters()} & {id(p) for p in network.parameters()}
        torch.manual_seed(1)
        fresh = build_segmenter(tiny(encoder, decoder), 3).eval()
        assert not torch.equal(fresh(images), expected)
        fresh.load_state_dict(network.state_dict(), strict=True)
        assert torch.equal(fresh(images), expected)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(1.0)
        assert torch.equal(twin(images), expected)

    def test_seed_decides(self, network: Segmenter, encoder: str, decoder: str) -> None:
        torch.manual_seed(0)
        again = build_segmenter(tiny(encoder, decoder), 3)
        for name, value in network.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name

    def test_channels_last(self, network: Segmenter) -> None:
        network.eval()
        images = batch(network)
        expected = network(images)
        network.to(memory_format=torch.channels_last)
        actual = network(images.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS.names())
@pytest.mark.parametrize("encoder", ODD)
def test_odd_sizes(encoder: str, decoder: str) -> None:
    network = build_segmenter(tiny(encoder, decoder), 3)
    assert network.multiple == 1
    assert network(batch(network, odd=True)).shape == (2, 3, 65, 49)


@pytest.mark.parametrize("encoder", ["vit", "dinov2", "dinov3", "beit", "mit", "convnext"])
def test_half_precision(encoder: str) -> None:
    network = build_segmenter(tiny(encoder), 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(batch(network))
        logits.float().mean().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("encoder", ["vit", "dinov2", "beit", "resnet"])
def test_frozen(encoder: str) -> None:
    network = build_segmenter(tiny(encoder, freeze=True), 3)
    network.train()
    assert network.training
    assert not any(module.training for module in network.encoder.modules())
    before = copy.deepcopy(network.encoder.state_dict())
    features = network.encode(batch(network))
    assert all(level.grad_fn is None and not level.requires_grad for level in features.levels)
    network.decode(features).mean().backward()
    assert network.encoder_parameters() == []
    assert all(p.grad is None for p in network.encoder.parameters())
    assert all(p.grad is not None for p in network.decoder.parameters())
    for name, value in network.encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    twin = copy.deepcopy(network).train()
    assert not any(module.training for module in twin.encoder.modules())


@pytest.mark.parametrize(("encoder", "multiple"), [("dinov2", 14), ("vit", 16), ("dinov3", 16), ("beit", 16)])
def test_sides_must_fit_the_patch(encoder: str, multiple: int) -> None:
    network = build_segmenter(tiny(encoder), 3)
    assert network.multiple == multiple
    side = 3 * multiple + 1
    with pytest.raises(ConfigError, match=rf"multiple of {multiple}. Instead of {side} take {3 * multiple} or"):
        network(torch.zeros(1, 3, 2 * multiple, side))


@pytest.mark.parametrize("encoder", TINY)
def test_four_bands(encoder: str) -> None:
    network = build_segmenter(tiny(encoder, in_channels=4), 3)
    images = batch(network)
    assert network(torch.cat((images, images[:, :1]), dim=1)).isfinite().all()
    assert len(network.mean) == len(network.std) == 4
