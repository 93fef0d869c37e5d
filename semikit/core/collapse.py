"""Early warning of pseudo-labels that collapse: into one class, or out of some that are labelled. K classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

ALONE = 0.02
"""What the other classes have to stay below together for one to have taken everything, of the confident positions."""

FEWER = 10.0
"""How many times less that has to be than among the labelled positions: a large background is no collapse."""

EXCESS = 0.25
"""Part of the other classes' positions that one has to take beside its own: what is easy is confident first, and while
most positions are not confident yet, it may well be alone."""

HALF = 0.5
"""Confident share from which a class that never came is missed."""

ABSENT = 0.001
"""A class is not predicted where its share is below this part of its share of the labelled positions."""

ENOUGH = 5.0
"""Positions of a class that would be expected before their absence means anything."""

_ONE, _CLASS = (1, 3), (2, 3)
"""Evaluations in a row before it is told: where it was otherwise before, and where it never was."""

_NAMED = 5
"""Classes that are named in one warning."""

LABELED, PREDICTED = "labeled_classes", "predicted_classes"
"""Logs (K,) of a step: what `class_counts` gives of labelled positions and of confident pseudo-labels."""


def class_counts(labels: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """How many positions each class has, (K,) float32: labels (B, *S) int64, `mask` (B, *S) bool or weights >= 0.

    Adds up over images. Each row of a map is counted for itself at first, so that few threads write to one place.
    """
    rows = labels.flatten(0, -2) if labels.dim() > 1 else labels.unsqueeze(0)
    counts = torch.zeros(len(rows), num_classes, device=labels.device)
    return counts.scatter_add_(1, rows, mask.reshape(rows.shape).float()).sum(dim=0)


@final
@dataclass(frozen=True, slots=True)
class ClassSums:
    """How often each of K classes came since the evaluation before: among labelled positions, and among the confident
    pseudo-labels (by weight where they have one). Only their ratios mean something where processes took their mean.
    """

    names: Sequence[str]
    labeled: Sequence[float]
    predicted: Sequence[float]

    @classmethod
    def of(cls, names: Sequence[str], sums: Mapping[str, Sequence[float]]) -> ClassSums | None:
        """From the sums of logs; None where the method has no such logs."""
        if LABELED not in sums or PREDICTED not in sums:
            return None
        return cls(tuple(names), tuple(sums[LABELED]), tuple(sums[PREDICTED]))

    def row(self) -> dict[str, float]:
        """What a table of evaluations holds: how many classes are predicted, and the share (0..1) of the largest."""
        total = sum(self.predicted)
        largest = max(self.predicted) / total if total > 0 else 0.0
        return {"classes_predicted": float(sum(value > 0 for value in self.predicted)), "largest_class": largest}


@final
class ClassWatch(nn.Module):
    """Looks at the pseudo-labels' classes at every evaluation and warns once of each collapse.

    What is compared with is what was labelled in the same steps. Its state is saved with the run; no buffer, for a step
    that asked the device would wait for it.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        # The last entry is of all classes together: whether one has taken everything.
        self.in_a_row = [0] * (num_classes + 1)
        self.fine_before = [False] * (num_classes + 1)

    def evaluated(self, sums: ClassSums, confident: float) -> list[str]:
        """What a person should know after an evaluation; `confident` is the share of confident positions (0..1)."""
        found, total = sum(sums.predicted), sum(sums.labeled)
        if not (found > 0 and total > 0):
            return []
        labeled = [value / total for value in sums.labeled]
        predicted = [value / found for value in sums.predicted]
        alone = self._alone(sums.names, labeled, predicted, found, confident)
        absent = self._absent(sums.names, labeled, predicted, found, confident)
        return alone or absent

    def _alone(
        self, names: Sequence[str], labeled: list[float], predicted: list[float], found: float, confident: float
    ) -> list[str]:
        most = max(range(len(predicted)), key=predicted.__getitem__)
        others, wanted = 1 - predicted[most], 1 - labeled[most]
        if found * wanted < ENOUGH:
            return []
        too_much = confident * predicted[most] > labeled[most] + EXCESS * wanted
        if not self._due(-1, too_much and others < min(ALONE, wanted / FEWER), _ONE):
            return []
        return [
            f"{100 * predicted[most]:.1f} % of the confident pseudo-labels ({100 * confident:.1f} % of all) are "
            f"{names[most]!r}, which is {100 * labeled[most]:.1f} % of what is labelled: the classes collapse into "
            "one. Look at the losses; go on from before with a lower learning rate, or begin again with "
            "method.class_balance=0.5 or more labels."
        ]

    def _absent(
        self, names: Sequence[str], labeled: list[float], predicted: list[float], found: float, confident: float
    ) -> list[str]:
        lost: list[str] = []
        never: list[str] = []
        for number, (name, wanted, share) in enumerate(zip(names, labeled, predicted, strict=True)):
            known, absent = self.fine_before[number], share <= ABSENT * wanted
            if found * wanted < ENOUGH or (absent and not known and confident < HALF):
                continue
            if self._due(number, absent, _CLASS):
                told = f"{name!r} ({100 * share:.2g} %, of what is labelled {100 * wanted:.2g} %)"
                (lost if known else never).append(told)
        return [
            f"{begun} the confident pseudo-labels: {_listed(found)}. Unlabelled images teach nothing of what is not "
            "predicted. A lower method.threshold or method.class_balance=0.5 lets rare classes count more."
            for begun, found in (("no longer among", lost), ("still not among", never))
            if found
        ]

    def _due(self, number: int, bad: bool, patience: tuple[int, int]) -> bool:
        """Whether this is the evaluation at which to tell."""
        self.in_a_row[number] = self.in_a_row[number] + 1 if bad else 0
        self.fine_before[number] |= not bad
        return bad and self.in_a_row[number] == patience[not self.fine_before[number]]

    def get_extra_state(self) -> Tensor:
        """What is saved: (2, K + 1) int64, on the CPU."""
        return torch.tensor([self.in_a_row, [int(fine) for fine in self.fine_before]])

    def set_extra_state(self, state: Tensor) -> None:
        """Go on with what was saved."""
        self.in_a_row, fine = state.tolist()
        self.fine_before = [bool(value) for value in fine]


def _listed(told: list[str]) -> str:
    more = len(told) - _NAMED
    return ", ".join(told[:_NAMED]) + (f" and {more} more" if more > 0 else "")
