"""Low-rank adaptation (LoRA) of an encoder: its weights stay, and a small product beside each chosen one learns.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from semikit.errors import ConfigError
from semikit.models.encoders.encoder import Encoder
from semikit.models.settings import LoraSettings

_BASE, _DOWN, _UP = "base", "lora_a", "lora_b"
_SHOWN = 6


@final
class LoraLinear(nn.Module):
    """A linear layer whose weight is kept: x -> base(x) + scale · x Aᵀ Bᵀ, with A (rank, D) and B (out, rank).

    B begins at zero, so at first nothing changes.
    """

    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        self.lora_a = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """The weight (out, D) with the change; BEiT and EVA read it instead of calling the layer."""
        return self.base.weight + self.scale * (self.lora_b @ self.lora_a)

    @property
    def bias(self) -> Tensor | None:
        """The bias (out) of the layer, which is kept."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) -> (…, out)."""
        change = functional.linear(functional.linear(x, self.lora_a), self.lora_b)
        adapted: Tensor = self.base(x) + self.scale * change
        return adapted


def adapt(encoder: Encoder, settings: LoraSettings) -> None:
    """Keep the encoder's weights from now on and let factors beside the chosen layers learn; A is drawn from torch's
    global generator.

    Raises:
        ConfigError: when no layer is chosen, or the rank exceeds the size of one.
    """
    layers = {name: layer for name, layer in encoder.backbone.named_modules() if isinstance(layer, nn.Linear)}
    chosen = {name: layer for name, layer in layers.items() if any(text in name for text in settings.targets)}
    if not chosen:
        raise ConfigError(_nothing_chosen(list(layers), settings.targets))
    name, smallest = min(chosen.items(), key=lambda item: _size(item[1]))
    if settings.rank > _size(smallest):
        raise ConfigError(
            f"lora.rank {settings.rank}: {name} is {smallest.in_features} -> {smallest.out_features}, and its change "
            f"has a rank of at most {_size(smallest)}. Give a rank from 1 to {_size(smallest)} (4 to 64 are usual)."
        )
    encoder.requires_grad_(False)
    for name, layer in chosen.items():
        owner, _, child = name.rpartition(".")
        setattr(encoder.backbone.get_submodule(owner), child, LoraLinear(layer, settings.rank, settings.scale))
    encoder.lora = settings


def merged(state: Mapping[str, Tensor], settings: LoraSettings) -> dict[str, Tensor]:
    """A state with factors -> that of the same network without: each weight with its change, under its plain name."""
    plain: dict[str, Tensor] = {}
    for name, value in state.items():
        layer, _, last = name.rpartition(".")
        owner, _, inner = layer.rpartition(".")
        if last in (_DOWN, _UP):
            continue
        if inner != _BASE or f"{owner}.{_UP}" not in state:
            plain[name] = value
        elif last == "weight":
            plain[f"{owner}.{last}"] = _sum(value, state[f"{owner}.{_UP}"], state[f"{owner}.{_DOWN}"], settings.scale)
        else:
            plain[f"{owner}.{last}"] = value
    return plain


def _sum(weight: Tensor, up: Tensor, down: Tensor, scale: float) -> Tensor:
    """The weight plus scale · up @ down, in float32 whatever the weights are stored in."""
    with torch.no_grad():
        return (weight.float() + scale * (up.float() @ down.float())).to(weight.dtype)


def _size(layer: nn.Linear) -> int:
    return min(layer.in_features, layer.out_features)


def _nothing_chosen(names: list[str], targets: tuple[str, ...]) -> str:
    if not names:
        return (
            "lora: this encoder has no linear layers to adapt. Choose a transformer, or fine-tune it all (leave "
            "lora unset)."
        )
    kinds = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    some = ", ".join(names[:_SHOWN])
    return (
        f"lora.targets {list(targets)}: no linear layer of this encoder has one of these in its name. Its layers are "
        f"called {', '.join(kinds)} (in full, e.g., {some}). Give parts of such names."
    )
