"""What passes between a task and a method.

Shapes, here and in all of core:
    B   images of one kind in the batch (labelled or unlabelled)
    C   channels (for two dates (2, C)), K classes, D channels of a feature level, V strong views
    *S  position axes: () for image classification, (H, W) for segmentation and change detection
Images are normalised floats (B, C, H, W); logits (B, K, *S); labels (B, *S) int64; valid (B, *S) bool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Literal, TypeVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

Normalise = Literal["total", "process"]


@final
@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a method may know of the run.

    `group` is the number of consecutive images of a step that were one process's batch in the published recipe (CutMix
    partners, undropped half of the batch, OHEM); `seed` is the run's. `class_weights` (K,) multiply the supervised loss
    of each class; None: all count the same.
    """

    num_classes: int
    num_labeled: int
    num_unlabeled: int | None
    steps_per_epoch: int
    iterations: int
    group: int
    seed: int = 0
    normalise: Normalise = "total"
    class_weights: tuple[float, ...] | None = None


@final
@dataclass(frozen=True, slots=True)
class Requirements:
    """What a method asks of a task: strong views per unlabelled image, whether it learns from unlabelled images at
    all, whether it mixes with a second, independently drawn weak batch (UniMatch V1), and whether it can only learn
    classes of whole images, for it remembers something of every image (FlexMatch, SimMatch).
    """

    strong_views: int = 2
    unlabeled: bool = True
    partner_batch: bool = False
    whole_images: bool = False
    every_image: bool = False
    """Whether it keeps something of every unlabelled image, so that they have to be numbered (FlexMatch)."""


@final
@dataclass(frozen=True, slots=True)
class Labeled:
    """Labelled images: images (B, C, H, W), labels (B, *S) int64 (0 where invalid), valid (B, *S) bool, index (B,)
    int64 into the labelled list, denominator (B,) float: what each image's summed loss is divided by.
    """

    images: Tensor
    labels: Tensor
    valid: Tensor
    index: Tensor
    denominator: Tensor


@final
@dataclass(frozen=True, slots=True)
class WeakViews:
    """Weak views of a second unlabelled batch: images (B, C, H, W), valid (B, *S) bool."""

    images: Tensor
    valid: Tensor


@final
@dataclass(frozen=True, slots=True)
class Unlabeled:
    """Unlabelled images and their views.

    weak (B, C, H, W), never mixed; strong: V tensors (B, C, H, W), already mixed; valid (B, *S) bool, before mixing;
    boxes: V tensors (B, *S) bool, true where the partner was pasted (empty where the task does not mix);
    partner (B,) int64: which image was pasted, counted over this batch or, where there is one, over `partner_batch`;
    index (B,) int64 into the unlabelled list; positions: where these images stand in the total batch of the step, over
    all processes; truth (B, *S) int64, -1 unknown: the classes where they are known, which only the logs may look
    at. Where `cross_rank` partners lie in other processes too, and `partner` is counted over the total batch.
    """

    weak: Tensor
    strong: tuple[Tensor, ...]
    valid: Tensor
    boxes: tuple[Tensor, ...]
    partner: Tensor
    index: Tensor
    positions: range
    partner_batch: WeakViews | None = None
    truth: Tensor | None = None
    cross_rank: bool = False


@final
@dataclass(frozen=True, slots=True)
class Prediction:
    """labels (B, *S) int64, confidence (B, *S) in 0..1 and, where somebody needs them, probabilities (B, K, *S)."""

    labels: Tensor
    confidence: Tensor
    probabilities: Tensor | None = None


@final
@dataclass(frozen=True, slots=True)
class Target:
    """What a view shall learn: labels (B, *S) int64, weights (B, *S), bool or in 0..1, how much each position counts (0
    where invalid), valid (B, *S) bool, denominator (B,) float (count of valid positions).

    probabilities (B, K, *S): soft labels (None: `labels` are learned); class_weights (B, *S): what balances the classes
    in the loss, but not in the logs; truth (B, *S): as in `Unlabeled`.
    """

    labels: Tensor
    weights: Tensor
    valid: Tensor
    denominator: Tensor
    probabilities: Tensor | None = None
    class_weights: Tensor | None = None
    truth: Tensor | None = None


@final
@dataclass(frozen=True, slots=True)
class Pseudo:
    """What a step learns of its unlabelled images: the target of the weak view (unmixed, for the logs), one for each
    strong view, mixed as the images were, and the draws of the step: `masks[v][l]` is the channel mask (B, D_l) of view
    v on level l (empty: no dropout).

    Where the student labels inside its own pass, `weak` is None and `views` are empty until then. `partners` is the
    target of the partner batch, where the strong views were mixed with one that is labelled beforehand.
    """

    weak: Target | None = None
    views: tuple[Target, ...] = ()
    masks: tuple[tuple[Tensor, ...], ...] = ()
    partners: Target | None = None


@final
@dataclass(frozen=True, slots=True)
class StepResult:
    """loss (), differentiable, and detached logs, scalars () or one number for each class (K,), that add up over
    micro-batches; everything stays on the device.
    """

    loss: Tensor
    logs: Mapping[str, Tensor]


T = TypeVar("T")


def share_of(length: int, i: int, parts: int) -> slice:
    """The i-th of `parts` consecutive shares of `length` items, as many as of another, give or take one."""
    return slice(length * i // parts, length * (i + 1) // parts)


def take(batch: T, part: slice) -> T:
    """The images `part` (along B) of any of the structures above: how a batch is cut into micro-batches.

    So are targets, masks and boxes; denominators were counted over the whole batch before and stay as they are.
    `partner` keeps its whole-batch meaning: mixing is over by then.
    """
    if isinstance(batch, Tensor):
        return batch[part]  # type: ignore[return-value]
    if isinstance(batch, range):
        return batch[part]  # type: ignore[return-value]
    if isinstance(batch, tuple):
        return tuple(take(item, part) for item in batch)  # type: ignore[return-value]
    if is_dataclass(batch) and not isinstance(batch, type):
        changes = {field.name: take(getattr(batch, field.name), part) for field in fields(batch)}
        return replace(batch, **changes)
    assert batch is None or isinstance(batch, bool), type(batch)
    return batch


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on `device`; the host does not wait for the copy.

    To an accelerator it goes through page-locked memory: from pageable memory larger copies wait in the driver.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu" and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


_ALIGNED = 8
"""Bytes: where a number of any type may begin."""


def to_device_together(tensors: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """Small tensors of the host on `device`, in one copy through page-locked memory: each costs the host more than its
    bytes do. The host does not wait.
    """
    if torch.device(device).type == "cpu":
        return list(tensors)
    parts = [tensor.flatten().view(torch.uint8) for tensor in tensors]
    sizes = [len(part) + -len(part) % _ALIGNED for part in parts]
    packed = torch.cat([F.pad(part, (0, size - len(part))) for part, size in zip(parts, sizes, strict=True)])
    there = torch.split(to_device(packed, device), sizes)
    return [
        bytes_[: len(part)].view(tensor.dtype).view(tensor.shape)
        for bytes_, part, tensor in zip(there, parts, tensors, strict=True)
    ]
