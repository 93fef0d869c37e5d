from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor

from semikit.models.encoders.create import build_encoder
from semikit.models.encoders.vit import official_positions
from semikit.models.settings import ModelSettings

NARROW = {"depth": 4, "embed_dim": 32, "num_heads": 2}


def encoder(name: str, **changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_encoder(ModelSettings(encoder=name, weights="none", encoder_args=NARROW, **changes)).eval()


@pytest.mark.parametrize("grid", [(5, 5), (5, 3), (4, 5), (9, 13), (1, 2)])
def test_positions_of_an_exported_graph(grid: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    positions = torch.randn(1, 26, 8)
    expected = official_positions(positions, grid)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(official_positions(positions, grid), expected, atol=1e-5, rtol=0)


def test_positions_stay_in_the_graph() -> None:
    positions = torch.randn(1, 26, 8, requires_grad=True)
    resampled = official_positions(positions, (7, 4))
    assert resampled.shape == (1, 29, 8)
    resampled.square().sum().backward()
    assert positions.grad is not None
    assert (positions.grad != 0).all()


def test_native_grid_is_returned_itself() -> None:
    positions = torch.randn(1, 26, 8)
    assert official_positions(positions, (5, 5)) is positions


def test_positions_are_resampled_in_float32() -> None:
    positions = torch.randn(1, 26, 8)
    expected = official_positions(positions, (6, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(official_positions(positions, (6, 3)), expected)
    assert official_positions(positions.bfloat16(), (6, 3)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "dinov3-small"])
def test_levels_are_timms_normed_blocks(name: str) -> None:
    ours = encoder(name, encoder_layers=(1, 3))
    images = torch.randn(2, 3, 48, 80)
    expected: list[Tensor] = ours.backbone.forward_intermediates(
        images, indices=[1, 3], norm=True, intermediates_only=True
    )
    actual = ours(images)
    assert ours.widths == (32, 32)
    for level, wanted in zip(actual, expected, strict=True):
        assert level.shape == (2, 32, 3, 5)
        assert torch.equal(level, wanted)


def test_dinov2_equals_timm_on_the_native_grid() -> None:
    ours = encoder("dinov2-small", encoder_layers=(0, 1, 2, 3))
    images = torch.randn(1, 3, 518, 518)
    expected = ours.backbone.forward_intermediates(images, indices=4, norm=True, intermediates_only=True)
    for level, wanted in zip(ours(images), expected, strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-6, atol=1e-6)


def test_maps_are_laid_out_channels_last() -> None:
    for name in ("vit_tiny_patch16_224", "dinov2-small", "beit-base"):
        level = encoder(name)(torch.zeros(2, 3, 112, 224))[0]
        assert level.stride(1) == 1, name


def test_later_blocks_are_dropped() -> None:
    assert len(encoder("vit_tiny_patch16_224", encoder_layers=(0, 1, 1, 2)).backbone.blocks) == 3


def test_repeated_blocks_give_repeated_levels() -> None:
    levels = encoder("dinov2-small", encoder_layers=(3, 0, 3, 3))(torch.randn(1, 3, 28, 28))
    assert torch.equal(levels[0], levels[2])
    assert not torch.equal(levels[0], levels[1])


def test_beit_equals_timm_on_the_native_grid() -> None:
    torch.manual_seed(0)
    plain = timm.create_model("beit_base_patch16_224", num_classes=0, global_pool="token", img_size=(48, 48), **NARROW)
    for block in plain.blocks:
        torch.nn.init.normal_(block.attn.relative_position_bias_table)
    plain.eval()
    settings = ModelSettings(encoder="beit-base", weights="none", encoder_args={**NARROW, "img_size": (48, 48)})
    ours = build_encoder(settings).eval()
    state = {key: value for key, value in plain.state_dict().items() if "relative_position" not in key}
    ours.backbone.load_state_dict(state, strict=True)
    for bias, block in zip(ours.biases, plain.blocks, strict=True):
        bias.table.data.copy_(block.attn.relative_position_bias_table)
    images = torch.randn(2, 3, 48, 48)
    expected = plain.forward_intermediates(images, indices=4, norm=True, intermediates_only=True)
    for level, wanted in zip(ours(images), expected, strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-5, atol=1e-5)


def test_norm_after_pooling_becomes_the_final_norm() -> None:
    assert isinstance(encoder("beit-base").backbone.norm, torch.nn.LayerNorm)
    assert not any("fc_norm" in name for name, _ in encoder("beit-base").named_parameters())
