"""Passes through the student: what is cut apart again, and which masks reach whom."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from semikit.core.batch_norm import has_batch_norm
from semikit.core.student_views import check_forward, logits_of, settled_forward
from semikit.errors import ConfigError
from tests.helpers import tiny


@pytest.mark.parametrize("pixels", [True, False], ids=["pixels", "images"])
@pytest.mark.parametrize("position", ["encoder", "decoder"])
def test_lists_of_unequal_length_with_and_without_masks(position: str, pixels: bool) -> None:
    network = tiny.network(pixels=pixels, last=8)
    images = [torch.randn(size, 3, 12, 12) for size in (3, 2, 1)]
    widths = network.widths if position == "encoder" else (network.embed_dim,)
    masks = [(), tuple(torch.rand(2, width) for width in widths), ()]
    together = logits_of(network, images, masks, position)
    alone = [logits_of(network, [part], [mask], position)[0] for part, mask in zip(images, masks, strict=True)]
    for joined, single in zip(together, alone, strict=True):
        torch.testing.assert_close(joined, single)
    torch.testing.assert_close(together[0], network(images[0]))
    assert not torch.allclose(together[1], network(images[1]))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.SyncBatchNorm(2)])
def test_batch_norm_is_found(norm: nn.Module) -> None:
    assert has_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.Sequential(norm)))
    assert not has_batch_norm(nn.Sequential(nn.LayerNorm(2), nn.GroupNorm(1, 2)))


def test_fused_is_refused_with_batch_norm_only() -> None:
    check_forward("fused", tiny.network())
    check_forward("auto", tiny.network(batch_norm=True))
    with pytest.raises(ConfigError, match="allowed here: 'auto', 'separate', 'joint'"):
        check_forward("fused", tiny.network(batch_norm=True))


def test_one_call_where_it_gives_the_same_numbers_and_is_not_slower() -> None:
    network, seg_266, cd_252 = tiny.network(), 6 * 266**2, 12 * 252**2
    assert settled_forward("auto", network, True, seg_266, 4) == "fused"
    assert settled_forward("auto", network, True, cd_252, 4) == "separate"
    assert settled_forward("auto", network, True, cd_252, 2) == "fused"
    assert settled_forward("auto", network, False, cd_252, 4) == "fused"
    assert settled_forward("auto", tiny.network(batch_norm=True), True, seg_266, 4) == "separate"
    assert settled_forward("joint", network, True, cd_252, 4) == "joint"
