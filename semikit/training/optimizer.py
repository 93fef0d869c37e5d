"""The optimiser of a run and its learning rates."""

from __future__ import annotations

import torch
from torch import nn, optim

from semikit.core.network import Network
from semikit.core.schedule import learning_rate
from semikit.training.settings import OptimizerSettings


def build_optimizer(network: Network, settings: OptimizerSettings) -> optim.Optimizer:
    """Fused AdamW or SGD with two groups: the encoder's parameters, then all others (frozen ones left out)."""
    encoder = [p for p in network.encoder_parameters() if p.requires_grad]
    ids = {id(p) for p in encoder}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in ids]
    encoder_lr = settings.lr if settings.encoder_lr is None else settings.encoder_lr
    groups: list[dict[str, float | list[nn.Parameter]]] = []
    for parameters, rate in ((encoder, encoder_lr), (rest, settings.lr)):
        if parameters:
            groups.append({"params": parameters, "lr": rate, "base_lr": rate})
    if settings.name == "adamw":
        return optim.AdamW(groups, betas=(0.9, 0.999), weight_decay=settings.weight_decay, fused=True)
    optimizer = optim.SGD(groups, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True)
    if settings.momentum:
        # Fused SGD leaves its buffers uninitialised where the first step is skipped; from zeros that step is the same.
        for parameter in (*encoder, *rest):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_learning_rates(optimizer: optim.Optimizer, settings: OptimizerSettings, step: int, total: int) -> float:
    """Set every group's rate for `step` (from 0) of `total`; returns the last group's (the decoder's)."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(group["base_lr"], step, total, settings)
    return float(optimizer.param_groups[-1]["lr"])
