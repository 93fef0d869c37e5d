"""Parameters of encoder and DPT decoder, in millions, as the paper's Tables 8 and 9 state them (one decimal)."""

from __future__ import annotations

import pytest
import torch

from semikit.models.decoders.dpt import Residual
from semikit.models.segmenter import build_segmenter
from semikit.models.settings import ModelSettings

PROJECTED = {"decoder_channels": 256, "decoder_widths": (256, 512, 1024, 1024)}
"""What the paper's DPT must do with a pyramid for its sizes to come out; the code of the table is not released."""

AT_512 = {"encoder_args": {"img_size": 512}}
"""BEiT learns a position bias for every distance inside an image; the paper's is that of its crop of 512."""


@pytest.mark.parametrize(
    ("name", "changes", "stated", "classes"),
    [
        ("dinov2-s", {}, 24.8, 150),
        ("dinov2-b", {}, 97.5, 150),
        ("dinov2-l", {}, 335.6, 150),
        ("sam-b", {}, 99.8, 21),
        ("sam-l", {}, 338.6, 21),
        ("mit-b5", PROJECTED, 99.2, 21),
        ("beit-b", AT_512, 97.2, 21),
        ("beit-l", AT_512, 335.9, 21),
    ],
)
def test_sizes_of_the_paper(name: str, changes: dict[str, object], stated: float, classes: int) -> None:
    """They come out, to the decimal, once the unit is added that the released decoder holds and never uses."""
    assert round(with_unused_unit(name, changes, classes), 1) == stated


def test_resnet_152_is_smaller_than_stated() -> None:
    """78.4 instead of 78.6: the stem of three convolutions in the ResNet of UniMatch V1 has 0.12 M more than timm's."""
    ours = with_unused_unit("resnet152", PROJECTED, 150)
    three = (3 * 64 + 64 * 64 + 64 * 128) * 9 + 2 * (64 + 64 + 128)
    one = 3 * 64 * 49 + 2 * 64
    following = 64 * (64 + 256)  # the first block then reads 128 channels instead of 64
    assert round(ours, 1) == 78.4
    assert round(ours + (three - one + following) / 1e6, 1) == 78.6


def with_unused_unit(name: str, changes: dict[str, object], classes: int) -> float:
    with torch.device("meta"):
        network = build_segmenter(ModelSettings(encoder=name, decoder="dpt", weights="none", **changes), classes)
        unused = Residual(network.embed_dim)
    return sum(p.numel() for module in (network, unused) for p in module.parameters()) / 1e6
