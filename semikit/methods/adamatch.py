"""AdaMatch (Berthelot et al. 2022): FixMatch whose threshold is relative to the confidence on labelled images.

Tasks: seg, cd, cls
Paper: arXiv 2106.04732
Cost: 1.0
For: confidence that stays low, or unlabelled images unlike the labelled ones
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, final

from pydantic import BeforeValidator, Field

from semikit.core.alignment import AlignmentSettings
from semikit.core.batch import Requirements, RunInfo
from semikit.core.method import Variant
from semikit.core.network import Network
from semikit.core.settings import RENAMED_LABELS, JointSettings, optional_kind
from semikit.core.thresholds import RelativeThreshold
from semikit.methods.fixmatch import FixMatch


@final
class AdaMatchConfig(JointSettings):
    """Settings of AdaMatch, as in USB: without the interpolation of logits and the warm-up of λ that the paper has for
    other domains.
    """

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS

    teacher: Literal["student"] = "student"
    """The student labels in its own training pass, whose labelled images the threshold is relative to."""
    forward: Literal["joint"] = "joint"
    """All images pass through the student in one call."""
    alignment: Annotated[AlignmentSettings | None, BeforeValidator(optional_kind)] = AlignmentSettings(
        kind="ema", target="labeled"
    )
    """Distribution alignment: none, queue (mean of the last steps) or ema, or a mapping with the details."""
    threshold: float = Field(default=0.9, ge=0)
    """Least confidence of a pseudo-label that counts, as a share of the mean confidence on labelled images."""


def adamatch(network: Network, config: AdaMatchConfig, run_info: RunInfo) -> FixMatch:
    """FixMatch with labels aligned to those of labelled images and a relative threshold (eq. 2-4)."""
    return FixMatch(network, config, run_info, RelativeThreshold(config.threshold))


plugin = Variant(FixMatch, AdaMatchConfig, adamatch, Requirements(strong_views=1))
