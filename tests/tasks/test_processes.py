"""Several processes evaluate what one does: every image once."""

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
from torch import nn
from semikit.core.task import Inference
from semikit.data.synthetic.shapes import CLASS_NAMES, ShapesSettings, ShapesSource
from semikit.inference.evaluation import PixelEvaluation
from semikit.inference.windows import EvaluateSettings
from semikit.data.palette import palette
from semikit.tasks.seg import Segmentation
from contextlib import nullcontext

rank, world, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
if world > 1:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
torch.manual_seed(0)
network = nn.Conv2d(3, len(CLASS_NAMES), 3, padding=1)
network.mean, network.std, network.multiple, network.num_classes = (0.5,) * 3, (0.25,) * 3, 1, len(CLASS_NAMES)
source = ShapesSource(ShapesSettings(size=32, train=1, val=5, test=1), "val")
settings, colours = EvaluateSettings(batch=2), palette(len(CLASS_NAMES))
evaluation = PixelEvaluation(CLASS_NAMES, settings, 32, colours, Segmentation.metrics)
scores = evaluation.scores({"it": network}, source, Inference(torch.device("cpu"), nullcontext))["it"]
(out / f"{rank}.json").write_text(json.dumps([scores.value, scores.per_class, scores.extra, scores.class_scores]))
if world > 1:
    dist.destroy_process_group()
"""


def scores(world: int, folder: Path) -> list[object]:
    folder.mkdir()
    run_together([sys.executable, "-c", PROGRAM], world, folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.mark.timeout(200)
def test_two_processes_and_five_images(tmp_path: Path) -> None:
    (alone,) = scores(1, tmp_path / "one")
    first, second = scores(2, tmp_path / "two")
    assert first == second == alone
