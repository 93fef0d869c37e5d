"""A batch that made a run stop, kept for inspection."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from semikit.core.batch import Labeled, Unlabeled
from semikit.training.checkpoint import write_atomically


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
