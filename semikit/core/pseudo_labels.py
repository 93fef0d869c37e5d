"""Pseudo-labels: what a network says of the weak views, and what the strong views shall learn of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Self, final

import torch
from torch import Tensor, nn

from semikit.core.alignment import Alignment, AlignmentSettings, Debias, DebiasSettings
from semikit.core.batch import Labeled, Prediction, Pseudo, RunInfo, Target, Unlabeled
from semikit.core.losses import denominators
from semikit.core.mixing import mix_images, mix_maps
from semikit.core.settings import PseudoLabelSettings
from semikit.core.thresholds import ClassBalance, Threshold
from semikit.distributed.collectives import gather_over_processes

NetworkCall = Callable[[nn.Module, Tensor], Tensor]


def call(network: nn.Module, images: Tensor) -> Tensor:
    """Logits (B, K, *S) of images (B, C, H, W)."""
    return network(images)  # type: ignore[no-any-return]


@torch.no_grad()
def predict_logits(network: nn.Module, images: Tensor, through: NetworkCall = call) -> Tensor:
    """Logits (B, K, *S) of images (B, C, H, W) by a network in eval mode, without gradient. `through` is how it is
    called: compiled, where evaluation is not.
    """
    with evaluating(network):
        return through(network, images)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in eval mode; on leaving every module gets back the mode it had."""
    if not network.training:
        yield network
        return
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield network
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def predicted(logits: Tensor) -> Prediction:
    """The likeliest class and its softmax probability from logits (B, K, *S).

    The largest probability is 1 / sum(exp(logits - largest)), so that one maximum serves both. At least float32, also
    under autocast.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    largest, labels = logits.max(dim=1, keepdim=True)
    confidence = (logits - largest).exp_().sum(dim=1).reciprocal_()
    return Prediction(labels.squeeze(1), confidence)


def probabilities_of(logits: Tensor) -> Tensor:
    """Softmax of logits (B, K, *S) over the classes; at least float32, also under autocast."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=1)


def sharpened(probabilities: Tensor, temperature: float) -> Tensor:
    """Probabilities (B, K, *S) to the power of 1 / temperature, summing to 1 again; 1: as they are.

    The same as a softmax of logits divided by the temperature.
    """
    if temperature == 1:
        return probabilities
    # Relative to the largest: otherwise all of them may underflow.
    raised = (probabilities / probabilities.amax(dim=1, keepdim=True)).pow(1 / temperature)
    return raised / raised.sum(dim=1, keepdim=True)


@final
class PseudoLabelRule(nn.Module):
    """From logits of the weak views to targets: alignment x threshold x hard or soft labels.

    `soft_labels` is their temperature, None: hard labels. With `aligned_labels` false alignment changes how much a
    label counts, but not the label (SoftMatch). `class_balance` is the power of `ClassBalance`, 0: off. What `debias`
    takes from logits comes before alignment. Called once a step, for what the parts remember follows the steps.
    """

    __call__: Callable[..., Pseudo]

    def __init__(
        self,
        run_info: RunInfo,
        threshold: Threshold,
        *,
        alignment: AlignmentSettings | None = None,
        soft_labels: float | None = None,
        class_balance: float = 0.0,
        aligned_labels: bool = True,
        debias: DebiasSettings | None = None,
    ) -> None:
        super().__init__()
        self.run_info = run_info
        self.threshold = threshold
        self.soft_labels = soft_labels
        self.aligned_labels = aligned_labels
        self.alignment = None
        if alignment is not None:
            self.alignment = Alignment(alignment, run_info.num_classes, run_info.iterations)
        self.debias = None if debias is None else Debias(debias, run_info.num_classes)
        self.balance = ClassBalance(run_info.num_classes, class_balance) if class_balance > 0 else None

    @classmethod
    def of(
        cls, config: PseudoLabelSettings, run_info: RunInfo, threshold: Threshold, aligned_labels: bool = True
    ) -> Self:
        """The rule that a method's settings describe, with its threshold."""
        return cls(
            run_info,
            threshold,
            alignment=config.alignment,
            soft_labels=config.soft_labels,
            class_balance=config.class_balance,
            aligned_labels=aligned_labels,
            debias=config.debias,
        )

    @torch.no_grad()
    def forward(
        self,
        logits: Tensor,
        unlabeled: Unlabeled,
        labeled: tuple[Tensor, Labeled] | None = None,
        partners: Target | None = None,
    ) -> Pseudo:
        """Targets from logits (B, K, *S) of the weak views.

        `labeled`: logits of the labelled images, and these, where they came out of the same pass. `partners`: as in
        `Pseudo`.
        """
        if labeled is not None:
            self.threshold.observe_labeled(*labeled)
        logits = logits if self.debias is None else self.debias(logits, unlabeled.valid)
        needs_probabilities = self.threshold.needs_probabilities or self.soft_labels is not None
        if self.alignment is None and not needs_probabilities:
            return self.targets(predicted(logits), unlabeled, partners=partners)
        probabilities = self._aligned(logits, unlabeled.valid, labeled)
        prediction = _most_likely(probabilities)
        if self.aligned_labels or self.alignment is None:
            return self.targets(prediction, unlabeled, partners=partners)
        return self.targets(prediction, unlabeled, _most_likely(probabilities_of(logits)), partners)

    @torch.no_grad()
    def aligned(self, logits: Tensor, valid: Tensor, labeled: tuple[Tensor, Labeled] | None = None) -> Tensor:
        """Probabilities (B, K, *S), debiased and aligned where that is set, from logits; `labeled` as in `forward`."""
        return self._aligned(logits if self.debias is None else self.debias(logits, valid), valid, labeled)

    def _aligned(self, logits: Tensor, valid: Tensor, labeled: tuple[Tensor, Labeled] | None) -> Tensor:
        probabilities = probabilities_of(logits)
        if self.alignment is None:
            return probabilities
        on_labeled = None if labeled is None else (probabilities_of(labeled[0]), labeled[1].valid)
        return self.alignment(probabilities, valid, on_labeled)  # type: ignore[no-any-return]

    @torch.no_grad()
    def targets(
        self,
        prediction: Prediction,
        unlabeled: Unlabeled,
        learned: Prediction | None = None,
        partners: Target | None = None,
    ) -> Pseudo:
        """Targets from a prediction of the weak views; `learned` gives the labels where others than those weighed."""
        weights = self.threshold(prediction, unlabeled.valid, unlabeled.index)
        learned = prediction if learned is None else learned
        soft = self._soft(learned)
        balance = None
        if self.balance is not None:
            self.balance.observe(learned.labels, weights)
            balance = self.balance.weights()[learned.labels]
        margin = None if self.debias is None else self.debias.margins(len(weights))
        weak = Target(
            learned.labels, weights, unlabeled.valid, self._denominator(unlabeled.valid), soft, balance, None, margin
        )
        views = tuple(self._mixed(weak, unlabeled, partners, view) for view in range(len(unlabeled.strong)))
        return Pseudo(replace(weak, truth=unlabeled.truth), views)

    @torch.no_grad()
    def partner_target(self, logits: Tensor, valid: Tensor, index: Tensor) -> Target:
        """The target of a batch that is only pasted from, by logits (B, K, *S): classes are not counted there."""
        prediction = predicted(logits) if self.soft_labels is None else _most_likely(probabilities_of(logits))
        weights = self.threshold(prediction, valid, index)
        soft = self._soft(prediction)
        balance = None if self.balance is None else self.balance.weights()[prediction.labels]
        return Target(prediction.labels, weights, valid, self._denominator(valid), soft, balance)

    def _soft(self, learned: Prediction) -> Tensor | None:
        if self.soft_labels is None:
            return None
        assert learned.probabilities is not None
        return self.threshold.labels_of(sharpened(learned.probabilities, self.soft_labels))

    def _mixed(self, weak: Target, unlabeled: Unlabeled, partners: Target | None, view: int) -> Target:
        """The target of a strong view: the weak view's, with the partner's inside the boxes, as its image has it."""
        if not unlabeled.boxes:
            return weak
        pool = weak if partners is None else partners
        return self.mixed(weak, unlabeled.boxes[view], pool, unlabeled.partner, unlabeled.cross_rank)

    def mixed(self, target: Target, box: Tensor, pool: Target, partner: Tensor, cross_rank: bool = False) -> Target:
        """A target with that of the partners (B,) int64, counted over `pool`, inside boxes (B, H, W) bool. With
        `cross_rank` they are counted over the pools of all processes.
        """

        def of_pool(name: str) -> Tensor:
            values: Tensor = getattr(pool, name)
            return gather_over_processes(values) if cross_rank else values

        def mixed(name: str) -> Tensor:
            return mix_maps(getattr(target, name), box, of_pool(name), partner)

        soft, valid = target.probabilities, mixed("valid")
        return Target(
            labels=mixed("labels"),
            weights=mixed("weights"),
            valid=valid,
            denominator=self._denominator(valid),
            probabilities=None if soft is None else mix_images(soft, box, of_pool("probabilities"), partner),
            class_weights=None if target.class_weights is None else mixed("class_weights"),
            margin=target.margin,
        )

    def _denominator(self, valid: Tensor) -> Tensor:
        return denominators(valid, self.run_info.group, self.run_info.normalise)


def _most_likely(probabilities: Tensor) -> Prediction:
    confidence, labels = probabilities.max(dim=1)
    return Prediction(labels, confidence, probabilities)
