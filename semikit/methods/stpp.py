"""ST++ (Yang et al. 2022): self-training that learns the images first on which its own checkpoints agree.

Tasks: seg, cd, cls
Paper: arXiv 2106.05095
Cost: three runs
For: labels that are better learned offline, in three runs
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from pydantic import Field

from semikit.core.batch import Requirements
from semikit.core.method import Round, Variant
from semikit.methods.selftrain import LABELED_ROUND, RoundSettings, SelfTraining, labeled_only

_RELIABLE_ROUND = "2-reliable"


@final
class STPPConfig(RoundSettings):
    """Settings of ST++ (LiheYoung/ST-PlusPlus@f4e7a57:main.py)."""

    labeled: dict[str, Any] = Field(default_factory=dict)
    """What the labelled-only run lays over the settings of the run, as {train: {iterations: 2000}}."""
    checkpoints: int = Field(default=3, ge=2)
    """Checkpoints of the labelled-only run, at equal parts of it, whose predictions are compared."""
    reliable: float = Field(default=0.5, gt=0, lt=1)
    """Share of the unlabelled images that the second run learns from: those with the most stable predictions (0..1)."""


def rounds(config: STPPConfig) -> Sequence[Round]:
    """Algorithm 2: labelled images alone; reliable images labelled by that; all images labelled by the second network.
    Each begins with fresh weights.
    """
    if config.teacher != "rounds":
        return ()
    # All checkpoints are needed: the run does not end early.
    supervised = labeled_only(config.labeled, snapshots=config.checkpoints, patience=None)
    return [
        Round(LABELED_ROUND, supervised, reliable=config.reliable),
        Round(_RELIABLE_ROUND, teachers=(LABELED_ROUND,), only=LABELED_ROUND),
        Round("", teachers=(_RELIABLE_ROUND,)),
    ]


plugin = Variant(SelfTraining, STPPConfig, SelfTraining, Requirements(strong_views=1), takes=rounds)
