"""Checkpoints under the names of the released ones."""

from __future__ import annotations

import torch
from torch import Tensor

from semikit.models.segmenter import build_segmenter
from semikit.models.settings import ModelSettings
from semikit.models.weights.released import our_name

SIZES = {"small": (384, 12, 64), "giant": (1536, 40, 384)}  # width, depth, channels of the decoder


def official(size: str, classes: int, value: float, gated: bool = False) -> dict[str, Tensor]:
    """A state under the released names: one stored number a tensor, whatever its shape."""
    with torch.device("meta"):
        network = build_segmenter(ModelSettings(encoder=f"dinov2-{size}", weights="none"), classes)
    names = {our: theirs for theirs, our in official_names(SIZES[size][1], gated).items()}
    state = {names[key]: torch.tensor(value).expand(item.shape) for key, item in network.state_dict().items()}
    width, _, channels = SIZES[size]
    state["backbone.mask_token"] = torch.tensor(value).expand(1, width)
    state["head.scratch.refinenet4.resConfUnit1.conv1.bias"] = torch.tensor(value).expand(channels)
    return state


def official_names(depth: int, gated: bool) -> dict[str, str]:
    layers = ("w12", "w3") if gated else ("fc1", "fc2")
    block = ["norm1", "attn.qkv", "attn.proj", "norm2", *(f"mlp.{layer}" for layer in layers)]
    names = [f"backbone.{name}" for name in ("cls_token", "pos_embed")] + [
        f"backbone.blocks.{i}.ls{j}.gamma" for i in range(depth) for j in (1, 2)
    ]
    modules = ["backbone.patch_embed.proj", "backbone.norm", "head.scratch.output_conv.0", "head.scratch.output_conv.2"]
    modules += [f"backbone.blocks.{i}.{part}" for i in range(depth) for part in block]
    modules += [f"head.projects.{i}" for i in range(4)] + [f"head.resize_layers.{i}" for i in (0, 1, 3)]
    modules += [f"head.scratch.layer{i}_rn" for i in (1, 2, 3, 4)]
    for i in (1, 2, 3, 4):
        modules += [f"head.scratch.refinenet{i}.out_conv"]
        modules += [f"head.scratch.refinenet{i}.resConfUnit{u}.conv{c}" for u in (1, 2) for c in (1, 2)]
    names += [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]
    return {name: ours for name in names if (ours := our_name(name)) is not None}
