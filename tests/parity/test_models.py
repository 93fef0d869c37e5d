"""DINOv2 + DPT against the authors' classes: names, levels, logits, gradients, resampled positions."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from semikit.models.encoders.vit import official_positions
from semikit.models.segmenter import Segmenter, build_segmenter
from semikit.models.settings import ModelSettings
from semikit.models.weights.released import convert, our_name

DATA = Path(__file__).parent / "data"
KEYS = json.loads((DATA / "a1_state_dict_keys.json").read_text())
UNUSED = {
    "backbone.mask_token",
    *(f"head.scratch.refinenet4.resConfUnit1.conv{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")),
}


def stored(name: str) -> dict[str, Tensor]:
    with np.load(DATA / name) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def official_tokens(level: Tensor) -> Tensor:
    return level.flatten(2).transpose(1, 2)


@pytest.fixture(scope="module")
def network() -> Segmenter:
    settings = ModelSettings(
        encoder="dinov2-small",
        weights="none",
        encoder_args={"img_size": 70, "embed_dim": 32, "depth": 4, "num_heads": 2},
        decoder_channels=16,
        decoder_widths=(8, 16, 32, 32),
    )
    network = build_segmenter(settings, 5)
    network.load_state_dict(convert(load_file(DATA / "a1_seg_tiny_weights.safetensors")), strict=True)
    return network


@pytest.mark.parametrize("file", ["a1_seg_tiny_io.npz", "a1_seg_tiny_io_native70.npz"])
def test_tiny_levels_and_logits(network: Segmenter, file: str) -> None:
    expected = stored(file)
    with torch.no_grad():
        features = network.encode(expected["x"])
        logits = network.decode(features)
    for i, level in enumerate(features.levels):
        torch.testing.assert_close(official_tokens(level), expected[f"feat{i}"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits, expected["logits"], rtol=1e-6, atol=1e-6)


def test_tiny_decoder_alone(network: Segmenter) -> None:
    expected = stored("a1_seg_tiny_io.npz")
    levels = tuple(expected[f"tok{i}"].transpose(1, 2).reshape(2, 32, 5, 7) for i in range(4))
    with torch.no_grad():
        actual = network.classifier(network.decoder(levels))
    torch.testing.assert_close(actual, expected["head_out_from_tok"], rtol=1e-6, atol=1e-6)


def test_tiny_gradients(network: Segmenter) -> None:
    expected = json.loads((DATA / "a1_seg_tiny_gradnorms.json").read_text())
    target = torch.arange(2 * 70 * 98).reshape(2, 70, 98) % 5
    network.zero_grad()
    loss = functional.cross_entropy(network(stored("a1_seg_tiny_io.npz")["x"]), target)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(expected["loss"], rel=1e-6)
    norms = {name: float(parameter.grad.norm()) for name, parameter in network.named_parameters()}
    seen = 0
    for name, norm in expected["grad_norms"].items():
        ours = our_name(name)
        assert (ours is None) == (norm is None) == (name in UNUSED), name
        if ours is not None:
            assert norms[ours] == pytest.approx(norm, rel=1e-4, abs=1e-8), name
            seen += 1
    assert seen == len(norms)


def drawn(key: str, shape: list[int]) -> Tensor:
    """A tensor by its official key, as the stored values were made."""
    seed = zlib.crc32(key.encode()) & 0x7FFFFFFF
    values = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    if key.endswith(("pos_embed", "cls_token", "mask_token")):
        values = 0.2 * values
    elif key.endswith("gamma"):
        values = 0.5 + 0.1 * values
    elif len(shape) >= 2:
        values = values / np.sqrt(np.prod(shape[1:]))
    elif key.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def test_small_levels_and_logits() -> None:
    expected = stored("a1_seg_dpt_small_full_70x98.npz")
    network = build_segmenter(ModelSettings(encoder="dinov2-small", weights="none"), 21)
    state = {key: drawn(key, shape) for key, shape in KEYS["seg_small"].items()}
    network.load_state_dict(convert(state), strict=True)
    positions = official_positions(network.encoder.backbone.pos_embed.detach(), (5, 7))
    torch.testing.assert_close(positions, expected["pos_embed_interp"], rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        features = network.encode(expected["x"])
        head = network.classifier(network.embed(features))
        logits = network.decode(features)
    for i, level in enumerate(features.levels):
        torch.testing.assert_close(official_tokens(level), expected[f"feat{i}"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(head, expected["head_out"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits, expected["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", ["small", "base", "large", "giant"])
def test_every_released_name_and_shape(size: str) -> None:
    official = KEYS[f"seg_{size}"]
    with torch.device("meta"):
        network = build_segmenter(ModelSettings(encoder=f"dinov2-{size}", weights="none"), 21)
    renamed = {our_name(key): shape for key, shape in official.items()}
    assert {key for key in official if our_name(key) is None} == UNUSED
    del renamed[None]
    assert len(renamed) == len(official) - len(UNUSED)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == renamed
    dropped = sum(int(np.prod(official[key])) for key in UNUSED)
    assert sum(p.numel() for p in network.parameters()) == KEYS[f"seg_{size}__params"]["total"] - dropped


GRIDS = ["37x37", "18x18", "5x7", "9x9", "23x23", "36x36", "38x38", "57x57", "37x74", "74x37", "1x1", "73x146"]


@pytest.mark.parametrize("grid", GRIDS)
def test_resampled_positions(grid: str) -> None:
    expected = stored("a2_pos_embed_interp.npz")
    height, width = map(int, grid.split("x"))
    actual = official_positions(expected["pos_embed"], (height, width))
    if grid == "73x146":  # stored thinned out
        actual = actual[:, ::7]
    torch.testing.assert_close(actual, expected[f"grid_{grid}"], rtol=1e-6, atol=1e-6)
    assert set(GRIDS) == {key.removeprefix("grid_") for key in expected} - {"pos_embed"}
