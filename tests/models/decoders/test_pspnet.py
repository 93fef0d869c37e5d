from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from semikit.errors import ConfigError
from semikit.models.decoders.pspnet import CELLS, Pooled, PSPNet


def means(x: Tensor, cells: int) -> Tensor:
    """Means over cells that begin at the rounded-down and end at the rounded-up share of a side."""
    height, width = x.shape[-2:]
    rows = [slice(i * height // cells, -(-(i + 1) * height // cells)) for i in range(cells)]
    columns = [slice(i * width // cells, -(-(i + 1) * width // cells)) for i in range(cells)]
    return torch.stack([torch.stack([x[..., r, c].mean((-2, -1)) for c in columns], -1) for r in rows], -2)


@pytest.mark.parametrize("size", [(12, 6), (32, 32), (17, 13), (5, 4), (1, 2)])
@pytest.mark.parametrize("cells", CELLS)
def test_a_branch_sees_means_whatever_the_size(size: tuple[int, int], cells: int) -> None:
    branch, x = Pooled(3, 4, cells).eval(), torch.randn(2, 3, *size)
    expected = functional.interpolate(branch.project(means(x, cells)), size=size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(branch(x), expected, rtol=1e-5, atol=1e-5)


def test_the_level_stands_beside_its_means() -> None:
    decoder, last = PSPNet((4, 8), (4, 8)).eval(), torch.randn(2, 8, 9, 7)
    joined = torch.cat([last, *(branch(last) for branch in decoder.branches)], dim=1)
    assert joined.shape[1] == 8 + 4 * 2
    convolution, norm, _ = decoder.fuse
    expected = norm(functional.conv2d(joined, convolution.weight, padding=1)).clamp(min=0)
    assert torch.equal(decoder((torch.randn(2, 4, 18, 14), last)), expected)


def test_size_is_that_of_unimatch_v1_on_resnet50() -> None:
    """Weights of its pyramid pooling (4 branches 2048 -> 512) and its 3x3 convolution (4096 -> 512), by hand."""
    decoder = PSPNet((256, 512, 1024, 2048), (4, 8, 8, 8))
    assert sum(p.numel() for p in decoder.parameters()) == 4 * (2048 * 512 + 2 * 512) + 9 * 4096 * 512 + 2 * 512
    assert decoder.embed_dim == 512


def test_channels_are_those_of_the_embedding() -> None:
    decoder = PSPNet((8, 16, 24, 32), (4, 8, 8, 8), channels=6)
    assert decoder.embed_dim == 6
    levels = tuple(torch.randn(2, 8 * (i + 1), *size) for i, size in enumerate([(17, 13), (9, 7), (9, 7), (9, 7)]))
    assert decoder(levels).shape == (2, 6, 9, 7)


def test_one_image_can_be_predicted_but_not_trained_on() -> None:
    decoder = PSPNet((8, 8), (4, 8), channels=8)
    levels = (torch.randn(1, 8, 8, 8), torch.randn(1, 8, 4, 4))
    with pytest.raises(ConfigError, match=r"pspnet normalises .* cannot train on 1 image. Give at least 2"):
        decoder(levels)
    assert decoder.eval()(levels).isfinite().all()


def test_it_has_no_level_widths() -> None:
    with pytest.raises(ConfigError, match="pspnet has none"):
        PSPNet((8, 8), (4, 8), level_widths=(8, 8))
