"""A batch that made a run stop, kept for inspection."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from semikit.core.batch import Labeled, Unlabeled
from semikit.core.processes import process_count, process_rank
from semikit.core.task import Task
from semikit.errors import RunError
from semikit.training.checkpoint import write_atomically


def non_finite(task: Task, step: int, skipped: int, allowed: int, folder: Path, device: torch.device) -> RunError:
    """Rebuild the batch of the first step that was not finite and keep it for inspection; the error to raise."""
    raw = next(iter(task.batches(range(step, step + 1), 0, False)))
    part = f"-process-{process_rank()}" if process_count() > 1 else ""
    path = folder / f"nonfinite-iteration-{step}{part}.safetensors"
    keep_batch(path, *task.views(raw, step, device))
    return RunError(
        f"loss or gradient was not finite at iteration {step} ({skipped} skipped, train.max_skipped={allowed}). Its "
        f"batch was rebuilt into {path}. Lower the learning rate, use fp32 or bf16, or allow a few skipped steps with "
        "train.max_skipped=N."
    )


def keep_batch(path: Path, labeled: Labeled, unlabeled: Unlabeled | None) -> None:
    """Write the images, labels and valid masks of a step, as the network saw them, to a safetensors file.

    Raises:
        RunError: when the disk is full.
    """
    tensors: dict[str, Tensor] = {
        "labeled_images": labeled.images,
        "labeled_index": labeled.index,
        "labeled_valid": labeled.valid,
        "labels": labeled.labels,
    }
    if unlabeled is not None:
        tensors |= {"weak": unlabeled.weak, "unlabeled_index": unlabeled.index, "unlabeled_valid": unlabeled.valid}
        tensors |= {f"strong_{i}": view for i, view in enumerate(unlabeled.strong, 1)}
    if unlabeled is not None and unlabeled.second is not None:
        tensors["second"] = unlabeled.second.images
    write_atomically(path, lambda temporary: save_file({k: v.contiguous() for k, v in tensors.items()}, temporary))
