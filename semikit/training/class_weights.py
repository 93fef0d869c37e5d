"""How much each class counts in the supervised loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from semikit.core.census import PartCensus
from semikit.errors import ConfigError, unknown

ClassWeights = Literal["balanced", "effective"] | Mapping[str, float]

BETA = 0.9999
"""Of the effective number of samples (Cui et al. 2019, who use 0.9999 and 0.999)."""


def resolved_weights(stated: ClassWeights, names: Sequence[str], census: Callable[[], PartCensus]) -> dict[str, float]:
    """The weight of every class; `census` counts the labelled images where they are asked for.

    balanced: 1 / n, n the valid pixels of the class, or its images in classification. effective: (1 - β) / (1 - β^n),
    n its images (of maps, those that hold it, for the pixels of one image resemble each other). Both are scaled so that
    the mean over all labelled pixels or images is 1, so that the supervised loss keeps its size beside the unlabelled
    one. A class without a label has 1, as one that a mapping does not name.

    Raises:
        ConfigError: a class that does not exist, or weights that are all 0.
    """
    if isinstance(stated, Mapping):
        for name in stated:
            if name not in names:
                raise unknown("class in train.class_weights", name, names)
        weights = [float(stated.get(name, 1.0)) for name in names]
        if not any(weights):
            raise ConfigError("train.class_weights are 0 for every class, so nothing would be learned.")
        return dict(zip(names, weights, strict=True))
    counted = census()
    positions = counted.pixels or counted.holding
    if stated == "balanced":
        raw = [1 / count if count else 0.0 for count in positions]
    else:
        raw = [(1 - BETA) / (1 - BETA**count) if count else 0.0 for count in counted.holding]
    mean = sum(weight * count for weight, count in zip(raw, positions, strict=True)) / sum(positions)
    return {name: float(f"{weight / mean:.6g}") if weight else 1.0 for name, weight in zip(names, raw, strict=True)}


def label_shares(census: PartCensus) -> tuple[float, ...]:
    """The share of each class among the labelled pixels, or images, (K,); one without a label counts as once labelled,
    for alignment divides what should come by what does.
    """
    counts = [max(count, 1) for count in census.pixels or census.holding]
    return tuple(float(f"{count / sum(counts):.6g}") for count in counts)


def weights_line(weights: Mapping[str, float], most: int = 12) -> str:
    """The weights as one line; of many classes the heaviest."""
    pairs = sorted(weights.items(), key=lambda item: -item[1])
    more = f" (the {most} heaviest of {len(pairs)})" if len(pairs) > most else ""
    return ", ".join(f"{name} {weight:.4g}" for name, weight in pairs[:most]) + more
