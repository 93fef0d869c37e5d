"""Dash (Xu et al. 2021): FixMatch that keeps pseudo-labels whose loss lies below a threshold that falls over time.

Tasks: seg, cd, cls
Paper: arXiv 2109.00650
Cost: 1.0
For: long runs, in which fewer and better pseudo-labels are kept with time
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semikit.core.batch import Labeled, Prediction, Requirements, RunInfo
from semikit.core.method import Variant
from semikit.core.network import Network
from semikit.core.pseudo_labels import sharpened
from semikit.core.running_averages import mean_of
from semikit.core.schedules import steps_of
from semikit.core.settings import RENAMED_LABELS, JointSettings
from semikit.core.thresholds import Threshold
from semikit.methods.fixmatch import FixMatch


@final
class DashConfig(JointSettings):
    """Settings of Dash, those of USB as shares of the run."""

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS

    teacher: Literal["student"] = "student"
    """The student labels in its own training pass, whose labelled images tell where the threshold begins."""
    forward: Literal["joint"] = "joint"
    """All images pass through the student in one call."""
    soft_labels: float | None = Field(default=0.5, gt=0)
    """Temperature of soft labels until the threshold has fallen to its minimum, then they are hard; null: hard."""
    warmup: float = Field(default=0.002, ge=0)
    """Labelled images alone teach over this share of the run (up to 1) or this many iterations (above 1)."""
    initial: float | None = Field(default=None, gt=0)
    """Loss the threshold is relative to; null: the mean labelled loss of the warm-up."""
    factor: float = Field(default=1.0001, gt=0)
    """The threshold begins at this many times that loss."""
    fall: float = Field(default=1.27, ge=1)
    """What the threshold is divided by each time it falls."""
    fall_every: float = Field(default=0.01, gt=0)
    """It falls after each such share of the run (up to 1) or number of iterations (above 1)."""
    minimum: float = Field(default=0.05, gt=0)
    """It falls no further than this loss (0.05: a confidence of 0.951)."""


@final
class FallingThreshold(Threshold):
    """Positions count whose pseudo-label costs the weak view no more than ρ_t = max(C γ^-k ρ̂, ρ_min), after the k-th
    fall (Algorithm 1, selection stage); none in the warm-up.

    `steps` () int64 counts those taken, `reference` () is ρ̂, `hard` () bool whether labels are hard by now. The paper
    estimates ρ̂ on labelled images once they were learned alone; of few labels nothing is left of their loss by then,
    hence the mean of the warm-up's steps. (USB takes the loss on the test images, the authors' code the unlabelled one
    of the first epoch.)
    """

    needs_probabilities = True
    steps: Tensor
    reference: Tensor
    hard: Tensor

    def __init__(self, config: DashConfig, iterations: int) -> None:
        super().__init__()
        self.config = config
        self.warmup = round(steps_of(config.warmup, iterations))
        self.every = max(1, round(steps_of(config.fall_every, iterations)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("reference", torch.tensor(config.initial or 0.0))
        self.register_buffer("hard", torch.tensor(False), persistent=False)

    @torch.no_grad()
    def observe_labeled(self, logits: Tensor, labeled: Labeled) -> None:
        """Their mean loss, while the warm-up lasts (without one, of the first step)."""
        if self.config.initial is not None:
            return
        seen = mean_of(F.cross_entropy(logits.float(), labeled.labels, reduction="none"), labeled.valid)
        counts = (self.steps < max(self.warmup, 1)) & (seen.count > 0)
        self.reference.lerp_(seen.value, counts / (self.steps + 1))

    @torch.no_grad()
    def forward(self, prediction: Prediction, valid: Tensor, index: Tensor) -> Tensor:
        """Weights (B, *S) bool, by this step's threshold."""
        assert prediction.probabilities is not None
        config, temperature, falls = self.config, self.config.soft_labels, (self.steps - self.warmup) // self.every
        threshold = config.factor * self.reference * config.fall ** -falls.float()
        self.hard.copy_((threshold <= config.minimum) | (temperature is None))
        labels = self.labels_of(sharpened(prediction.probabilities, temperature or 1.0))
        loss = -torch.xlogy(labels, prediction.probabilities).sum(dim=1)
        weights = (loss <= threshold.clamp(min=config.minimum)) & valid & (self.steps >= self.warmup)
        self.steps += 1
        return weights

    def labels_of(self, soft: Tensor) -> Tensor:
        """Soft labels (B, K, *S) of this step, hard once the threshold is at its minimum."""
        likeliest = torch.zeros_like(soft).scatter(1, soft.argmax(dim=1, keepdim=True), 1.0)
        return torch.where(self.hard, likeliest, soft)


def dash(network: Network, config: DashConfig, run_info: RunInfo) -> FixMatch:
    """FixMatch with a falling threshold (Algorithm 1)."""
    return FixMatch(network, config, run_info, FallingThreshold(config, run_info.iterations))


plugin = Variant(FixMatch, DashConfig, dash, Requirements(strong_views=1))
