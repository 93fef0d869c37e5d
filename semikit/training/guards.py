"""Callbacks that follow the evaluations and warn early of a useless teacher and of pseudo-labels that never begin or
collapse. K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

from semikit.core.losses import LABELED, PREDICTED
from semikit.core.method import Method
from semikit.core.settings import UnlabeledSettings

GAP = 10.0
"""How far the teacher may stay behind the student, in points. With BEiT it stayed 18 behind in the authors' logs
(Table 9); with DINOv2 by 7 (Cityscapes) and 11 (WHU-CD) after the first epoch only."""

PATIENCE = 2
"""Evaluations in a row the teacher has to be behind before the student takes its place."""

FALLEN = 0.25
"""Part of its largest value so far below which the confident share has collapsed."""

BEGUN = 0.0005
"""Confident share (0..1) from which the unlabelled loss has begun: below, it shows as 0.0 %."""


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
"""Evaluations in a row before a warning: where it was otherwise before, and where it never was."""

_NAMED = 5
"""Classes that are named in one warning."""


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


class Guard(ABC):
    """Follows the evaluations of a run; its state is stored in checkpoints under `name`."""

    name: ClassVar[str]

    @abstractmethod
    def evaluated(
        self, step: int, scores: Mapping[str, float], confident: float | None, classes: ClassSums | None
    ) -> list[str]:
        """Notices for the user after an evaluation at the end of `step` steps.

        `scores` are those of "student" and "teacher" in percent; since the evaluation before, `confident` is the mean
        share of confident positions (0..1) and `classes` how often each class came, None where the method has none.
        """

    def ended(self, step: int) -> list[str]:
        """What belongs beside the score of a run that ended after `step` steps."""
        return []

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What it remembers, as plain values."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""


def guards_of(method: Method) -> list[Guard]:
    """The guards of a method: none where nothing is learned from unlabelled images."""
    if not isinstance(method.config, UnlabeledSettings):
        return []
    teacher = TeacherGuard(method, method.config.teacher == "auto")
    return [teacher, ShareGuard(), CollapseGuard(method.run_info.num_classes)]


@final
class TeacherGuard(Guard):
    """Warns of a teacher that stays behind the student. With `may_switch` (`method.teacher` auto) the student labels
    from then on.
    """

    name = "teacher"

    def __init__(self, method: Method, may_switch: bool) -> None:
        self.method = method
        self.may_switch = may_switch
        self.labels_alone = method.student_labels  # from the start: how the teacher does is of no matter
        self.behind = 0

    @property
    def switched(self) -> bool:
        """Whether the student took the teacher's place."""
        return self.method.student_labels and not self.labels_alone

    def evaluated(
        self, step: int, scores: Mapping[str, float], confident: float | None, classes: ClassSums | None
    ) -> list[str]:
        """See `Guard.evaluated`."""
        return [] if self.labels_alone else self._gap(scores["student"], scores["teacher"])

    def _gap(self, student: float, teacher: float) -> list[str]:
        self.behind = self.behind + 1 if student - teacher > GAP else 0
        if not self.behind or self.switched:
            return []
        notice = (
            f"the teacher is {student - teacher:.1f} points behind the student ({teacher:.1f} against {student:.1f})"
        )
        if self.behind < PATIENCE:
            return [f"{notice}. Early on that passes; if it stays, its labels hold the student back."]
        if self.may_switch:
            self.method.student_labels = True
            return [f"{notice}, again: from now on the student labels (method.teacher auto)."]
        return [
            f"{notice}, again. method.teacher=student or auto lets the student label; a smaller ema_decay follows it."
        ]

    def state_dict(self) -> dict[str, Any]:
        """See `Guard.state_dict`."""
        return {"behind": self.behind, "switched": self.switched}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Guard.load_state_dict`."""
        self.behind = int(state["behind"])
        self.method.student_labels = self.labels_alone or bool(state["switched"])


@final
class ShareGuard(Guard):
    """Warns of a confident share that never leaves zero, and of one that falls away."""

    name = "share"

    def __init__(self) -> None:
        self.largest: float | None = None
        """Of all evaluations so far, 0..1; None before the first."""

    def evaluated(
        self, step: int, scores: Mapping[str, float], confident: float | None, classes: ClassSums | None
    ) -> list[str]:
        """See `Guard.evaluated`."""
        if confident is None:
            return []
        # The last bits depend on where a resumed run was interrupted.
        before, self.largest = self.largest, max(self.largest or 0.0, round(confident, 6))
        if self.largest < BEGUN:
            return self._never(step) if before is None else []
        if before is None or before < BEGUN or confident >= FALLEN * before:
            return []
        return [
            f"the share of confident pseudo-labels fell to {100 * confident:.1f} %, from up to {100 * before:.1f} %: "
            "there is little left to learn from. Look at the loss and the learning rate; a lower method.threshold "
            "lets more count."
        ]

    def ended(self, step: int) -> list[str]:
        """See `Guard.ended`."""
        return self._never(step) if self.largest is not None and self.largest < BEGUN else []

    def _never(self, step: int) -> list[str]:
        return [
            f"no unlabelled image has taught anything yet after {step} steps: the confident share is 0 %, so the score "
            "is that of labelled images alone. If that stays, train longer, lower method.threshold or give more labels."
        ]

    def state_dict(self) -> dict[str, Any]:
        """See `Guard.state_dict`."""
        return {"largest": self.largest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Guard.load_state_dict`."""
        self.largest = state["largest"]


@final
class CollapseGuard(Guard):
    """Warns once of each collapse of the pseudo-labels: into one class, or out of some that are labelled.

    They are compared with what was labelled in the same steps.
    """

    name = "collapse"

    def __init__(self, num_classes: int) -> None:
        # The last entry is of all classes together: whether one has taken everything.
        self.in_a_row = [0] * (num_classes + 1)
        self.fine_before = [False] * (num_classes + 1)

    def evaluated(
        self, step: int, scores: Mapping[str, float], confident: float | None, classes: ClassSums | None
    ) -> list[str]:
        """See `Guard.evaluated`."""
        return [] if classes is None else self._collapsed(classes, 1.0 if confident is None else confident)

    def _collapsed(self, sums: ClassSums, confident: float) -> list[str]:
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
                item = f"{name!r} ({100 * share:.2g} %, of what is labelled {100 * wanted:.2g} %)"
                (lost if known else never).append(item)
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

    def state_dict(self) -> dict[str, Any]:
        """See `Guard.state_dict`."""
        return {"in_a_row": list(self.in_a_row), "fine_before": list(self.fine_before)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Guard.load_state_dict`."""
        self.in_a_row, self.fine_before = list(state["in_a_row"]), list(state["fine_before"])


def _listed(items: list[str]) -> str:
    more = len(items) - _NAMED
    return ", ".join(items[:_NAMED]) + (f" and {more} more" if more > 0 else "")
