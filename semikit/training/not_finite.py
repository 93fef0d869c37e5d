"""What a run leaves and says that stops because losses or gradients were not finite."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from semikit.core.batch import Labeled, Unlabeled
from semikit.core.task import Task
from semikit.distributed.collectives import process_count, process_rank
from semikit.errors import RunError
from semikit.files import shell_word, write_atomically
from semikit.training.checkpoint import LAST, PREVIOUS, write_tensors
from semikit.training.settings import OptimizerSettings, TrainSettings


def rebuilt(task: Task, step: int, folder: Path, device: torch.device) -> Path:
    """Rebuild the batch of a step, in each process its share, and keep it for inspection; where it lies."""
    raw = next(iter(task.batches(range(step, step + 1), 0, False)))
    part = f"-process-{process_rank()}" if process_count() > 1 else ""
    path = folder / f"nonfinite-iteration-{step}{part}.safetensors"
    keep_batch(path, *task.views(raw, step, device))
    return path


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
    if unlabeled is not None and unlabeled.partner_batch is not None:
        tensors["second"] = unlabeled.partner_batch.images
    write_atomically(path, lambda temporary: write_tensors({k: v.contiguous() for k, v in tensors.items()}, temporary))


def not_finite(
    iteration: int, skipped: int, train: TrainSettings, optimizer: OptimizerSettings, batch_file: Path
) -> RunError:
    """What stops a run after more than the allowed steps were not finite; a resumed run may change all that it names.

    `iteration` is the first of them, whose batch lies at `batch_file` in the run folder.
    """
    folder = batch_file.parent
    saved = any((folder / "weights" / name).is_file() for name in (LAST, PREVIOUS))
    begin = (
        f"Go on from the checkpoint before with --resume {shell_word(folder)} and"
        if saved
        else "Nothing is saved: begin with"
    )
    rates = f"optimizer.lr={optimizer.lr / 10:g}"
    if optimizer.encoder_lr is not None:
        rates += f" optimizer.encoder_lr={optimizer.encoder_lr / 10:g}"
    return RunError(
        f"loss or gradient was not finite at iteration {iteration} ({skipped} skipped, train.max_skipped="
        f"{train.max_skipped}). Its batch was rebuilt into {batch_file}. {begin} a lower learning rate ({rates}), with "
        "--precision bf16 or fp32 instead of fp16, or, where only few steps are bad, with more of them allowed "
        f"(train.max_skipped={10 * skipped})."
    )
