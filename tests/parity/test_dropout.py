"""Complementary channel dropout against LiheYoung/UniMatch-V2 (f6afb4d), model/semseg/dpt.py: the stored masks
(`a4_comp_dropout.npz`) and ours have the same properties; the logits under given masks are in test_trajectory.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semikit.core.channel_dropout import ChannelDropout, channel_masks
from semikit.core.rng import rng_for

with np.load(Path(__file__).parent / "data" / "a4_comp_dropout.npz") as _arrays:
    STORED = {name: torch.from_numpy(_arrays[name]) for name in _arrays.files}


def _facts(first: Tensor, second: Tensor) -> dict[str, object]:
    kept = (first == 1).all(dim=1)
    return {
        "shape": tuple(first.shape),
        "sum": (first + second).unique().tolist(),
        "kept in both": torch.equal(kept, (second == 1).all(dim=1)),
        "kept": int(kept.sum()),
        "dropped values": first[~kept].unique().tolist(),
    }


@pytest.mark.parametrize("images", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("task", ["seg", "cd"])
def test_same_properties(task: str, images: int) -> None:
    stored = _facts(*(STORED[f"{task}_bs{2 * images}_mask{v}"] for v in (1, 2)))
    rng = rng_for(0, "dropout", images)
    first, second = channel_masks(rng, images, (32,) * 4, ChannelDropout(), views=2, group=images)
    assert _facts(first[0], second[0]) == stored
    assert all(mask is first[0] for mask in first)
    assert all(mask is second[0] for mask in second)
