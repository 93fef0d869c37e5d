"""The optimiser of a run and its learning rates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from timm.optim import param_groups_layer_decay
from torch import nn, optim

from semikit.core.network import Network
from semikit.core.schedules import learning_rate
from semikit.errors import ConfigError
from semikit.training.settings import OptimizerSettings

Group = dict[str, Any]


def build_optimizer(
    network: Network,
    settings: OptimizerSettings,
    extra: Iterable[nn.Parameter] = (),
    peers: Iterable[Network] = (),
) -> optim.Optimizer:
    """Fused AdamW or SGD; the encoder's parameters come first, then all others (frozen ones left out).

    `extra`: what the method learns beside the network; `peers`: other networks, which learn at the same rates.

    Raises:
        ConfigError: `layer_decay` for an encoder whose layers have no order.
    """
    networks = [network, *peers]
    encoder = [p for one in networks for p in one.encoder_parameters() if p.requires_grad]
    ids = {id(p) for p in encoder}
    every = [*(p for one in networks for p in one.parameters()), *extra]
    rest = [p for p in every if p.requires_grad and id(p) not in ids]
    encoder_lr = settings.lr if settings.encoder_lr is None else settings.encoder_lr
    groups = [{"params": encoder, "base_lr": encoder_lr}]
    if settings.layer_decay:
        groups = [group for one in networks for group in _layers(one, encoder_lr, settings)]
    groups.append({"params": rest, "base_lr": settings.lr})
    groups = [{"lr": group["base_lr"], **group} for group in _decayed(groups, settings) if group["params"]]
    if settings.name == "adamw":
        return optim.AdamW(groups, betas=(0.9, 0.999), weight_decay=settings.weight_decay, fused=True)
    optimizer = optim.SGD(
        groups, momentum=settings.momentum, weight_decay=settings.weight_decay, nesterov=settings.nesterov, fused=True
    )
    if settings.momentum:
        # Fused SGD leaves its buffers uninitialised where the first step is skipped; from zeros that step is the same.
        for parameter in (*encoder, *rest):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _layers(network: Network, rate: float, settings: OptimizerSettings) -> list[Group]:
    """The encoder's parameters in groups whose rates fall from the last layer to the first."""
    assert settings.layer_decay is not None
    encoder: Any = getattr(network, "encoder", None)
    if not hasattr(encoder, "group_matcher"):
        raise ConfigError(
            f"optimizer.layer_decay={settings.layer_decay}: the layers of this encoder have no order. Set "
            "optimizer.layer_decay=null, or take a recipe: --preset small-pretrained, small-from-scratch (random "
            "weights) or wide-resnet (small images from random weights)."
        )
    found = param_groups_layer_decay(encoder, layer_decay=settings.layer_decay)
    return [{"params": group["params"], "base_lr": rate * group["lr_scale"]} for group in found]


def _decayed(groups: list[Group], settings: OptimizerSettings) -> list[Group]:
    """With `decay_norms` false the norms and biases (one axis at most) apart, without weight decay."""
    if settings.decay_norms:
        return groups
    found: list[Group] = []
    for group in groups:
        plain = [p for p in group["params"] if p.dim() <= 1]
        found.append({**group, "params": [p for p in group["params"] if p.dim() > 1]})
        found.append({**group, "params": plain, "weight_decay": 0.0})
    return found


def set_learning_rates(optimizer: optim.Optimizer, settings: OptimizerSettings, step: int, total: int) -> float:
    """Set every group's rate for `step` (from 0) of `total`; returns the last group's (the decoder's)."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(group["base_lr"], step, total, settings)
    return float(optimizer.param_groups[-1]["lr"])
