"""Five steps of SGD in several processes of one machine: a program, for a process of one thread.

`python -m tests.helpers.shared_steps OUT CASES.json` forks as many processes as each case says and writes what the
first of them ends with to OUT/NUMBER.pt.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from semikit.distributed.collectives import mean_over_processes
from semikit.distributed.groups import joined
from semikit.run import build
from semikit.run.config import resolve
from semikit.training.reporter import Reporter
from tests.helpers import shortcuts
from tests.helpers.processes import free_port

STEPS = 5


def train(raw: dict[str, Any], path: Path, rank: int) -> None:
    """Loss and gradients of the first step, and the weights after the last."""
    trainer = build.build_run(resolve(raw), path.parent, Reporter()).trainer
    trainer.method.train()
    batches = iter(trainer.task.batches(range(STEPS), 0, False))
    found: dict[str, Any] = {"losses": []}
    for step in range(STEPS):
        labeled, unlabeled = trainer.task.views(next(batches), step, torch.device("cpu"))
        logs = trainer.stepper(labeled, unlabeled, step)
        found["losses"].append({name: mean_over_processes(value) for name, value in logs.items()})
        if not step:
            found["gradients"] = [p.grad.clone() for p in trainer.method.student.parameters() if p.grad is not None]
    found["skipped"] = int(trainer.stepper.skipped)
    found["weights"] = {name: value.clone() for name, value in trainer.method.state_dict().items()}
    if rank == 0:
        torch.save(found, path)


def train_together(raw: dict[str, Any], path: Path, count: int) -> None:
    """In so many processes; what this one has imported and compiled already they need not do again."""
    port, children = free_port(), []
    for rank in range(count):
        child = os.fork()
        if child:
            children.append(child)
            continue
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
        os.environ |= {"WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
        with joined("cpu"):
            train(raw, path, rank)
        os._exit(0)
    codes = [os.waitpid(child, 0)[1] for child in children]
    assert not any(codes), (path, codes)


def main(out: Path, cases: list[dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    shortcuts.take()
    for number, case in enumerate(cases):
        path = out / f"{number}.pt"
        if case["processes"] == 1:
            train(case["raw"], path, 0)
        else:
            assert len(list(Path("/proc/self/task").iterdir())) == 1, "only a process of one thread may fork"
            train_together(case["raw"], path, case["processes"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
