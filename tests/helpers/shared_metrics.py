"""What one of several processes scores, when images are shared and when the first has them all: a program.

`python -m tests.helpers.shared_metrics OUT`, with the environment of torchrun; writes both to OUT/RANK.json.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from semikit.metrics.classification import classification_metrics
from semikit.metrics.scoring import scored, scores_of

CPU = torch.device("cpu")
PARTS = [slice(0, 12), slice(12, 20)]


def main() -> None:
    warnings.simplefilter("error", UserWarning)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if world > 1:
        dist.init_process_group("gloo")
    images = torch.randn(2, 20, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(6, (20,), generator=torch.Generator().manual_seed(1))

    def outputs(sign: Any, part: slice) -> Iterator[dict[str, torch.Tensor]]:
        logits = sign * images[0, part]
        confidence, predicted = logits.softmax(1).max(1)
        valid = torch.ones_like(predicted, dtype=torch.bool)
        found = {"confidence": confidence, "predicted": predicted, "labels": labels[part], "valid": valid}
        yield {"logits": logits, **found}

    lines = []
    for own in (PARTS[rank::world], PARTS if rank == 0 else []):
        networks: dict[str, Any] = {"one": 1, "other": -1}
        found = scored(networks, lambda: classification_metrics(6, 15, CPU), CPU, own, outputs)
        lines.append(json.dumps({name: scores_of(metrics, "abcdef").plain() for name, metrics in found.items()}))
    (Path(sys.argv[1]) / f"{rank}.json").write_text("\n".join(lines))
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
