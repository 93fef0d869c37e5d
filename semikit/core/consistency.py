"""Weak-to-strong consistency: what a strong view shall learn from the weak one, and how much it counts."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from semikit.core.batch import Labeled, Pseudo, RunInfo, StepResult, Target, Unlabeled
from semikit.core.channel_dropout import Masks
from semikit.core.collapse import LABELED, PREDICTED, ClassSums, ClassWatch, class_counts
from semikit.core.losses import denominators, masked_cross_entropy, masked_soft_cross_entropy
from semikit.core.mixing import mix_images, mix_maps
from semikit.core.network import Network
from semikit.core.pseudo_labels import pseudo_label
from semikit.core.schedules import linear_ramp
from semikit.core.teaching import StudentTeacher, TeachingSettings, evaluating
from semikit.core.thresholds import ClassBalance, confident
from semikit.core.watch import TeacherWatch
from semikit.distributed.collectives import gather_over_processes, over_all_processes
from semikit.settings.base import Settings


class AgreementSettings(TeachingSettings):
    """Settings of the unlabelled loss."""

    teacher: Literal["ema", "student", "auto"] = "ema"
    """Who gives the pseudo-labels: the average, the student, or the average until it stays far behind the student."""
    weight: float = Field(default=1.0, ge=0)
    """Weight λ of the unlabelled loss."""
    loss: Literal["released", "paper"] = "released"
    """released: (labelled + λ · unlabelled) / (1 + λ); paper: labelled + λ · unlabelled."""
    ramp: float = Field(default=0.0, ge=0)
    """λ grows linearly from 0 over this share of the run (up to 1) or this many iterations (above 1); 0: no ramp."""
    class_balance: float = Field(default=0.0, ge=0, le=1)
    """Power by which classes rare among the confident positions count more (0..1); 0: off, as in the papers."""


class ConsistencySettings(AgreementSettings):
    """Settings of the unlabelled loss with a fixed threshold."""

    threshold: float = Field(default=0.95, ge=0, le=1)
    """Least confidence of a pseudo-label that counts (0..1); 0: all count."""


@torch.no_grad()
def predict_logits(network: nn.Module, weak: Tensor) -> Tensor:
    """Logits (B, K, *S) of weak views (B, C, H, W) by a network in eval mode."""
    with evaluating(network):
        logits: Tensor = network(weak)
    return logits


def predict_labels(network: nn.Module, weak: Tensor) -> tuple[Tensor, Tensor]:
    """What a network in eval mode says about weak views (B, C, H, W): labels (B, *S) int64, confidence (B, *S) 0..1."""
    return pseudo_label(predict_logits(network, weak))


def prepare(unlabeled: Unlabeled, run_info: RunInfo, masks: tuple[Masks, ...] = ()) -> Pseudo:
    """All of the pseudo-labels that is known before a network looks: which positions are valid, and the denominators.

    Labels and confidence are zeros until `fill`.
    """
    pool = unlabeled.valid if unlabeled.partner_batch is None else unlabeled.partner_batch.valid
    views = tuple(_target(mixed(unlabeled.valid, pool, unlabeled, v), run_info) for v in range(len(unlabeled.strong)))
    weak = replace(_target(unlabeled.valid, run_info), truth=unlabeled.truth)
    return Pseudo(weak=weak, views=views, masks=masks)


def fill(
    pseudo: Pseudo,
    unlabeled: Unlabeled,
    labels: Tensor,
    confidence: Tensor,
    weights: Tensor | None = None,
    probabilities: Tensor | None = None,
) -> Pseudo:
    """Pseudo-labels (B, *S) int64 of the weak views, their confidence, and weights and soft labels where there are any
    (as in `Target`), mixed as the strong views were mixed.
    """
    views = tuple(
        replace(
            target,
            labels=mixed(labels, labels, unlabeled, v),
            confidence=mixed(confidence, confidence, unlabeled, v),
            weights=None if weights is None else mixed(weights, weights, unlabeled, v),
            probabilities=None if probabilities is None else mixed_classes(probabilities, unlabeled, v),
        )
        for v, target in enumerate(pseudo.views)
    )
    weak = replace(pseudo.weak, labels=labels, confidence=confidence, weights=weights, probabilities=probabilities)
    return replace(pseudo, weak=weak, views=views)


def mixed(values: Tensor, pool: Tensor, unlabeled: Unlabeled, view: int) -> Tensor:
    """Values (B, *S) of the weak views with the partners' values (of `pool`) where `view` shows the partner."""
    if not unlabeled.boxes:
        return values
    return mix_maps(values, unlabeled.boxes[view], _pool(pool, unlabeled), unlabeled.partner)


def mixed_classes(values: Tensor, unlabeled: Unlabeled, view: int) -> Tensor:
    """Values (B, K, *S) of the weak views with the partners' values where `view` shows the partner."""
    if not unlabeled.boxes:
        return values
    return mix_images(values, unlabeled.boxes[view], _pool(values, unlabeled), unlabeled.partner)


def _pool(values: Tensor, unlabeled: Unlabeled) -> Tensor:
    """What partners are taken from: these values (B, ...), or those of all processes."""
    return gather_over_processes(values) if unlabeled.cross_rank else values


def _target(valid: Tensor, run_info: RunInfo) -> Target:
    return Target(
        labels=torch.zeros_like(valid, dtype=torch.long),
        confidence=torch.zeros_like(valid, dtype=torch.float32),
        valid=valid,
        denominator=denominators(valid, run_info.group, run_info.normalise),
    )


@final
class Emphasis(nn.Module):
    """How much unlabelled images count at this step: threshold or weights, ramp of λ, balance of the classes.

    `weight` () is the λ of the step. It is a tensor set before `forward`, so that a compiled step is not compiled
    anew when it grows.
    """

    weight: Tensor

    def __init__(self, config: AgreementSettings, run_info: RunInfo) -> None:
        super().__init__()
        self.config = config
        self.num_classes = run_info.num_classes
        self.threshold = config.threshold if isinstance(config, ConsistencySettings) else 0.0
        self.ramp_iterations = config.ramp * run_info.iterations if config.ramp <= 1 else config.ramp
        self.balance = ClassBalance(run_info.num_classes, config.class_balance) if config.class_balance > 0 else None
        self.register_buffer("weight", torch.tensor(config.weight), persistent=False)

    def begin(self, step: int) -> None:
        """Set λ for a step (from 0)."""
        self.weight.fill_(self.config.weight * linear_ramp(step, self.ramp_iterations))

    def observe(self, weak: Target) -> None:
        """Count the classes of a step's confident pseudo-labels, where they are balanced."""
        if self.balance is not None:
            self.balance.observe(weak.labels, self.counts(weak))

    def counts(self, target: Target) -> Tensor:
        """How much each position counts, (B, *S): bool by the fixed threshold, or the target's own weights."""
        if target.weights is not None:
            return target.weights
        return confident(target.confidence, target.valid, self.threshold)

    def loss(self, logits: Tensor, target: Target) -> Tensor:
        """Cross-entropy of a strong view (B, K, *S) with its target over confident positions, ().

        Divided by the count of valid positions, not of confident ones: few confident positions mean a small loss
        (as released; paper eq. 4).
        """
        mask = self.counts(target)
        if self.balance is not None:
            mask = mask * self.balance.weights()[target.labels]
        if target.probabilities is not None:
            return masked_soft_cross_entropy(logits, target.probabilities, mask, target.denominator)
        return masked_cross_entropy(logits, target.labels, mask, target.denominator)

    def result(self, loss_x: Tensor, loss_u: Tensor, labeled: Labeled, weak: Target, **more: Tensor) -> StepResult:
        """The loss of the step from its labelled and unlabelled parts (), with the logs.

        `more` are further parts (), already weighted, added by name. `confident` is the share of valid positions of
        the weak views that are confident, or their mean weight (0..1); where the truth is known, `known` is the part of
        it whose truth is, and `right` the part of that with the right class. Two logs (K,) count the classes of the
        labelled positions and of the confident ones. All logs add up over micro-batches, as the loss does.
        """
        loss = loss_x + self.weight * loss_u
        for part in more.values():
            loss = loss + part
        if self.config.loss == "released":
            loss = loss / (1 + self.weight)
        mask = self.counts(weak)
        logs = {"loss": loss, "loss_x": loss_x, "loss_u": loss_u, "confident": _share(mask, weak), **more}
        if weak.truth is not None:
            logs["known"] = _share(mask * (weak.truth >= 0), weak)
            logs["right"] = _share(mask * (weak.truth == weak.labels), weak)
        # Logs are averaged over the processes: counts of the total batch come out.
        logs[LABELED] = over_all_processes(class_counts(labeled.labels, labeled.valid, self.num_classes))
        logs[PREDICTED] = over_all_processes(class_counts(weak.labels, mask, self.num_classes))
        return StepResult(loss, {name: value.detach() for name, value in logs.items()})


def _share(mask: Tensor, weak: Target) -> Tensor:
    """How much of the valid positions a mask or weights (B, *S) take, ()."""
    return (mask.reshape(len(mask), -1).sum(dim=1) / weak.denominator).sum()


class ConsistencyMethod(StudentTeacher, ABC):
    """A method of this kind: fills `requirements`, `label` and `forward`."""

    config: AgreementSettings

    def __init__(self, network: Network, config: Settings, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        self.emphasis = Emphasis(self.config, run_info)
        self.watch = TeacherWatch()
        self.class_watch = ClassWatch(run_info.num_classes)

    @property
    def labeler(self) -> Network:
        """Who gives the pseudo-labels of this step."""
        choice = self.config.teacher
        return self.student if choice == "student" or self.watch.switched else self.teacher

    def after_evaluation(
        self, scores: Mapping[str, float], confident: float | None, classes: ClassSums | None = None
    ) -> list[str]:
        """Warn of pseudo-labels that collapse and of a teacher that is of no use; `teacher: auto` does without it."""
        told = [] if classes is None else self.class_watch.evaluated(classes, 1.0 if confident is None else confident)
        if self.config.teacher == "student":
            return told + ([] if confident is None else self.watch.shared(confident))
        may_switch = self.config.teacher == "auto"
        return self.watch.evaluated(scores["student"], scores["teacher"], confident, may_switch) + told
