"""What passes between a task and a method.

Shapes, here and in all of core:
    B   images of one kind in the batch (labelled or unlabelled)
    C   channels (for two dates (2, C)), K classes, D channels of a feature level, V strong views
    *S  position axes: () for image classification, (H, W) for segmentation and change detection
Images are normalised floats (B, C, H, W); logits (B, K, *S); labels (B, *S) int64; valid (B, *S) bool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import accumulate
from typing import Any, Literal, TypeVar, final

import torch
from torch import Tensor

Normalise = Literal["total", "process"]


@final
@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a method may know of the run.

    `group` is the number of consecutive images of a step that were one process's batch in the published recipe (CutMix
    partners, undropped half of the batch, OHEM); `seed` is the run's. `class_weights` (K,) multiply the supervised loss
    of each class; None: all count the same. `side` is that of the crops, pixels; 0 where nobody says.
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
    side: int = 0


@final
@dataclass(frozen=True, slots=True)
class Requirements:
    """What a method asks of a task: strong views per unlabelled image, whether it learns from unlabelled images at
    all, whether it mixes with a second, independently drawn weak batch (UniMatch V1), and whether it can only learn
    classes of whole images, for it remembers features of every labelled one (SimMatch).
    """

    strong_views: int = 2
    unlabeled: bool = True
    partner_batch: bool = False
    whole_images: bool = False
    every_image: bool = False
    """Whether it keeps the class of every unlabelled image, where images have one, so that they have to be numbered
    (FlexMatch)."""
    pixels: bool = False
    """Whether it can only learn classes of pixels, for it mixes or compares parts of images (CutMix-Seg, CorrMatch)."""
    students: int = 1
    """Networks that are trained, each with a beginning of its own (CPS)."""
    own_mixing: bool = False
    """Whether it mixes strong views itself, by what is predicted of them, so that tasks do not (AugSeg, iMAS)."""
    channel_attention: bool = False
    """Whether the channels of the network's last level have to attend before the decoder (AllSpark)."""
    held_out: float = 0.0
    """Share of the labelled images (0..1) that are learned from neither with their labels nor without: pseudo-labels
    are measured on them (`method.threshold: auto`). 0: none."""


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
    in the loss, but not in the logs; truth (B, *S): as in `Unlabeled`; margin (B, K): what is added to the logits.
    """

    labels: Tensor
    weights: Tensor
    valid: Tensor
    denominator: Tensor
    probabilities: Tensor | None = None
    class_weights: Tensor | None = None
    truth: Tensor | None = None
    margin: Tensor | None = None


@final
@dataclass(frozen=True, slots=True)
class Pseudo:
    """What a step learns of its unlabelled images: the target of the weak view (unmixed, for the logs), one for each
    strong view, mixed as the images were, and the draws of the step: `masks[v][l]` is the channel mask (B, D_l) of view
    v on level l (empty: no dropout).

    Where the student labels inside its own pass, `weak` is None and `views` are empty until then. `partners` is the
    target of the partner batch, where the strong views were mixed with one that is labelled beforehand. `draws` are
    random numbers of the method's own, (B, ...) each, or of any shape where it needs the full batch; `images` are the
    strong views, where it makes them itself out of those of the task. `logits` (B, K, h, w) are those of the weak views
    at the resolution of features that they are compared with.
    """

    weak: Target | None = None
    views: tuple[Target, ...] = ()
    masks: tuple[tuple[Tensor, ...], ...] = ()
    partners: Target | None = None
    logits: Tensor | None = None
    draws: tuple[Tensor, ...] = ()
    images: tuple[Tensor, ...] = ()


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


def mapped(action: Callable[[Any], Any], value: T, kinds: type | tuple[type, ...] = Tensor) -> T:
    """The same structure of dataclasses, mappings, tuples and lists with `action` on all of `kinds`; the rest stays."""
    if isinstance(value, kinds):
        return action(value)  # type: ignore[no-any-return]
    if isinstance(value, tuple | list):
        return type(value)(mapped(action, item, kinds) for item in value)
    if isinstance(value, Mapping):
        return {key: mapped(action, item, kinds) for key, item in value.items()}  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: mapped(action, getattr(value, f.name), kinds) for f in fields(value)})
    return value


def take(batch: T, part: slice | Tensor) -> T:
    """The images `part` (along B) of any of the structures above, or of draws: how a batch is cut into micro-batches.

    So are targets, masks and boxes; denominators were counted over the whole batch before and stay as they are.
    `partner` keeps its whole-batch meaning: mixing is over by then.
    """
    return mapped(lambda item: item[part], batch, (Tensor, range))


_ALIGNED = 8
"""Bytes: where a number of any type may begin."""


def packed(value: T, pin: bool = True) -> T:
    """The same structure with its tensors, all of the host, one behind the other in one buffer, so that `to_device`
    takes one copy. `pin`: in page-locked memory; what is in such memory already stays there.
    """
    loose: dict[int, Tensor] = {}

    def noted(tensor: Tensor) -> None:
        assert tensor.device.type == "cpu", tensor.device
        if not tensor.is_pinned():
            loose[id(tensor)] = tensor

    mapped(noted, value)
    ends = [0, *accumulate(tensor.nbytes + -tensor.nbytes % _ALIGNED for tensor in loose.values())]
    buffer = torch.empty(ends[-1], dtype=torch.uint8, pin_memory=pin)
    places = {
        key: _read(buffer, begin, tensor).copy_(tensor)
        for (key, tensor), begin in zip(loose.items(), ends[:-1], strict=True)
    }
    return mapped(lambda tensor: places.get(id(tensor), tensor), value)


def to_device(value: T, device: torch.device | str) -> T:
    """Tensors of the host, also in a structure, on `device`, in one copy for each buffer they lie in (see `packed`) and
    one for all others: a copy costs the host more than its bytes do. The host does not wait.

    To CUDA they go through page-locked memory: from pageable memory larger copies wait in the driver. To a CPU nothing
    is copied.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return value
    there: dict[int, Tensor] = {}

    def arrived(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in there:
            buffer = tensor.flatten().view(torch.uint8).as_strided((storage.nbytes(),), (1,), 0)
            there[storage._cdata] = buffer.to(device, non_blocking=True)
        return _read(there[storage._cdata], int(tensor.storage_offset()) * tensor.element_size(), tensor)

    return mapped(arrived, packed(value, pin=kind == "cuda"))


def _read(buffer: Tensor, begin: int, like: Tensor) -> Tensor:
    """What lies in a buffer of bytes from `begin` on, of the type and shape of a tensor."""
    return buffer[begin : begin + like.nbytes].view(like.dtype).view(like.shape)
