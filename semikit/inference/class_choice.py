"""Which class a pixel gets: the most probable one, or by thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from semikit.errors import ConfigError
from semikit.raster.polygons import NODATA

AUTO = "auto"
"""A threshold of change that is chosen on the images that the best network is chosen on."""

_EXAMPLE = "Write P, 0.3 for example, or CLASS=P for one class"


@final
@dataclass(frozen=True)
class ClassChoice:
    """The class of each pixel by its probabilities.

    A class of `by_class` gets a pixel where its probability is at least that threshold, also where another is more
    probable; of several the most probable one. Elsewhere it is the most probable of the other classes. `common` is for
    those: with a `background` (of change: unchanged) one of them gets a pixel where all but the background together
    reach it, and the background the others; without, where the most probable one reaches it. What no class gets is
    nodata.
    """

    background: int | None
    common: float | None = None
    by_class: Mapping[int, float] | None = None

    @classmethod
    def of(
        cls, texts: Sequence[str | float], names: Sequence[str], background: int | None, key: str = "--threshold"
    ) -> ClassChoice:
        """From what is written for `key`: P, or CLASS=P; the last counts where one stands twice.

        Raises:
            ConfigError: no number, or not from 0 to 1; no class of that name.
        """
        common, by_class = None, dict[int, float]()
        for text in texts:
            name, _, number = str(text).rpartition("=")
            share = _share(f"{key} {text}", number)
            if not name:
                common = share
            elif name in names:
                by_class[names.index(name)] = share
            else:
                raise ConfigError(f"{key} {text}: there is no class {name!r}; it has {', '.join(names)}.")
        return cls(background, common, by_class)

    @property
    def is_most_probable(self) -> bool:
        """Whether there is no threshold."""
        return self.common is None and not self.by_class

    def leaves_gaps(self, classes: int) -> bool:
        """Whether a pixel may get none of so many classes."""
        named = self.by_class or {}
        always = self.background is not None and self.background not in named
        return not always and (self.common is not None or len(named) == classes)

    def __call__(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (K, h, w) -> classes (h, w) uint8, 255 where none is chosen, and the probability (h, w) of the
        class, of the most probable one where none is.
        """
        sure, chosen = probabilities.max(0)
        if not self.is_most_probable:
            named = self._of_named(probabilities)
            chosen = torch.where(named == NODATA, self._of_others(probabilities), named)
            there = chosen != NODATA
            own = probabilities.gather(0, torch.where(there, chosen, 0)[None])[0]
            sure = torch.where(there, own, sure)
        return chosen.to(torch.uint8), sure

    def _of_named(self, probabilities: Tensor) -> Tensor:
        """The most probable of those that reach a threshold of their own, else nodata."""
        reached = torch.full_like(probabilities, -1)
        for number, threshold in (self.by_class or {}).items():
            own = probabilities[number]
            reached[number] = torch.where(own >= threshold, own, -1.0)
        share, chosen = reached.max(0)
        return torch.where(share >= 0, chosen, NODATA)

    def _of_others(self, probabilities: Tensor) -> Tensor:
        """The most probable of the classes without a threshold of their own, by the common one if there is one."""
        others = probabilities.clone()
        for number in self.by_class or {}:
            others[number] = -1
        share, chosen = others.max(0)
        chosen = torch.where(share >= 0, chosen, NODATA)
        if self.common is None:
            return chosen
        if self.background is None or self.background in (self.by_class or {}):
            return torch.where(share >= self.common, chosen, NODATA)
        changed, kind = change_of(others, self.background)
        there = others.gather(0, kind[None])[0] >= 0
        return torch.where((changed >= self.common) & there, kind, self.background)


def change_of(probabilities: Tensor, background: int) -> tuple[Tensor, Tensor]:
    """Probabilities (K, *S), below 0 where a class is left out -> that of all but the background together (*S), and the
    most probable of those classes (*S).
    """
    others = probabilities.clone()
    others[background] = -1
    return others.clamp(min=0).sum(0), others.argmax(0)


def threshold_of(metadata: Mapping[str, Any]) -> Any:
    """The threshold that a model is evaluated and predicts with, as `evaluate.threshold` states it: of `auto` the one
    that was chosen.

    Raises:
        ConfigError: none has been chosen yet.
    """
    stated = metadata.get("evaluate", {}).get("threshold")
    if stated != AUTO:
        return stated
    if "best" not in metadata:
        raise ConfigError(
            "evaluate.threshold is auto, and these weights are from before the first evaluation, which chooses one. "
            "Give a threshold, --threshold P."
        )
    return metadata["best"]["threshold"]


def _share(given: str, number: str) -> float:
    if number == AUTO:
        raise ConfigError(
            f"{given}: a threshold is chosen in training (evaluate.threshold=auto), and maps of that run have it "
            "without this option; or `semikit evaluate RUN --threshold auto` says which is best, to be given here."
        )
    try:
        share = float(number)
    except ValueError:
        raise ConfigError(f"{given}: {number!r} is no number. {_EXAMPLE}.") from None
    if not 0 <= share <= 1:
        raise ConfigError(f"{given}: a probability is from 0 to 1. {_EXAMPLE}.")
    return share
