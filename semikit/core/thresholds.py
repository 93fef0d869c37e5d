"""Which positions are confident enough to learn from, and how much each class among them counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from semikit.core.batch import Labeled, Prediction, RunInfo
from semikit.core.counts import cell_counts, class_counts
from semikit.core.feature_bank import places
from semikit.core.running_averages import Mean, class_mean_of, class_share_of, follow, mean_of, quantile_of
from semikit.core.settings import AutoThreshold, ThresholdSettings
from semikit.distributed.collectives import gather_over_processes, sum_over_processes

_MOMENTUM = 0.99
_FIRST_USUAL = 0.6
_BINS = 256  # of the confidence; a power of two, so that no position lies in another bin than its edge says
_SMALLEST_SHARE = 0.1  # of an equal share: no class weighs more than ten times (before normalising), however rare


@final
class ClassBalance(nn.Module):
    """Weights against the majority class feeding itself, for small networks from scratch; not part of any paper here.

    Keeps `share` (K,), the moving share of each class among the confident positions (sums to 1, equal at first), and
    weighs class c by share_c ** -power, normalised so that a confident position weighs 1 on average. `power` 0..1:
    0 changes nothing, at 1 all classes have the same total weight.
    """

    share: Tensor

    def __init__(self, num_classes: int, power: float) -> None:
        super().__init__()
        self.power = power
        self.register_buffer("share", torch.full((num_classes,), 1 / num_classes))

    @torch.no_grad()
    def observe(self, labels: Tensor, mask: Tensor) -> None:
        """Count a step's pseudo-labels (B, *S) int64 where `mask` (B, *S) bool; over all processes, once a step."""
        counts = sum_over_processes(class_counts(labels, mask, len(self.share)))
        total = counts.sum()
        share = torch.where(total > 0, counts / total.clamp(min=1), self.share)
        self.share.lerp_(share, 1 - _MOMENTUM)

    def weights(self) -> Tensor:
        """The weight of each class, (K,), positive."""
        floor = _SMALLEST_SHARE / len(self.share)
        raw = self.share.clamp(min=floor).pow(-self.power)
        return raw / (raw * self.share).sum()


class Threshold(nn.Module, ABC):
    """How much each position counts. What it remembers are buffers, taken over all processes once a step."""

    needs_probabilities: ClassVar[bool] = False

    @abstractmethod
    def forward(self, prediction: Prediction, valid: Tensor, index: Tensor) -> Tensor:
        """Weights (B, *S) in 0..1, float or bool, 0 where not `valid` (B, *S); `index` (B,) counts images in the
        unlabelled list.
        """

    def observe_labeled(self, logits: Tensor, labeled: Labeled) -> None:
        """Take in logits (B, K, *S) of the step's labelled images, where they come out of the same pass, before
        `forward`; most need none.
        """

    def labels_of(self, soft: Tensor) -> Tensor:
        """What is learned of soft labels (B, K, *S), after `forward`; by most they are learned as they are."""
        return soft


@final
class FixedThreshold(Threshold):
    """Positions whose confidence reaches `threshold` count fully, others not at all; 0: all count (paper eq. 4)."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, prediction: Prediction, valid: Tensor, index: Tensor) -> Tensor:
        """Weights (B, *S) bool: a mask needs no multiplication."""
        return (prediction.confidence >= self.threshold) & valid


@final
class ClassThreshold(Threshold):
    """The fixed `threshold`, for each class lowered to the `quantile` of its own confidence where that is less. Of
    each class the surest count (as Zou et al. 2018, CBST, Algorithm 2, but of the last steps, not of all images).

    `histogram` (K, 256) follows how many positions of each class have which confidence, in equal bins of 0..1; the bin
    in which the quantile lies counts as a whole.
    """

    histogram: Tensor

    def __init__(self, num_classes: int, threshold: float, quantile: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.quantile = quantile
        self.register_buffer("histogram", torch.zeros(num_classes, _BINS))

    @torch.no_grad()
    def forward(self, prediction: Prediction, valid: Tensor, index: Tensor) -> Tensor:
        """Weights (B, *S) bool, this step counted in."""
        self._count(prediction, valid)
        above = self.histogram.flip(1).cumsum(1)  # positions from the most confident bin down
        too_few = (above < (1 - self.quantile) * above[:, -1:]).sum(1)
        lowered = (1 - (too_few + 1) / _BINS).clamp(max=self.threshold)
        return (prediction.confidence >= lowered[prediction.labels]) & valid

    def _count(self, prediction: Prediction, valid: Tensor) -> None:
        bins = (prediction.confidence * _BINS).nan_to_num(0.0).long().clamp(0, _BINS - 1)
        places = (prediction.labels * _BINS + bins).flatten()
        counts = cell_counts(places, valid.flatten().float(), self.histogram.numel())
        self.histogram.lerp_(sum_over_processes(counts).view_as(self.histogram), 1 - _MOMENTUM)


@final
class GatedThreshold(Threshold):
    """The paper's threshold τ where pseudo-labels of at least that confidence are reliable, else a floor that follows
    the mean confidence c (Tarubinga 2026, CW-BASS v2, arXiv 2608.12773):

        π = Pr[right | c >= τ] on held-out labels
        threshold = τ where π >= level, else clip(s · EMA(c), lowest, τ)

    `usual` () is EMA(c), from 0.6 as published; `reliable` () is 1 or 0, set between steps by whoever measures π. The
    published floor is a bound on a threshold of 0.34 at most, which is left out: it only counts where c is lower.
    """

    usual: Tensor
    reliable: Tensor

    def __init__(self, settings: AutoThreshold) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("usual", torch.tensor(_FIRST_USUAL))
        self.register_buffer("reliable", torch.tensor(1.0))

    @property
    def floor(self) -> Tensor:
        """The adaptive floor, ()."""
        return (self.settings.scale * self.usual).clamp(self.settings.lowest, self.settings.strict)

    @property
    def current(self) -> Tensor:
        """The threshold that counts, ()."""
        return torch.where(self.reliable > 0, self.settings.strict, self.floor)

    @torch.no_grad()
    def forward(self, prediction: Prediction, valid: Tensor, index: Tensor) -> Tensor:
        """Weights (B, *S) bool, this step counted in."""
        follow(self.usual, mean_of(prediction.confidence, valid), self.settings.momentum)
        return (prediction.confidence >= self.current) & valid


def threshold_of(config: ThresholdSettings, run_info: RunInfo) -> Threshold:
    """The threshold of a method that has a fixed one, which `class_quantile` may lower for each class, or which is
    chosen (`auto`).
    """
    if isinstance(config.threshold, AutoThreshold):
        return GatedThreshold(config.threshold)
    if config.class_quantile is None:
        return FixedThreshold(config.threshold)
    return ClassThreshold(run_info.num_classes, config.threshold, config.class_quantile)


@final
class FlexThreshold(Threshold):
    """Curriculum pseudo-labelling (Zhang et al. 2021, FlexMatch, eq. 5-11): classes learned less get a lower threshold.

    A class is learned by how many of the `images` were last labelled so with at least the fixed `threshold`, relative
    to the best class or, with `warmup`, to the images not labelled yet while these are more: then all thresholds begin
    at 0. The convex mapping x / (2 - x). For whole images; for pixels `FlexPixelThreshold`.
    """

    selected: Tensor
    learned: Tensor

    def __init__(self, num_classes: int, images: int, threshold: float, warmup: bool) -> None:
        super().__init__()
        self.images = images
        self.threshold = threshold
        self.warmup = warmup
        self.register_buffer("selected", torch.full((images + 1,), -1))
        self.register_buffer("learned", torch.zeros(num_classes))

    @torch.no_grad()
    def forward(self, prediction: Prediction, valid: Tensor, index: Tensor) -> Tensor:
        """Weights (B,) by what was learned before this step; then this step is counted."""
        learned = self.learned[prediction.labels]
        counts = (prediction.confidence >= self.threshold * learned / (2 - learned)) & valid
        sure = (prediction.confidence >= self.threshold) & valid
        self._count(*(gather_over_processes(values) for values in (index, prediction.labels, sure)))
        return counts.to(prediction.confidence.dtype)

    def _count(self, index: Tensor, labels: Tensor, sure: Tensor) -> None:
        self.selected.index_copy_(0, places(index, sure, self.images), labels)
        numbers = self.selected[:-1] + 1  # 0: never confident yet, which the warm-up compares the classes with
        counts = cell_counts(numbers, torch.ones_like(numbers, dtype=self.learned.dtype), len(self.learned) + 1)
        best = counts.max() if self.warmup else counts[1:].max()
        self.learned.copy_(counts[1:] / best.clamp(min=1))


@final
class FlexPixelThreshold(Threshold):
    """FlexMatch's rule over pixels, whose last labels are too many to remember: a class is learned by how many pixels
    of the last steps were labelled so with at least the fixed `threshold`.

    `found` (K + 1,) follows their shares of the valid pixels as an average over `steps` (an epoch: what the images of
    the memory of `FlexThreshold` are), the last one is of pixels that were not sure; all are so at first.
    """

    found: Tensor

    def __init__(self, num_classes: int, steps: int, threshold: float, warmup: bool) -> None:
        super().__init__()
        self.momentum = 1 - 1 / steps
        self.threshold = threshold
        self.warmup = warmup
        self.register_buffer("found", torch.tensor([0.0] * num_classes + [1.0]))

    @torch.no_grad()
    def forward(self, prediction: Prediction, valid: Tensor, index: Tensor) -> Tensor:
        """Weights (B, *S) bool by what was learned before this step; then this step is counted."""
        classes = len(self.found) - 1
        best = self.found.max() if self.warmup else self.found[:-1].max()
        learned = (self.found / best.clamp(min=torch.finfo(best.dtype).tiny))[prediction.labels]
        counts = (prediction.confidence >= self.threshold * learned / (2 - learned)) & valid
        found = torch.where(prediction.confidence >= self.threshold, prediction.labels, classes)
        follow(self.found, class_share_of(found, valid, classes + 1), self.momentum)
        return counts


@final
class FreeThreshold(Threshold):
    """Self-adaptive threshold (Wang et al. 2023, FreeMatch, eq. 5-8): the usual confidence, lower for rare classes.

    `usual` () follows the mean confidence or its `quantile`, `probability` (K,) the mean probabilities, `share` (K,)
    the classes of the pseudo-labels; all begin at 1 / K. `cap`: the usual confidence grows no further.
    """

    needs_probabilities = True
    usual: Tensor
    probability: Tensor
    share: Tensor

    def __init__(self, num_classes: int, momentum: float, quantile: float | None, cap: float | None) -> None:
        super().__init__()
        self.momentum = momentum
        self.quantile = quantile
        self.cap = cap
        self.register_buffer("usual", torch.tensor(1 / num_classes))
        self.register_buffer("probability", torch.full((num_classes,), 1 / num_classes))
        self.register_buffer("share", torch.full((num_classes,), 1 / num_classes))

    @torch.no_grad()
    def forward(self, prediction: Prediction, valid: Tensor, index: Tensor) -> Tensor:
        """Weights (B, *S), this step counted in."""
        assert prediction.probabilities is not None
        labels, confidence = prediction.labels, prediction.confidence
        seen = mean_of(confidence, valid) if self.quantile is None else quantile_of(confidence, valid, self.quantile)
        follow(self.usual, seen, self.momentum)
        if self.cap is not None:
            self.usual.clamp_(max=self.cap)
        follow(self.probability, class_mean_of(prediction.probabilities, valid), self.momentum)
        follow(self.share, class_share_of(labels, valid, len(self.share)), self.momentum)
        threshold = self.usual * (self.probability / self.probability.max())
        return ((confidence >= threshold[labels]) & valid).to(confidence.dtype)


@final
class SoftWeights(Threshold):
    """Truncated Gaussian weights (Chen et al. 2023, SoftMatch, eq. 5-7): 1 from the mean confidence on, less below it.

    `mean` () and `variance` () follow those of the confidence, from 1 / K and 1; the Gaussian's deviation is theirs
    divided by `deviations`.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, num_classes: int, momentum: float, deviations: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.deviations = deviations
        self.register_buffer("mean", torch.tensor(1 / num_classes))
        self.register_buffer("variance", torch.tensor(1.0))

    @torch.no_grad()
    def forward(self, prediction: Prediction, valid: Tensor, index: Tensor) -> Tensor:
        """Weights (B, *S), this step counted in."""
        confidence = prediction.confidence
        mean = mean_of(confidence, valid)
        spread = mean_of((confidence - mean.value).square(), valid)
        # Unbiased: one position tells nothing of the variance.
        variance = spread.value * spread.count / (spread.count - 1).clamp(min=1)
        follow(self.mean, mean, self.momentum)
        follow(self.variance, Mean(variance, (spread.count - 1).clamp(min=0)), self.momentum)
        below = (confidence - self.mean).clamp(max=0)
        # Where all confidences are equal the variance is 0: then 0 / scale has to stay 0, also squared.
        scale = 2 * self.variance.clamp(min=torch.finfo(confidence.dtype).tiny ** 0.5) / self.deviations**2
        return torch.where(valid, (-below.square() / scale).exp(), 0.0)


@final
class RelativeThreshold(Threshold):
    """Positions whose confidence reaches `share` of the mean confidence of the step's labelled images (Berthelot et al.
    2022, AdaMatch, eq. 3).
    """

    usual: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("usual", torch.ones(()), persistent=False)

    @torch.no_grad()
    def observe_labeled(self, logits: Tensor, labeled: Labeled) -> None:
        """Their mean confidence; without any it stays."""
        seen = mean_of(logits.float().softmax(dim=1).amax(dim=1), labeled.valid)
        follow(self.usual, seen, 0.0)

    def forward(self, prediction: Prediction, valid: Tensor, index: Tensor) -> Tensor:
        """Weights (B, *S) bool."""
        return (prediction.confidence >= self.share * self.usual) & valid
