"""What sharing a step costs: processor time, and bytes over the loopback, of 1, 2 and 4 processes of one machine.

    unshare --net sh -c "ip link set lo up; OMP_NUM_THREADS=1 python -m benchmarks.process_costs"

All processes make the same step (UniMatch V2, built-in images) over gloo. In a network namespace of its own nobody
else's bytes are counted. Prints a line of JSON a case.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

from semikit.distributed.groups import agreed, everywhere, joined
from semikit.run import build
from semikit.run.compose import asked
from semikit.run.config import resolve
from semikit.run.recipes import merge, parse_overrides, read_recipe
from semikit.training.reporter import Reporter

WARMUP = 1


def loopback_bytes() -> int:
    """Bytes sent over the loopback so far, headers included."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split()[9])


def measure(raw: dict[str, Any], steps: int) -> dict[str, Any]:
    """A step in the mean: seconds of wall and of processor time over all processes, bytes sent by each."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = build.build_run(resolve(raw), Path(folder), Reporter()).trainer
    trainer.method.train()
    batches = iter(trainer.task.batches(range(WARMUP + steps), 0, False))
    for step in range(WARMUP + steps):
        if step == WARMUP:
            agreed(0)  # nobody's warm-up is counted
            sent, wall, own = loopback_bytes(), perf_counter(), process_time()
        trainer.stepper(*trainer.task.views(next(batches), step, torch.device("cpu")), step)
    own, wall = process_time() - own, perf_counter() - wall
    agreed(0)
    sent, owns = loopback_bytes() - sent, everywhere([own])
    return {
        "wall_s": wall / steps,
        "cpu_s": sum(owns) / steps,
        "megabytes_sent_by_each": sent / steps / len(owns) / 1e6,
        "parameters": sum(p.numel() for p in trainer.stepper.parameters if p.requires_grad),
    }


def run(raw: dict[str, Any], count: int, steps: int, port: int) -> None:
    """The case in so many forked processes."""
    children = []
    for rank in range(count):
        if child := os.fork():
            children.append(child)
            continue
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
        os.environ |= {"WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
        torch.set_num_threads(1)
        with joined("cpu"):
            found = measure(raw, steps)
            if rank == 0:
                print(json.dumps({"processes": count, "reduce_dtype": raw["train"]["reduce_dtype"], **found}))
        sys.stdout.flush()
        os._exit(0)
    codes = [os.waitpid(child, 0)[1] for child in children]
    assert not any(codes), codes


def main() -> None:
    """All cases."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--encoder", default="dinov2-small")
    options.add_argument("--crop", type=int, default=98)
    options.add_argument("--steps", type=int, default=4)
    options.add_argument("--processes", default="1,2,4")
    options.add_argument("settings", nargs="*", help="section.key=value, as of semikit train")
    chosen = options.parse_args()
    settings = parse_overrides(chosen.settings)
    raw, _ = asked("seg", encoder=chosen.encoder, crop=chosen.crop, batch=4, device="cpu", settings=settings)
    data = read_recipe("datasets", "shapes", "seg")["data"]
    for number, count in enumerate(map(int, chosen.processes.split(","))):
        for kind in ("fp32", "bf16") if count > 1 else ("fp32",):
            train = {"group": 4, "reduce_dtype": kind}
            made = merge(raw, {"name": "shapes", "data": data, "model": {"weights": "none"}, "train": train})
            run(made, count, chosen.steps, 29500 + 2 * number + (kind == "bf16"))


if __name__ == "__main__":
    main()
