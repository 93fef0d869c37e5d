"""Settings that methods share; a method's own stand beside it.

A line of four: what every method has, what learning from unlabelled images adds, what the choice of pseudo-labels adds,
and the latter with the values of the papers on classification.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, final

from pydantic import BeforeValidator, Field, model_validator

from semikit.core.alignment import AlignmentSettings, DebiasSettings, debias_strength
from semikit.core.student_views import Forward, Statistics
from semikit.settings.base import Settings

RENAMED_LABELS = {
    "hard": "soft_labels",
    "temperature": "soft_labels",
    "alignment_length": "alignment.length",
    "alignment_momentum": "alignment.momentum",
    "alignment_target": "alignment.target",
}
"""Keys that pseudo-labels had before: what they are called now."""


def named_kind(raw: Any) -> Any:
    """A group of settings of which only the kind is given (`alignment: queue`) as the group."""
    return {"kind": raw} if isinstance(raw, str) else raw


def optional_kind(raw: Any) -> Any:
    """The same of a group that may be left out: `none`."""
    return None if raw == "none" else named_kind(raw)


def chosen_kind(raw: Any) -> Any:
    """The same of a number that may be chosen: `auto`."""
    return named_kind(raw) if raw == "auto" else raw


@final
class GivenTeacher(Settings):
    """A trained network that gives the pseudo-labels, and does not learn (distilling)."""

    run: str
    """Run folder or weights file."""
    digest: str | None = None
    """SHA-256 of its weights; null: taken when the run begins."""


def named_run(raw: Any) -> Any:
    """A path (of more than one part) as the group of settings of a given teacher."""
    return {"run": raw} if isinstance(raw, str) and len(Path(raw).parts) > 1 else raw


Teacher = Annotated[Literal["ema", "student", "auto"] | GivenTeacher, BeforeValidator(named_run)]


@final
class Ohem(Settings):
    """Online hard example mining on labelled images (as released for Cityscapes)."""

    threshold: float = Field(default=0.7, ge=0, le=1)
    """Positions whose true class has at most this probability are hard (0..1)."""
    min_kept: int = Field(default=200_000, ge=0)
    """At least this many positions (pixels) of a group are learned from; 0: all are, as released."""


class MethodSettings(Settings):
    """The supervised loss and the EMA teacher."""

    ema_decay: float = Field(default=0.996, ge=0, lt=1)
    """What the teacher keeps of itself at each step (0..1)."""
    ema_ramp: bool = True
    """Whether the decay starts at 0 and grows as 1 - 1 / (step + 1) up to `ema_decay`, as released."""
    ohem: Ohem | None = None
    """Hard example mining on labelled images; null: every valid position counts."""


class UnlabeledSettings(MethodSettings):
    """The unlabelled loss."""

    teacher: Teacher = "ema"
    """Whose pseudo-labels: the EMA teacher's, the student's, the teacher's until it stays far behind (auto), or those
    of another run's network, which stays as it is (`--teacher RUN`)."""
    weight: float = Field(default=1.0, ge=0)
    """Weight λ of the unlabelled loss."""
    loss: Literal["released", "paper"] = "released"
    """released: (supervised + λ · unlabelled) / (1 + λ); paper: supervised + λ · unlabelled."""
    ramp: float = Field(default=0.0, ge=0)
    """λ grows linearly from 0 over this share of the run (up to 1) or this many iterations (above 1); 0: no ramp."""
    class_balance: float = Field(default=0.0, ge=0, le=1)
    """Power by which classes rare among the confident positions count more (0..1); 0: off, as in the papers."""
    batch_norm: Statistics = "all"
    """What the running statistics of batch norm follow: all passes (as released), or weak ones, not strong views."""


@final
class AutoThreshold(Settings):
    """A threshold chosen by how often confident pseudo-labels are right, measured on labelled images that are held out
    (Tarubinga 2026, CW-BASS v2, arXiv 2608.12773; values of psychofict/CW-BASS-v2@fd355ef:configs/pascal_cwbass_v2.yaml
    and core/thresholding.py).
    """

    kind: Literal["auto"] = "auto"
    """Chosen."""
    strict: float = Field(default=0.95, gt=0, le=1)
    """The paper's threshold (0..1): kept where its pseudo-labels are right often enough; the floor rises no higher."""
    level: float | None = Field(default=None, ge=0, le=1)
    """Share of the confident held-out positions that has to be right for `strict` to be kept (0..1); null: `strict`
    itself, as published."""
    held_out: float = Field(default=0.05, gt=0, lt=1)
    """Share of the labelled images that are held out (0..1): at least 8 of them, and at most a quarter."""
    scale: float = Field(default=0.95, gt=0, le=1)
    """The floor as a share of the mean confidence (0..1)."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """What the mean confidence keeps of itself at each step (0..1)."""
    lowest: float = Field(default=0.3, ge=0, le=1)
    """The floor falls no lower (0..1)."""


class ThresholdSettings(Settings):
    """The threshold of a method that has a fixed one (`thresholds.threshold_of`)."""

    threshold: Annotated[Annotated[float, Field(ge=0, le=1)] | AutoThreshold, BeforeValidator(chosen_kind)] = 0.95
    """Least confidence of a pseudo-label that counts (0..1; 0: all count), or `auto`: held-out labels choose between it
    and an adaptive floor; or a mapping with the details."""
    class_quantile: float | None = Field(default=None, ge=0, lt=1)
    """The threshold of each class is lowered to this quantile of its confidence where that is less (0..1; 0.8: at least
    the surest fifth of every predicted class counts); null: one threshold for all."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.class_quantile is not None and isinstance(self.threshold, AutoThreshold):
            raise ValueError("threshold 'auto' and class_quantile both choose the threshold; leave one of them out")
        return self


class PseudoLabelSettings(UnlabeledSettings):
    """Which pseudo-labels are learned, and the student's pass that may give them."""

    forward: Forward = "auto"
    """How images pass through the student: auto, fused, separate or joint."""
    soft_labels: float | None = Field(default=None, gt=0)
    """Temperature of soft labels, a softmax of logits / temperature (1: as they are, as in USB's FixMatch, FlexMatch
    and AdaMatch); null: hard labels, the likeliest class."""
    alignment: Annotated[AlignmentSettings | None, BeforeValidator(optional_kind)] = None
    """Distribution alignment: none, queue (mean of the last steps) or ema, or a mapping with the details."""
    debias: Annotated[DebiasSettings | None, BeforeValidator(debias_strength)] = None
    """Debiasing for imbalanced classes (DebiasPL): none, a strength, or a mapping with the details."""

    @property
    def joint(self) -> bool:
        """Whether the student labels inside its own pass over labelled, weak and strong views."""
        return self.forward == "joint" and self.teacher == "student"

    @model_validator(mode="after")
    def _target_is_seen(self) -> PseudoLabelSettings:
        if self.alignment is not None and self.alignment.target == "labeled" and not self.joint:
            raise ValueError(
                "alignment.target 'labeled' needs labelled predictions of the same pass; use forward 'joint' with "
                "teacher 'student', or 'uniform', or the share of each class"
            )
        return self


class JointSettings(PseudoLabelSettings):
    """As the papers on classification have them: one pass for all images, in which the student labels; the teacher is
    for evaluation only.
    """

    teacher: Teacher = "student"
    """Whose pseudo-labels: the student's own, out of its training pass, the EMA teacher's, auto (see ema), or those of
    another run's network (`--teacher RUN`)."""
    forward: Forward = "joint"
    """How images pass through the student: auto, fused, separate or joint."""
    loss: Literal["released", "paper"] = "paper"
    """paper: supervised + λ · unlabelled; released: that divided by 1 + λ, as UniMatch's segmentation code does."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """What the teacher keeps of itself at each step (0..1)."""
    ema_ramp: bool = False
    """Whether the decay starts at 0 and grows as 1 - 1 / (step + 1) up to `ema_decay`."""
