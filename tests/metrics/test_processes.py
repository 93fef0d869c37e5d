"""Two processes have the sums of both, also where one of them had nothing to score."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import run_together

PROGRAM = """
import json, sys
from pathlib import Path
import torch
import torch.distributed as dist
from semikit.metrics.classification import classification_metrics
from semikit.metrics.scoring import scored, scores_of

rank, world, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
if world > 1:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
images = torch.randn(2, 20, 6, generator=torch.Generator().manual_seed(0))
labels = torch.randint(6, (20,), generator=torch.Generator().manual_seed(1))

def outputs(network, part):
    confidence, predicted = (network * images[0, part]).softmax(1).max(1)
    yield {"logits": network * images[0, part], "confidence": confidence, "predicted": predicted,
           "labels": labels[part], "valid": torch.ones_like(predicted, dtype=torch.bool)}

cpu = torch.device("cpu")
parts = [slice(0, 12), slice(12, 20)]
for own in (parts[rank::world], parts if rank == 0 else []):
    found = scored({"one": 1, "other": -1}, lambda: classification_metrics(6, 15, cpu), cpu, own, outputs)
    values = {name: scores_of(metrics, "abcdef").plain() for name, metrics in found.items()}
    with (out / f"{rank}.json").open("a") as file:
        file.write(json.dumps(values) + "\\n")
if world > 1:
    dist.destroy_process_group()
"""


@pytest.mark.timeout(200)
def test_two_processes_score_what_one_does(tmp_path: Path) -> None:
    for world in (1, 2):
        (tmp_path / str(world)).mkdir()
        run_together([sys.executable, "-W", "error::UserWarning", "-c", PROGRAM], world, tmp_path / str(world))
    lines = [line for path in sorted(tmp_path.glob("*/*.json")) for line in path.read_text().splitlines()]
    assert len(lines) == 6
    first, *others = map(json.loads, lines)
    assert first["one"] != first["other"]
    for other in others:
        assert other["one"]["top-5"] == first["one"]["top-5"]
        assert other["one"]["ECE"] == pytest.approx(first["one"]["ECE"], rel=1e-12)
        for name in ("one", "other"):
            assert other[name]["class_scores"] == first[name]["class_scores"]
