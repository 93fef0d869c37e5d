"""From what a network says of weak views to what is learned: alignment, threshold, hard or soft labels, as chosen."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from semikit.core.alignment import Alignment, AlignTo, Kind
from semikit.core.batch import Labeled, Pseudo, RunInfo, Unlabeled
from semikit.core.channel_dropout import Masks
from semikit.core.consistency import AgreementSettings, ConsistencyMethod, fill, predict_logits, prepare
from semikit.core.network import Network
from semikit.core.pseudo_labels import Prediction, probabilities_of, pseudo_label, sharpened
from semikit.core.student_views import Forward, check_forward
from semikit.core.thresholds import Threshold
from semikit.settings.base import Settings


class LabelingSettings(AgreementSettings):
    """Settings of the pseudo-labels, and of the student's pass that may give them."""

    forward: Forward = "auto"
    """How images pass through the student: auto, fused, separate or joint."""
    hard: bool = True
    """Whether the likeliest class is learned; false: all probabilities."""
    temperature: float = Field(default=0.5, gt=0)
    """Sharpens soft labels: a softmax of logits / temperature; 1: as they are (USB's FixMatch, FlexMatch, AdaMatch)."""
    alignment: Kind = "none"
    """Distribution alignment: none, by a queue of the last steps, or by a moving average (ema)."""
    alignment_length: int = Field(default=32, ge=1)
    """Steps in the queue (32 for CIFAR, 256 for ImageNet)."""
    alignment_momentum: float = Field(default=0.999, ge=0, lt=1)
    """What the moving average keeps of itself at each step (0..1)."""
    alignment_target: AlignTo = "uniform"
    """How often classes should come: uniform, labeled (as the student finds them on labelled images), or K shares."""

    @property
    def joint(self) -> bool:
        """Whether the student labels inside its joint pass."""
        return self.forward == "joint" and self.teacher == "student"

    @model_validator(mode="after")
    def _target_is_seen(self) -> LabelingSettings:
        if self.alignment_target == "labeled" and not self.joint:
            raise ValueError(
                "alignment_target 'labeled' needs labelled predictions of the same pass; use forward 'joint' with "
                "teacher 'student', or 'uniform', or the share of each class"
            )
        return self


class JointSettings(LabelingSettings):
    """`LabelingSettings` as the papers on classification have them: one pass for all images, in which the student
    labels; the average is for evaluation only.
    """

    teacher: Literal["ema", "student", "auto"] = "student"
    """Who gives the pseudo-labels: the student in its own training pass, the average, or auto (see ema)."""
    forward: Forward = "joint"
    """How images pass through the student: auto, fused, separate or joint."""
    loss: Literal["released", "paper"] = "paper"
    """paper: labelled + λ · unlabelled; released: that divided by 1 + λ, as UniMatch's segmentation code does."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """What the average keeps of itself at each step (0..1)."""
    ema_ramp: bool = False
    """Whether the decay starts at 0 and grows as 1 - 1 / (step + 1) up to `ema_decay`."""


@final
class Labeling(nn.Module):
    """Alignment × threshold × hard or soft labels; `threshold` None: the fixed one, applied where the loss is taken.

    With `aligned_labels` false alignment changes how much a label counts, but not the label (SoftMatch).
    """

    def __init__(
        self, config: LabelingSettings, run_info: RunInfo, threshold: Threshold | None, aligned_labels: bool = True
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.aligned_labels = aligned_labels
        self.temperature = None if config.hard else config.temperature
        self.alignment: Alignment | None = None
        if config.alignment != "none":
            length, momentum = config.alignment_length, config.alignment_momentum
            self.alignment = Alignment(
                config.alignment, run_info.num_classes, length, momentum, config.alignment_target
            )

    @property
    def plain(self) -> bool:
        """Whether labels and confidence are all that is asked for."""
        asked = self.threshold is not None and self.threshold.needs_probabilities
        return self.alignment is None and self.temperature is None and not asked

    @torch.no_grad()
    def forward(
        self, pseudo: Pseudo, unlabeled: Unlabeled, logits: Tensor, labeled: tuple[Tensor, Tensor] | None = None
    ) -> Pseudo:
        """Pseudo-labels filled from logits (B, K, *S) of the weak views; once a step, for states follow it.

        `labeled`: logits and valid of the labelled images, where they came out of the same pass.
        """
        belief, own = (
            (Prediction(*pseudo_label(logits)), None) if self.plain else self._aligned(unlabeled, logits, labeled)
        )
        weights = None
        if self.threshold is not None:
            weights = self.threshold(belief, unlabeled.valid, unlabeled.index)
        chosen = belief if self.aligned_labels or own is None else own
        soft = None
        if self.temperature is not None:
            assert chosen.probabilities is not None
            soft = sharpened(chosen.probabilities, self.temperature)
        return fill(pseudo, unlabeled, chosen.labels, chosen.confidence, weights, soft)

    def _aligned(
        self, unlabeled: Unlabeled, logits: Tensor, labeled: tuple[Tensor, Tensor] | None
    ) -> tuple[Prediction, Prediction]:
        """What is believed after alignment, and before."""
        probabilities = probabilities_of(logits)
        own = _belief(probabilities)
        if self.alignment is None:
            return own, own
        on_labeled = None if labeled is None else (probabilities_of(labeled[0]), labeled[1])
        return _belief(self.alignment(probabilities, unlabeled.valid, on_labeled)), own


def _belief(probabilities: Tensor) -> Prediction:
    confidence, labels = probabilities.max(dim=1)
    return Prediction(labels, confidence, probabilities)


class LabelingMethod(ConsistencyMethod):
    """A method of this kind fills `requirements` and `forward`, and may fill `threshold` and `masks`.

    The teacher labels before the student's pass; where the student labels inside its joint pass, `forward` calls
    `labeled_by`.
    """

    config: LabelingSettings
    aligned_labels: ClassVar[bool] = True

    @classmethod
    def needs_full_batch(cls, config: Settings) -> bool:
        """Only where the student labels inside its joint pass."""
        assert isinstance(config, LabelingSettings)
        return config.joint

    def __init__(self, network: Network, config: Settings, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(self.config.forward, network)
        self.labeling = Labeling(self.config, run_info, self.threshold(), self.aligned_labels)

    def threshold(self) -> Threshold | None:
        """The threshold of the method; None: the fixed one of its settings."""
        return None

    def masks(self, unlabeled: Unlabeled, step: int) -> tuple[Masks, ...]:
        """The channel dropout of a step; none by default."""
        return ()

    def label(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """Pseudo-labels of the weak views by the teacher, mixed as the strong views are; and the step's dropout."""
        assert unlabeled is not None
        self.emphasis.begin(step)
        pseudo = prepare(unlabeled, self.run_info, self.masks(unlabeled, step))
        if self.config.joint:
            return pseudo
        return self._observed(self.labeling(pseudo, unlabeled, predict_logits(self.labeler, unlabeled.weak)))

    def labeled_by(
        self, pred_weak: Tensor | None, pred_labeled: Tensor, pseudo: Pseudo, unlabeled: Unlabeled, labeled: Labeled
    ) -> Pseudo:
        """Pseudo-labels by the student's own joint pass, where it gives them; otherwise those that are there."""
        if not self.config.joint:
            return pseudo
        assert pred_weak is not None
        return self._observed(self.labeling(pseudo, unlabeled, pred_weak, (pred_labeled, labeled.valid)))

    def _observed(self, pseudo: Pseudo) -> Pseudo:
        self.emphasis.observe(pseudo.weak)
        return pseudo
