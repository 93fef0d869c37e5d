"""What one of several processes of a step remembers and learns: a program.

`python -m tests.helpers.shared_states OUT`, with the environment of torchrun; writes OUT/RANK.pt.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from semikit.core.batch import Target, take
from semikit.core.losses import denominators
from semikit.core.method import Method
from semikit.methods.freematch import fairness
from semikit.registry import METHODS
from tests.helpers import tiny

CASES: dict[str, dict[str, Any]] = {
    "fixmatch": {"forward": "joint", "teacher": "student", "alignment": {"kind": "ema", "target": "labeled"}},
    "flexmatch": {"threshold": 0.5},
    "freematch": {"quantile": 0.8, "fairness": 0.5, "momentum": 0.5},
    "unimatch_v2": {"class_quantile": 0.5, "debias": 0.4, "alignment": {"progressive": 0.5}},
    "softmatch": {"momentum": 0.5},
    "simmatch": {"threshold": 0.5},
    "dash": {"warmup": 1, "initial": None},
    "remixmatch": {"class_balance": 0.5},
    "daso": {"threshold": 0.5, "bank": 2, "warmup": 0, "count_every": 2},
    "comatch": {"threshold": 0.5, "bank": 12, "graph_threshold": 0.1},
    "comatch ema": {"teacher": "ema", "threshold": 0.5, "bank": 10, "graph_threshold": 0.1},
}
"""Methods, each followed by what tells its cases apart, and their settings."""


def method_states(name: str, rank: int, world: int) -> dict[str, Tensor]:
    """After three steps: what the rule or bank remembers, and the gradient averaged over the processes."""
    cls: type[Method] = METHODS.get(name.split()[0])
    run_info, config = tiny.run_info(), cls.Config(**CASES[name])
    method = cls(tiny.network(pixels=False), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, cls.requirements(config), pixels=False)
    size = 4 // world
    part = slice(size * rank, size * rank + size)
    labeled, unlabeled = take(labeled, part), take(unlabeled, part)
    labeled = replace(labeled, denominator=denominators(labeled.valid, 2, "total"))
    for step in range(3):
        method.zero_grad()
        method(labeled, unlabeled, method.pseudo_labels(unlabeled, step)).loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in method.student.parameters() if p.grad is not None])
    states = {key: value for key, value in method.state_dict().items() if key.startswith(("rule", "bank", "past"))}
    return {**states, "gradient": summed(gradient, world) / world}


def fairness_loss(rank: int, world: int) -> dict[str, Tensor]:
    """FreeMatch's fairness loss of a share of eight predictions, and its gradient averaged over the processes."""
    scale = torch.ones(3, requires_grad=True)
    logits = 2 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    part = slice(8 // world * rank, 8 // world * (rank + 1))
    none = torch.zeros(8 // world)
    target = Target(none.long(), weights[part], weights[part] > 0, none)
    value = fairness((logits * scale)[part], target, torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.4, 0.2]))
    value.backward()  # type: ignore[no-untyped-call]
    assert scale.grad is not None
    gradient = summed(scale.grad, world) / world
    assert gradient.abs().max() > 1e-3, gradient
    return {"loss": value.detach(), "gradient": gradient}


def summed(value: Tensor, world: int) -> Tensor:
    if world > 1:
        dist.all_reduce(value)
    return value


def main() -> None:
    torch.set_num_threads(1)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if world > 1:
        dist.init_process_group("gloo")
    found = {name: method_states(name, rank, world) for name in CASES}
    found["fairness"] = fairness_loss(rank, world)
    torch.save(found, Path(sys.argv[1]) / f"{rank}.pt")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
