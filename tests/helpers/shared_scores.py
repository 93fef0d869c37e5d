"""What one of several processes of an evaluation finds: a program.

`python -m tests.helpers.shared_scores OUT`, with the environment of torchrun; writes OUT/RANK.json.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from semikit.core.task import Inference
from semikit.data.palette import palette
from semikit.data.synthetic.shapes import CLASS_NAMES, ShapesSettings, ShapesSource
from semikit.inference.evaluation import PixelEvaluation
from semikit.inference.windows import EvaluateSettings
from semikit.metrics.segmentation import segmentation_metrics


def _metrics(num_classes: int, settings: EvaluateSettings) -> Any:
    return segmentation_metrics(num_classes, settings.average)


def main() -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if world > 1:
        dist.init_process_group("gloo")
    torch.manual_seed(0)
    network: Any = nn.Conv2d(3, len(CLASS_NAMES), 3, padding=1)
    network.mean, network.std, network.multiple, network.num_classes = (0.5,) * 3, (0.25,) * 3, 1, len(CLASS_NAMES)
    source = ShapesSource(ShapesSettings(size=32, train=1, val=5, test=1), "val")
    settings, colours = EvaluateSettings(batch=2), palette(len(CLASS_NAMES))
    evaluation = PixelEvaluation(CLASS_NAMES, settings, 32, colours, _metrics)
    scores = evaluation.scores({"it": network}, source, Inference(torch.device("cpu"), nullcontext))["it"]
    found = [scores.value, scores.per_class, scores.extra, scores.class_scores]
    (Path(sys.argv[1]) / f"{rank}.json").write_text(json.dumps(found))
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
