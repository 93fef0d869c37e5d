"""FlexMatch (Zhang et al. 2021): FixMatch whose threshold is lower for classes that are learned less.

Tasks: seg, cd, cls
Paper: arXiv 2110.08263
Cost: 1.0
For: classes that are learned at different speeds
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

from pydantic import Field

from semikit.core.batch import Requirements, RunInfo
from semikit.core.method import Variant
from semikit.core.network import Network
from semikit.core.settings import RENAMED_LABELS, JointSettings
from semikit.core.thresholds import FlexPixelThreshold, FlexThreshold, Threshold
from semikit.methods.fixmatch import FixMatch


@final
class FlexMatchConfig(JointSettings):
    """Settings of FlexMatch (Algorithm 1): the label each unlabelled image got last is remembered; of pixels how many
    were labelled so in the last epoch.
    """

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS

    threshold: float = Field(default=0.95, ge=0, le=1)
    """Threshold of the class learned best (0..1)."""
    warmup: bool = True
    """Whether all thresholds begin at 0 and rise as images or pixels are labelled (eq. 11); false: relative to the best
    class."""


def flexmatch(network: Network, config: FlexMatchConfig, run_info: RunInfo) -> FixMatch:
    """FixMatch with curriculum pseudo-labelling (eq. 5-9)."""
    return FixMatch(network, config, run_info, _threshold(network.pixels, config, run_info))


def _threshold(pixels: bool, config: FlexMatchConfig, run_info: RunInfo) -> Threshold:
    if pixels:
        return FlexPixelThreshold(run_info.num_classes, run_info.steps_per_epoch, config.threshold, config.warmup)
    assert run_info.num_unlabeled is not None, run_info
    return FlexThreshold(run_info.num_classes, run_info.num_unlabeled, config.threshold, config.warmup)


plugin = Variant(FixMatch, FlexMatchConfig, flexmatch, Requirements(strong_views=1, every_image=True))
