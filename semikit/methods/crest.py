"""CReST (Wei et al. 2021): FixMatch in generations; the surest images of rare classes become labelled ones.

Tasks: cls
Paper: arXiv 2102.09559
Cost: six runs
For: imbalanced classes, where unlabelled images are imbalanced alike and time does not matter
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, final

from pydantic import BeforeValidator, Field, model_validator

from semikit.core.alignment import AlignmentSettings
from semikit.core.batch import Requirements, RunInfo
from semikit.core.method import Round, Variant
from semikit.core.network import Network
from semikit.core.settings import RENAMED_LABELS, JointSettings, ThresholdSettings, optional_kind
from semikit.core.thresholds import threshold_of
from semikit.methods.fixmatch import FixMatch


@final
class CReSTConfig(ThresholdSettings, JointSettings):
    """Settings of CReST+ on FixMatch (google-research/crest@e270139:train_and_eval_loop.py and run.sh)."""

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS

    alignment: Annotated[AlignmentSettings | None, BeforeValidator(optional_kind)] = AlignmentSettings(
        length=128, target="labels", progressive=0.5
    )
    """Distribution alignment, CReST+; `none`: CReST. `progressive` is the power of the last generation, t_min; each
    keeps its power over the whole run."""
    generations: int = Field(default=6, ge=1)
    """Runs with fresh weights, the first one included; 1: aligned FixMatch."""
    sampling: float = Field(default=1 / 3, ge=0)
    """Power (alpha) of the shares of classes that become labelled (section 3.2): 0 takes all images, larger powers take
    fewer of frequent classes."""

    @model_validator(mode="after")
    def _known_shares(self) -> Self:
        if self.alignment is not None and self.alignment.target == "labeled":
            raise ValueError(
                "alignment.target 'labeled' changes at every step; use 'labels' or the share of each class"
            )
        return self


def rounds(config: CReSTConfig) -> Sequence[Round]:
    """Generations g = 0 … G, aligned to shares to the power of t_g = (1 - g/G) + g/G · t_min; each learns the labels
    and what the one before picked.
    """
    names = [f"{number}-generation" for number in range(1, config.generations)]
    if not names:
        return ()
    found: list[Round] = []
    for number, name in enumerate(names):
        method: dict[str, Any] = {"generations": 1}
        if config.alignment is not None:
            progress = number / len(names)
            method["alignment"] = {"progressive": 1 - progress * (1 - config.alignment.progressive)}
        before = found[-1].folder if found else ""
        found.append(Round(name, {"method": method}, also=before, picks=config.sampling))
    return [*found, Round("", also=names[-1])]


def crest(network: Network, config: CReSTConfig, run_info: RunInfo) -> FixMatch:
    """FixMatch, aligned to shares that keep their power."""
    if config.alignment is not None and not isinstance(target := config.alignment.target, str):
        powers = [share**config.alignment.progressive for share in target]
        flat = {"target": tuple(power / sum(powers) for power in powers), "progressive": 1.0}
        config = config.model_copy(update={"alignment": config.alignment.model_copy(update=flat)})
    return FixMatch(network, config, run_info, threshold_of(config, run_info))


plugin = Variant(FixMatch, CReSTConfig, crest, Requirements(strong_views=1, whole_images=True), takes=rounds)
