"""Distribution alignment: pseudo-labels are scaled until, on average, classes come as often as they should; and
debiasing, which takes from each class what it is favoured by.

ReMixMatch (Berthelot et al. 2020), section 3.1. The average of the predictions is a queue of the last steps (TorchSSL,
USB, SimMatch) or a moving average (AdaMatch, SoftMatch). K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from semikit.core.running_averages import Mean, class_mean_of, follow
from semikit.errors import ConfigError
from semikit.settings.base import Settings

AlignTo = Literal["uniform", "labeled", "labels"] | tuple[float, ...]

_SMALLEST = 1e-6
"""Added to both shares: a class that was never predicted is scaled up, but not without limit."""


@final
class AlignmentSettings(Settings):
    """How pseudo-labels are aligned."""

    kind: Literal["queue", "ema"] = "queue"
    """What is predicted on average: the mean of the last steps (queue), or a moving average (ema)."""
    length: int = Field(default=32, ge=1)
    """Steps in the queue (32 for CIFAR, 256 for ImageNet)."""
    momentum: float = Field(default=0.999, ge=0, lt=1)
    """What the moving average keeps of itself at each step (0..1)."""
    target: AlignTo = "uniform"
    """How often classes should come: uniform, labels (as among the labelled images, counted when a run begins), labeled
    (as the student finds them on labelled images), or K shares."""
    progressive: float = Field(default=1.0, ge=0, le=1)
    """Power that the target is raised to at the end of the run, from 1 on (0..1; 0.5 in CReST+, where it follows the
    generations, as with `--method crest`): rare classes come more and more often; 1: the target stays."""


@final
class DebiasSettings(Settings):
    """Debiased pseudo-labels and the loss with adaptive margins (Wang et al. 2022, DebiasPL), against classes that are
    favoured: in imbalanced data, or by what the network was pretrained on. Values of
    frank-xwang/debiased-pseudo-labeling@3acbf9a:main_DebiasPL.py and its scripts.
    """

    strength: float = Field(default=0.4, ge=0)
    """How much of the logarithm of the mean probabilities is taken from the logits that label, and given to those that
    learn (0.4 in the authors' scripts, 0.5 and 1 elsewhere in their code); 0: nothing."""
    momentum: float = Field(default=0.999, ge=0, lt=1)
    """What the mean probabilities keep of themselves at each step (0..1)."""
    margin: bool = True
    """Whether the loss has margins too; false: labels are debiased alone."""


def debias_strength(raw: Any) -> Any:
    """A group of settings of which only the strength is given (`debias: 0.4`) as the group; `none`: left out."""
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return {"strength": float(raw)}
    return None if raw == "none" else raw


class Marginal(nn.Module, ABC):
    """How often each class is predicted, over the steps."""

    @abstractmethod
    def observe(self, mean: Mean) -> None:
        """Take in the mean probabilities (K,) of a step; once a step."""

    @abstractmethod
    def value(self) -> Tensor:
        """How often each class comes, (K,)."""


@final
class QueueMarginal(Marginal):
    """The mean over the last `length` steps. Steps that have not been yet count as zeros: the common factor cancels."""

    rows: Tensor
    place: Tensor

    def __init__(self, num_classes: int, length: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(length, num_classes))
        self.register_buffer("place", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def observe(self, mean: Mean) -> None:
        """The oldest step makes room."""
        counted = mean.count > 0
        row = torch.where(counted, mean.value, self.rows.index_select(0, self.place)[0])
        self.rows.index_copy_(0, self.place, row.unsqueeze(0))
        self.place.copy_((self.place + counted) % len(self.rows))

    def value(self) -> Tensor:
        """See `Marginal.value`."""
        return self.rows.mean(dim=0)


@final
class AverageMarginal(Marginal):
    """A moving average that keeps `momentum` of itself; it begins with equal shares or, `first`, with the first mean.

    All zeros: nothing was observed yet.
    """

    mean: Tensor

    def __init__(self, num_classes: int, momentum: float, first: bool = True) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.full((num_classes,), 0.0 if first else 1 / num_classes))

    @torch.no_grad()
    def observe(self, mean: Mean) -> None:
        """Move towards the mean."""
        begun = self.mean.sum() > 0
        self.mean.copy_(torch.where(begun, self.mean, mean.value))
        follow(self.mean, mean, self.momentum)

    def value(self) -> Tensor:
        """See `Marginal.value`."""
        return self.mean


@final
class Alignment(nn.Module):
    """Probabilities · (how often classes should come) / (how often they are predicted), summing to 1 again.

    With `progressive` below 1 what should come is flattened over the `iterations` of a run (Wei et al. 2021, CReST,
    section 3.3), which `steps` () int64 counts.

    Raises:
        ConfigError: when the shares are not one positive share for each class, summing to 1.
    """

    shares: Tensor
    steps: Tensor

    def __init__(self, settings: AlignmentSettings, num_classes: int, iterations: int = 1) -> None:
        super().__init__()
        self.progressive, self.iterations = settings.progressive, iterations
        if settings.progressive < 1:
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.predicted = _marginal(settings, num_classes, first=True)
        self.on_labeled: Marginal | None = None
        if settings.target == "labeled":
            self.on_labeled = _marginal(settings, num_classes, first=False)
        self.register_buffer("shares", torch.tensor(_shares(settings.target, num_classes)), persistent=False)

    @torch.no_grad()
    def forward(self, probabilities: Tensor, valid: Tensor, labeled: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Probabilities (B, K, *S) of the weak views, valid (B, *S) bool -> aligned ones, after taking them in.

        `labeled`: probabilities and valid of the labelled images, for 'labeled'.
        """
        self.predicted.observe(class_mean_of(probabilities, valid))
        shares = self.shares
        if self.on_labeled is not None:
            assert labeled is not None
            self.on_labeled.observe(class_mean_of(*labeled))
            shares = self.on_labeled.value()
        if self.progressive < 1:
            done = (self.steps / max(self.iterations - 1, 1)).clamp(max=1)
            shares = shares ** (1 - done * (1 - self.progressive))
            shares = shares / shares.sum()
            self.steps += 1
        factor = (shares + _SMALLEST) / (self.predicted.value() + _SMALLEST)
        aligned = probabilities * factor.view(-1, *[1] * (probabilities.dim() - 2))
        return aligned / aligned.sum(dim=1, keepdim=True)


@final
class Debias(nn.Module):
    """Counterfactual debiasing, f̃ = f - τ log p̂, and margins, z + τ log p̂: p̂ (K,) is the moving mean of the
    probabilities of the weak views, from 1 / K (Wang et al. 2022).
    """

    mean: Tensor

    def __init__(self, settings: DebiasSettings, num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("mean", torch.full((num_classes,), 1 / num_classes))

    @torch.no_grad()
    def forward(self, logits: Tensor, valid: Tensor | None) -> Tensor:
        """Logits (B, K, *S) of weak views -> debiased ones, float32, by the mean before they are taken in where valid
        (B, *S) bool; None: they are not.
        """
        logits = logits.float()
        debiased = logits - self._offset().view(-1, *[1] * (logits.dim() - 2))
        if valid is not None:
            follow(self.mean, class_mean_of(logits.softmax(dim=1), valid), self.settings.momentum)
        return debiased

    def margins(self, count: int) -> Tensor | None:
        """What is added to the logits of `count` images that learn, (B, K); None without margins."""
        return self._offset().expand(count, -1) if self.settings.margin else None

    def _offset(self) -> Tensor:
        return self.settings.strength * self.mean.clamp(min=_SMALLEST).log()


def _marginal(settings: AlignmentSettings, num_classes: int, first: bool) -> Marginal:
    if settings.kind == "queue":
        return QueueMarginal(num_classes, settings.length)
    return AverageMarginal(num_classes, settings.momentum, first)


def _shares(to: AlignTo, num_classes: int) -> list[float]:
    """The share of each class, in 0..1; equal where nobody has counted the labels."""
    if isinstance(to, str):
        return [1 / num_classes] * num_classes
    if len(to) != num_classes or min(to) <= 0 or abs(sum(to) - 1) > 1e-3:
        raise ConfigError(
            f"method.alignment.target has {len(to)} shares that sum to {sum(to):g}, the smallest "
            f"{min(to, default=0):g}; allowed are {num_classes} positive shares, one for each class, that sum to 1. "
            "Or use 'uniform', 'labels' or 'labeled'."
        )
    return list(to)
