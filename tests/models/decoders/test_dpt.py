from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from semikit.errors import ConfigError
from semikit.models.decoders.dpt import DPT, Fusion


def test_projection_before_enlargement_changes_nothing() -> None:
    fusion = Fusion(6, coarsest=False).double()
    coarse, level = torch.randn(2, 1, 6, 4, 5, dtype=torch.double)
    unit = fusion.unit2(coarse + fusion.unit1(level))
    later = fusion.out_conv(functional.interpolate(unit, size=(9, 11), mode="bilinear", align_corners=True))
    torch.testing.assert_close(fusion(coarse, level, (9, 11)), later)


def test_coarsest_fusion_has_no_unused_unit() -> None:
    decoder = DPT((32,) * 4, (14,) * 4)
    assert decoder.fusions[-1].unit1 is None
    assert all(fusion.unit1 is not None for fusion in decoder.fusions[:-1])


def test_transformer_levels_are_reassembled() -> None:
    decoder = DPT((32,) * 4, (14,) * 4, channels=12, level_widths=(4, 8, 16, 16))
    assert decoder(tuple(torch.randn(2, 32, 3, 5) for _ in range(4))).shape == (2, 12, 24, 40)


def test_pyramid_levels_are_used_as_they_are() -> None:
    decoder = DPT((8, 16, 24, 32), (4, 8, 16, 32), channels=12)
    assert decoder.projects is None
    levels = tuple(torch.randn(1, 8 * (i + 1), *size) for i, size in enumerate([(17, 13), (9, 7), (5, 4), (3, 2)]))
    assert decoder(levels).shape == (1, 12, 34, 26)


def test_pyramid_levels_are_projected_on_request() -> None:
    decoder = DPT((8, 16, 24, 32), (4, 8, 16, 32), channels=12, level_widths=(4, 6, 6, 6))
    assert decoder.resize is None
    assert decoder.projects is not None
    assert [layer.weight.shape[:2] for layer in decoder.projects] == [(4, 8), (6, 16), (6, 24), (6, 32)]
    levels = tuple(torch.randn(1, 8 * (i + 1), *size) for i, size in enumerate([(17, 13), (9, 7), (5, 4), (3, 2)]))
    assert decoder(levels).shape == (1, 12, 34, 26)


def test_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"fuses 4 levels; got 3 of the encoder .encoder_layers. and 4 decoder_wid"):
        DPT((32,) * 3, (14,) * 3)
    with pytest.raises(ConfigError, match="and 2 decoder_widths"):
        DPT((32,) * 4, (14,) * 4, level_widths=(8, 8))
    with pytest.raises(ConfigError, match="and 3 decoder_widths"):
        DPT((8, 16, 24, 32), (4, 8, 16, 32), level_widths=(8, 8, 8))
