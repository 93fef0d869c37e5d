"""The authors' released UniMatch V2 checkpoints, under semikit's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor

from semikit.errors import WeightsError
from semikit.models.settings import ModelSettings
from semikit.models.weights.file import plain_names, read_file, unpacked
from semikit.models.weights.pretrained import official_name

SIZES = {384: ("dinov2-small", 12), 768: ("dinov2-base", 12), 1024: ("dinov2-large", 24), 1536: ("dinov2-giant", 40)}
"""Width -> encoder and its depth."""

_UNUSED = ("backbone.mask_token", "head.scratch.refinenet4.resConfUnit1.")  # never part of a forward
_NAMES = (
    (re.compile(r"^head\.projects\.(\d)\."), r"decoder.projects.\1."),
    (re.compile(r"^head\.resize_layers\.(\d)\."), r"decoder.resize.\1."),
    (re.compile(r"^head\.scratch\.output_conv\.0\."), "decoder.output."),
    (re.compile(r"^head\.scratch\.output_conv\.2\."), "classifier."),
)
_LEVELS = (
    (re.compile(r"^head\.scratch\.layer(\d)_rn\."), "decoder.adapt.{}."),
    (re.compile(r"^head\.scratch\.refinenet(\d)\.resConfUnit(\d)\."), "decoder.fusions.{}.unit{}."),
    (re.compile(r"^head\.scratch\.refinenet(\d)\.out_conv\."), "decoder.fusions.{}.out_conv."),
)
_CLASSES = "head.scratch.output_conv.2.bias"
_TOKEN = "backbone.cls_token"


@final
@dataclass(frozen=True, slots=True)
class ReleasedCheckpoint:
    """A released checkpoint: states for `Segmenter.load_state_dict`, and what the file says of itself.

    In change detection the names are the same, and `siamese_state` makes them those of a `Siamese`. `teacher` is None
    where the file holds the student alone; `epoch` (from 0) and `previous_best` (the student's mIoU or, in change
    detection, its IoU of the changed class; percent) are None where it does not say.
    """

    student: dict[str, Tensor]
    teacher: dict[str, Tensor] | None
    encoder: str
    num_classes: int
    epoch: int | None
    previous_best: float | None

    @property
    def settings(self) -> ModelSettings:
        """The network the states belong to."""
        return ModelSettings(encoder=self.encoder, decoder="dpt", weights="none")


def load_released(path: Path) -> ReleasedCheckpoint:
    """Read a released checkpoint (S, B, L or g) without running code that lies in it.

    Raises:
        WeightsError: when the file cannot be read, or is none of these.
    """
    content = read_file(path)
    student = plain_names(unpacked(content.get("model", content), path))
    teacher = (
        plain_names(unpacked(content["model_ema"], path)) if isinstance(content.get("model_ema"), Mapping) else None
    )
    encoder = _size(student, path)
    return ReleasedCheckpoint(
        student=convert(student),
        teacher=None if teacher is None else convert(teacher),
        encoder=encoder,
        num_classes=len(student[_CLASSES]),
        epoch=_number(content, int, "epoch"),
        previous_best=_number(content, float, "previous_best", "previous_best_iou"),
    )


def is_released(names: Mapping[str, Any]) -> bool:
    """Whether these are the names of a released network."""
    return _TOKEN in names and _CLASSES in names


def convert(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released state under semikit's names, without the five tensors that no forward uses.

    Raises:
        WeightsError: for a name that is not one of the released networks'.
    """
    names = {name: our_name(name) for name in official}
    return {ours: official[name] for name, ours in names.items() if ours is not None}


def our_name(name: str) -> str | None:
    """The name of a released tensor in a `Segmenter` with DPT; None for those that no forward uses.

    Raises:
        WeightsError: for a name that is not one of the released networks'.
    """
    if name.startswith(_UNUSED):
        return None
    if name.startswith("backbone."):
        return f"encoder.{official_name(name)}"
    for pattern, ours in _NAMES:
        if pattern.match(name):
            return pattern.sub(ours, name)
    for pattern, ours in _LEVELS:
        found = pattern.match(name)
        if found:
            level, *unit = found.groups()
            return ours.format(int(level) - 1, *unit) + name[found.end() :]
    raise WeightsError(f"{name!r} is no tensor of a released UniMatch V2 network (DINOv2 + DPT).")


def _size(state: Mapping[str, Tensor], path: Path) -> str:
    if not is_released(state):
        raise WeightsError(f"{path} is no released UniMatch V2 checkpoint: {_TOKEN} or {_CLASSES} is missing.")
    width = state[_TOKEN].shape[-1]
    depth = len({name.split(".")[2] for name in state if name.startswith("backbone.blocks.")})
    encoder, expected = SIZES.get(width, ("", None))
    if depth != expected:
        known = ", ".join(f"{name} ({width} wide, {depth} deep)" for width, (name, depth) in SIZES.items())
        raise WeightsError(f"{path}: an encoder {width} wide and {depth} deep is none of {known}.")
    if encoder == "dinov2-giant" and "backbone.blocks.0.mlp.w12.weight" not in state:
        raise WeightsError(
            f"{path}: a giant encoder without gated layers is no DINOv2 (the authors' change detection code builds "
            "such a one by mistake); its weights cannot be used."
        )
    return encoder


def _number(content: Mapping[str, Any], kind: type, *names: str) -> Any:
    return next((kind(content[name]) for name in names if name in content), None)
