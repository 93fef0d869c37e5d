from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from semikit.core.channel_dropout import apply_masks
from semikit.errors import ConfigError, UnknownNameError
from semikit.models.decoders.deeplabv3plus import DeepLabV3Plus
from semikit.models.decoders.dpt import DPT
from semikit.models.segmenter import Segmenter, build_segmenter
from semikit.models.settings import ModelSettings

VIT = {"depth": 2, "embed_dim": 32, "num_heads": 2}


def build(encoder: str = "dinov2-small", **changes: object) -> Segmenter:
    args = {"resnet18": {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}}.get(encoder, VIT)
    return build_segmenter(ModelSettings(encoder=encoder, weights="none", encoder_args=args, **changes), 3)


def test_auto_decoder() -> None:
    assert isinstance(build().decoder, DPT)
    assert isinstance(build("resnet18").decoder, DeepLabV3Plus)
    assert isinstance(build("resnet18", decoder="dpt").decoder, DPT)


def test_unknown_decoder() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown decoder 'dtp'. Did you mean 'dpt'"):
        build(decoder="dtp")


def test_classifier_before_enlargement() -> None:
    network = build()
    embedding = torch.randn(2, network.embed_dim, 4, 5)
    logits = network.classify(embedding, (28, 42))
    large = functional.interpolate(embedding, size=(28, 42), mode="bilinear", align_corners=True)
    torch.testing.assert_close(logits, network.classifier(large), rtol=1e-5, atol=1e-5)


def test_statistics_are_the_encoders() -> None:
    network = build()
    assert network.mean == network.encoder.mean
    assert len(network.std) == 3


def test_too_small_an_image() -> None:
    with pytest.raises(ConfigError, match=r"an image of 7x14: .* Instead of 7 take 14"):
        build()(torch.zeros(1, 3, 7, 14))


def test_maps_stay_channels_last_from_the_encoder_through_dpt() -> None:
    """In the layout in which convolutions are fast, also with dropped channels: nothing is turned on the way."""
    network, turned = build().to(memory_format=torch.channels_last).eval(), []  # type: ignore[call-overload]

    def watch(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        turned.extend(map_ for map_ in (*given, made) if not map_.is_contiguous(memory_format=torch.channels_last))

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer not in [*network.encoder.modules()]:
            layer.register_forward_hook(watch)
    features = network.encode(torch.randn(2, 3, 56, 70))
    masks = tuple(torch.ones(2, width) for width in network.widths)
    logits = network.decode(apply_masks(features, masks))
    assert not turned
    assert logits.is_contiguous(memory_format=torch.channels_last)
