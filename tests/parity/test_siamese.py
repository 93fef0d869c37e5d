"""Change detection against LiheYoung/UniMatch-V2 (f6afb4d), remote-sensing/model/semseg/dpt.py: the difference of the
levels stored in `a1_seg_tiny_io.npz`, channel masks after it, and every released name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from semikit.core.student_views import logits_of
from semikit.models.settings import ModelSettings
from semikit.models.siamese import Siamese, build_siamese, siamese_state
from semikit.models.weights.released import convert

DATA = Path(__file__).parent / "data"
KEYS = json.loads((DATA / "a1_state_dict_keys.json").read_text())


def stored(name: str) -> dict[str, Tensor]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.fixture(scope="module")
def network() -> Siamese:
    settings = ModelSettings(
        encoder="dinov2-small",
        weights="none",
        encoder_args={"img_size": 70, "embed_dim": 32, "depth": 4, "num_heads": 2},
        decoder_channels=16,
        decoder_widths=(8, 16, 32, 32),
    )
    network = build_siamese(settings, 5)
    official = load_file(DATA / "a1_seg_tiny_weights.safetensors")
    network.load_state_dict(siamese_state(convert(official)), strict=True)
    return network


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return stored("a1_seg_tiny_io")


def change(stored: dict[str, Tensor], level: str) -> Tensor:
    """|f(A) - f(B)| (1, 32, 5, 7) of stored tokens (2, 35, 32): the first image is date A, the second date B."""
    first, second = stored[level].transpose(1, 2).reshape(2, 1, 32, 5, 7)
    return (first - second).abs()


def test_levels_are_differences_after_the_final_norm(network: Siamese, expected: dict[str, Tensor]) -> None:
    with torch.no_grad():
        features = network.encode(expected["x"][None])
    assert features.size == (70, 98)
    for i, level in enumerate(features.levels):
        torch.testing.assert_close(level, change(expected, f"feat{i}"), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(features.levels[3], change(expected, "feat3_before_final_norm"), atol=0.01)


def test_the_head_sees_the_difference_alone(network: Siamese, expected: dict[str, Tensor]) -> None:
    pairs = torch.stack([expected["x"], expected["x"].flip(0), expected["x"][:1].expand(2, -1, -1, -1)])
    levels = tuple(change(expected, f"feat{i}") for i in range(4))
    head = network.segmenter
    with torch.no_grad():
        logits = network(pairs)
        changed = head.classify(head.decoder(levels), (70, 98))
        same = head.classify(head.decoder(tuple(torch.zeros_like(level) for level in levels)), (70, 98))
    torch.testing.assert_close(logits, torch.cat((changed, changed, same)), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(changed, same, atol=0.01)


def test_masks_act_after_the_difference_one_for_each_pair(network: Siamese, expected: dict[str, Tensor]) -> None:
    """Stored masks of a step with two pairs have two rows for each view, as many as there are differences."""
    masks = [stored("a4_comp_dropout")[f"cd_bs4_mask{view}"] for view in (1, 2)]
    assert [mask.shape for mask in masks] == [(2, 32)] * 2
    pairs = torch.stack([expected["x"], expected["x"]])
    levels = [change(expected, f"feat{i}") for i in range(4)]
    head = network.segmenter
    with torch.no_grad():
        views = logits_of(network, [pairs, pairs], [(mask,) * 4 for mask in masks], "encoder")
        undropped = network(pairs)
        for logits, mask in zip(views, masks, strict=True):
            dropped = tuple(level * mask[:, :, None, None] for level in levels)
            torch.testing.assert_close(logits, head.classify(head.decoder(dropped), (70, 98)), rtol=1e-5, atol=1e-5)
    kept = (masks[0] == 1).all(dim=1)
    assert kept.sum() == 1
    torch.testing.assert_close(views[0][kept], undropped[kept], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(views[0][~kept], undropped[~kept], atol=0.01)


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_every_released_name_and_shape(size: str) -> None:
    official = {key: torch.empty(shape, device="meta") for key, shape in KEYS[f"cd_{size}"].items()}
    assert len(official) == len(KEYS[f"seg_{size}"])
    with torch.device("meta"):
        network = build_siamese(
            ModelSettings(encoder=f"dinov2-{size}", weights="none"), KEYS[f"cd_{size}__params"]["nclass"]
        )
    state = siamese_state(convert(official))
    assert {key: value.shape for key, value in state.items()} == {k: v.shape for k, v in network.state_dict().items()}
    encoder = sum(p.numel() for p in network.encoder.parameters())
    assert encoder == KEYS[f"cd_{size}__params"]["backbone"] - official["backbone.mask_token"].numel()
