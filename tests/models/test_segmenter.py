from __future__ import annotations

import pytest
import torch
from torch.nn import functional

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
