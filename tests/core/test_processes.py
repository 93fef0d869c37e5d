"""Two processes that share a step remember what one does, and learn what one does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.processes import run_together

CASES = {
    "fixmatch": {"forward": "joint", "teacher": "student", "alignment": {"kind": "ema", "target": "labeled"}},
    "flexmatch": {"threshold": 0.5},
    "freematch": {"quantile": 0.8, "fairness": 0.5, "momentum": 0.5},
    "softmatch": {"momentum": 0.5},
    "simmatch": {"threshold": 0.5},
}
PROGRAM = f"""
import sys
from dataclasses import replace
import torch
import torch.distributed as dist
from semikit.core.batch import Target, take
from semikit.core.losses import denominators
from semikit.methods.freematch import fairness
from semikit.registry import METHODS
from tests.helpers import tiny

rank, world, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
if world > 1:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{{port}}", rank=rank, world_size=world)
found = {{}}
for name, settings in {CASES!r}.items():
    cls, run_info = METHODS.get(name), tiny.run_info()
    config = cls.Config(**settings)
    method = cls(tiny.network(pixels=False), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, cls.requirements(config), pixels=False)
    size = 4 // world
    part = slice(size * rank, size * rank + size)
    labeled, unlabeled = take(labeled, part), take(unlabeled, part)
    labeled = replace(labeled, denominator=denominators(labeled.valid, 2, "total"))
    for step in range(3):
        method.zero_grad()
        method(labeled, unlabeled, method.pseudo_labels(unlabeled, step)).loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in method.student.parameters()])
    if world > 1:
        dist.all_reduce(gradient)
    states = {{key: value for key, value in method.state_dict().items() if key.startswith(("rule", "bank"))}}
    found[name] = {{**states, "gradient": gradient / world}}
scale = torch.ones(3, requires_grad=True)
logits = 2 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
weights = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
part = slice(8 // world * rank, 8 // world * (rank + 1))
none = torch.zeros(8 // world)
target = Target(none.long(), weights[part], weights[part] > 0, none)
value = fairness((logits * scale)[part], target, torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.4, 0.2]))
value.backward()
if world > 1:
    dist.all_reduce(scale.grad)
found["fairness"] = {{"loss": value.detach(), "gradient": scale.grad / world}}
assert scale.grad.abs().max() > 1e-2, scale.grad
torch.save(found, f"{{out}}/{{rank}}.pt")
if world > 1:
    dist.destroy_process_group()
"""
WITH_A_ROW_NOBODY_READS = ("selected", "bank.rows", "bank.labels", "bank.seen")


def run(world: int, folder: Path) -> list[dict[str, dict[str, torch.Tensor]]]:
    folder.mkdir()
    run_together([sys.executable, "-c", PROGRAM], world, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


@pytest.mark.timeout(200)
def test_states_and_gradients_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    (alone,) = run(1, tmp_path / "one")
    for shared in run(2, tmp_path / "two"):
        for name, states in alone.items():
            assert len(states) > 1, "a gradient, and what the method remembers or the loss"
            for key, value in states.items():
                rows = slice(0, -1) if key.endswith(WITH_A_ROW_NOBODY_READS) else slice(None)
                actual, expected = (x if x.dim() == 0 else x[rows] for x in (shared[name][key], value))
                torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}")
