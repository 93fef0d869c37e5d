from __future__ import annotations

import pytest
import torch

from semikit.errors import ConfigError
from semikit.models.encoders.create import build_encoder, feature_args
from semikit.models.settings import ModelSettings

RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32], "stem_width": 8}


@pytest.mark.parametrize(
    ("stride", "decoder", "reductions"),
    [
        (None, "auto", (4, 8, 16, 16)),
        (None, "dpt", (4, 8, 16, 32)),
        (8, "auto", (4, 8, 8, 8)),
        (None, "pspnet", (4, 8, 8, 8)),
        (16, "pspnet", (4, 8, 16, 16)),
        (32, "deeplabv3plus", (4, 8, 16, 32)),
        (16, "dpt", (4, 8, 16, 16)),
    ],
)
def test_output_stride(stride: int | None, decoder: str, reductions: tuple[int, ...]) -> None:
    settings = ModelSettings(
        encoder="resnet18", weights="none", encoder_args=RESNET, output_stride=stride, decoder=decoder
    )
    encoder = build_encoder(settings)
    assert encoder.reductions == reductions
    assert encoder.widths == (8, 16, 24, 32)
    levels = encoder(torch.zeros(2, 3, 64, 64))
    assert tuple(64 // level.shape[-1] for level in levels) == reductions


def test_xception_is_dilated() -> None:
    with torch.device("meta"):
        encoder = build_encoder(ModelSettings(encoder="xception65", weights="none"))
    assert (encoder.reductions, encoder.widths) == ((4, 8, 16, 16), (256, 728, 1024, 2048))
    assert encoder.multiple == 1
    levels = encoder(torch.zeros(1, 3, 65, 49, device="meta"))
    assert [tuple(level.shape[-2:]) for level in levels] == [(17, 13), (9, 7), (5, 4), (5, 4)]


def test_families_that_cannot_be_dilated() -> None:
    assert "output_stride" not in feature_args("swin_transformer", None, usual=16)
    with pytest.raises(ConfigError, match="family 'swin_transformer' cannot be dilated"):
        feature_args("swin_transformer", 16, usual=16)


def test_unknown_families_get_a_safe_multiple() -> None:
    args = {"depths": [1, 1, 1, 1], "embed_dim": 8, "num_heads": [1, 1, 2, 2]}
    settings = ModelSettings(encoder="swin_tiny_patch4_window7_224", weights="none", encoder_args=args)
    encoder = build_encoder(settings)
    assert encoder.multiple == 32
    assert [level.shape[1] for level in encoder(torch.zeros(1, 3, 64, 96))] == [8, 16, 32, 64]
