"""What a finished run leaves: results.json."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from semikit import __version__
from semikit.core.task import Final
from semikit.distributed.collectives import process_count
from semikit.distributed.groups import GO, agreed
from semikit.files import file_digest
from semikit.run import build
from semikit.run import load as trained
from semikit.run.teacher import own_rounds
from semikit.training.checkpoint import BEST
from semikit.training.device import attention_backends, describe_device

_APART = {"per_class", "class_scores", "protocol"}
"""What `trainer.best` holds that results.json has beside "best"."""


def results_of(run: build.Run) -> dict[str, Any]:
    """What results.json holds; with the strict protocol the test split is read here, once, by the best network."""
    trainer, task, config = run.trainer, run.task, run.config
    agreed(GO)  # the first process has written the best weights, which all read now
    results: dict[str, Any] = {
        "task": config.task,
        "dataset": config.name,
        "method": config.method_name,
        "metric": next(iter(trainer.latest.values())).metric,
        "best": {key: value for key, value in trainer.best.items() if key not in _APART},
        **{name: scores.plain() for name, scores in trainer.latest.items()},
        "per_class": trainer.best["per_class"],
        "class_scores": trainer.best.get("class_scores", {}),  # checkpoints of before have none
        "checkpoint": weights_file(run.folder),
        "protocol": config.train.protocol,
        "evaluation": config.evaluate.model_dump(mode="json"),
        "iterations": trainer.step,
        "bad_files": dict(trainer.bad_files.found),
        "unused_files": list(task.unused),
        "notices": trainer.guards.ended(trainer.step),
        "actions": [asdict(action) for action in trainer.guards.done()],
        **({"reliability": trainer.gate.last.plain()} if trainer.gate.last else {}),
        "seconds": round(trainer.seconds, 1),
        "first_batch_seconds": trainer.meter.first_batch,
        "images_per_second": round(trainer.images(trainer.step) / max(trainer.seconds, 1e-9), 2),
        "semikit": __version__,
        "torch": torch.__version__,
        "device": describe_device(run.device),
        "precision": config.train.precision,
        "compile": config.train.compile,
        "attention": list(attention_backends(run.device, config.train.precision)),
        "processes": process_count(),
        "micro_batches": config.train.micro_batches,
    }
    if before := own_rounds(config, run.folder):
        results["rounds"] = before
    if trainer.snapshot.get("changed"):
        results["changed"] = trainer.snapshot["changed"]
    if task.counts.test and config.train.protocol == "strict":
        network, _ = trained.load_network(run.folder)
        best = {"best": network.to(run.device)}
        threshold = trainer.best.get("threshold")
        results["test"] = task.evaluate(best, "test", trainer.inference, Final(threshold))["best"].plain()
    return results


def weights_file(path: Path) -> dict[str, str]:
    """The weights that a number is of, in a run folder or a file, and their SHA-256."""
    file = path / "weights" / BEST if path.is_dir() else path
    return {"path": str(file), "sha256": file_digest(file)}
