"""SoftMatch (Chen et al. 2023): every pseudo-label counts, the less the further its confidence lies below the mean.

Tasks: seg, cd, cls
Paper: arXiv 2301.10921
Cost: 1.0
For: confidence that few images reach at first
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, final

from pydantic import BeforeValidator, Field

from semikit.core.alignment import AlignmentSettings
from semikit.core.batch import Requirements, RunInfo
from semikit.core.method import Variant
from semikit.core.network import Network
from semikit.core.settings import RENAMED_LABELS, JointSettings, optional_kind
from semikit.core.thresholds import SoftWeights
from semikit.methods.fixmatch import FixMatch


@final
class SoftMatchConfig(JointSettings):
    """Settings of SoftMatch. Alignment (uniform, eq. 8) changes how much a label counts, not the label."""

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS

    alignment: Annotated[AlignmentSettings | None, BeforeValidator(optional_kind)] = AlignmentSettings(kind="ema")
    """Distribution alignment: none, queue (mean of the last steps) or ema, or a mapping with the details."""
    momentum: float = Field(default=0.999, ge=0, lt=1)
    """What mean and variance of the confidence keep of themselves at each step (0..1)."""
    deviations: float = Field(default=2.0, gt=0)
    """The Gaussian is this many times narrower than the confidence is spread."""


def softmatch(network: Network, config: SoftMatchConfig, run_info: RunInfo) -> FixMatch:
    """FixMatch whose pseudo-labels are weighed by a truncated Gaussian of their confidence (Algorithm 1, eq. 5-7)."""
    weights = SoftWeights(run_info.num_classes, config.momentum, config.deviations)
    return FixMatch(network, config, run_info, weights, aligned_labels=False)


plugin = Variant(FixMatch, SoftMatchConfig, softmatch, Requirements(strong_views=1))
