from __future__ import annotations

import pytest
import torch
from torch import nn

from semikit.errors import ConfigError
from semikit.models.decoders.deeplabv3plus import DeepLabV3Plus


def dilations(decoder: DeepLabV3Plus) -> list[int]:
    return [m.dilation[0] for m in decoder.branches.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]


@pytest.mark.parametrize(("stride", "expected"), [(16, [6, 12, 18]), (8, [12, 24, 36]), (32, [3, 6, 9])])
def test_dilations_cover_the_same_pixels(stride: int, expected: list[int]) -> None:
    assert dilations(DeepLabV3Plus((8, 16, 24, 32), (4, 8, 16, stride), channels=8)) == expected


def test_size_is_that_of_unimatch_v1_on_resnet50() -> None:
    """Weights of its ASPP (2048 -> 256), low-level projection (256 -> 48) and fusion, counted by hand."""
    decoder = DeepLabV3Plus((256, 512, 1024, 2048), (4, 8, 16, 16))
    aspp = 2048 * 256 * (1 + 9 * 3 + 1) + 5 * 256 * 256 + 2 * 256 * 6
    rest = 256 * 48 + 2 * 48 + 9 * 304 * 256 + 9 * 256 * 256 + 2 * 256 * 2
    assert sum(p.numel() for p in decoder.parameters()) == aspp + rest
    assert decoder.embed_dim == 256


def test_embedding_has_the_finest_levels_size() -> None:
    decoder = DeepLabV3Plus((8, 16, 24, 32), (4, 8, 16, 16), channels=8)
    levels = tuple(torch.randn(2, 8 * (i + 1), *size) for i, size in enumerate([(17, 13), (9, 7), (5, 4), (5, 4)]))
    assert decoder(levels).shape == (2, 8, 17, 13)


def test_one_image_can_be_predicted_but_not_trained_on() -> None:
    decoder = DeepLabV3Plus((8, 8), (4, 16), channels=8)
    levels = (torch.randn(1, 8, 8, 8), torch.randn(1, 8, 2, 2))
    with pytest.raises(ConfigError, match=r"cannot train on 1 image. Give at least 2"):
        decoder(levels)
    assert decoder.eval()(levels).isfinite().all()


def test_it_has_no_level_widths() -> None:
    with pytest.raises(ConfigError, match="deeplabv3plus has none"):
        DeepLabV3Plus((8, 8), (4, 16), level_widths=(8, 8))
