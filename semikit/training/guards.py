"""Callbacks that follow the evaluations and warn early of a useless teacher and of pseudo-labels that never begin or
collapse, or do something about it (`train.guard: act`). K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

from semikit.core.method import Method
from semikit.core.settings import UnlabeledSettings
from semikit.training.meter import ClassSums
from semikit.training.remedies import (
    CLASS_THRESHOLDS,
    FASTER_TEACHER,
    RAMP_AGAIN,
    STUDENT_LABELS,
    Action,
    Remedies,
    Remedy,
    class_balance,
    lower_threshold,
    untrained,
)

GAP = 10.0
"""How far the teacher may stay behind the student, in points. With BEiT it stayed 18 behind in the authors' logs
(Table 9); with DINOv2 by 7 (Cityscapes) and 11 (WHU-CD) after the first epoch only."""

PATIENCE = 2
"""Evaluations in a row the teacher has to be behind before the student takes its place, or that have to find nothing
confident before something is done."""

SETTLED = 3.0
"""Lengths of its average that a teacher gets to come up once it follows faster: 5 % of the past is left in it then."""

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

_AGAIN = -2
"""Evaluations in a row after something was done: so many more have to pass before it is told that it did not help."""

_NAMED = 5
"""Classes that are named in one warning."""


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


@final
class Guards:
    """The guards of a method and what they did: none where nothing is learned from unlabelled images. With `acts` they
    do what they otherwise only tell of.
    """

    def __init__(self, method: Method, acts: bool = False) -> None:
        self.remedies = Remedies(method, acts)
        self.each: list[Guard] = []
        if isinstance(method.config, UnlabeledSettings):
            self.each = [
                TeacherGuard(self.remedies, method.config.teacher == "auto"),
                ShareGuard(self.remedies),
                CollapseGuard(self.remedies),
            ]

    def evaluated(
        self, step: int, scores: Mapping[str, float], confident: float | None, classes: ClassSums | None
    ) -> list[str]:
        """Notices for the user, see `Guard.evaluated`."""
        return [notice for guard in self.each for notice in guard.evaluated(step, scores, confident, classes)]

    def ended(self, step: int) -> list[str]:
        """What belongs beside the score, see `Guard.ended`."""
        return [notice for guard in self.each for notice in guard.ended(step)]

    def done(self, step: int | None = None) -> list[Action]:
        """What was done to the method, or what of it after so many steps."""
        return [action for action in self.remedies.done if step in (None, action.iteration)]

    def state_dict(self) -> dict[str, Any]:
        """The state of each by its name, as plain values."""
        return {guard.name: guard.state_dict() for guard in self.each} | {_DONE: self.remedies.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint, and change the method as it was changed. Those of before have less."""
        self.remedies.load_state_dict(state.get(_DONE, []))
        for guard in self.each:
            if guard.name in state:
                guard.load_state_dict(state[guard.name])


_DONE = "done"


@final
class TeacherGuard(Guard):
    """Warns of a teacher that stays behind the student. With `may_switch` (`method.teacher` auto) the student labels
    from then on; a guard that acts lets the teacher follow faster before.
    """

    name = "teacher"

    def __init__(self, remedies: Remedies, may_switch: bool) -> None:
        self.remedies = remedies
        self.method = remedies.method
        self.may_switch = may_switch
        self.labels_alone = (
            self.method.label_source is not self.method.teacher
        )  # from the start: how the teacher does is of no matter
        self.behind = 0
        self.settled = 0
        """The step from which a teacher that follows faster is looked at again."""

    @property
    def switched(self) -> bool:
        """Whether the student took the teacher's place."""
        return self.method.student_labels and not self.labels_alone

    def evaluated(
        self, step: int, scores: Mapping[str, float], confident: float | None, classes: ClassSums | None
    ) -> list[str]:
        """See `Guard.evaluated`."""
        if self.labels_alone or step < self.settled:
            return []
        return self._gap(step, scores["student"], scores["teacher"])

    def _gap(self, step: int, student: float, teacher: float) -> list[str]:
        self.behind = self.behind + 1 if student - teacher > GAP else 0
        if not self.behind or self.switched:
            return []
        notice = (
            f"the teacher is {student - teacher:.1f} points behind the student ({teacher:.1f} against {student:.1f})"
        )
        if self.behind < PATIENCE:
            return [
                f"{notice}. Early on that passes; if it stays, its labels hold the student back."
                f"{self._next(step, soon=True)}"
            ]
        for remedy in (FASTER_TEACHER, STUDENT_LABELS):
            done = self.remedies.do(step, remedy)
            if done is not None:
                self.behind, self.settled = 0, step + round(SETTLED / (1 - self.method.ema_decay))
                return [f"{notice}, again: {done}."]
        if self.behind > PATIENCE:  # told
            return []
        if self.may_switch:
            return [f"{notice}, again: from now on {self.remedies.take(step, STUDENT_LABELS)} (method.teacher auto)."]
        return [f"{notice}, again.{self._next(step)}"]

    def _next(self, step: int, soon: bool = False) -> str:
        if self.may_switch and not self.remedies.acts:
            return " Then the student labels (method.teacher auto)."
        ladder = [r for r in (FASTER_TEACHER, STUDENT_LABELS) if self.remedies.open(r, step) is not None]
        return self.remedies.next_to_try(step, *ladder[:1], others=["method.teacher=student"], soon=soon)

    def state_dict(self) -> dict[str, Any]:
        """See `Guard.state_dict`."""
        return {"behind": self.behind, "switched": self.switched, "settled": self.settled}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Guard.load_state_dict`."""
        self.behind, self.settled = int(state["behind"]), int(state.get("settled", 0))
        self.method.student_labels = self.labels_alone or bool(state["switched"])


@final
class ShareGuard(Guard):
    """Warns of a confident share that never leaves zero, and of one that falls away. Where it never does, a guard that
    acts lets a teacher that is hardly trained follow faster, else the surest of each class count.
    """

    name = "share"

    def __init__(self, remedies: Remedies) -> None:
        self.remedies = remedies
        self.largest: float | None = None
        """Of all evaluations so far, 0..1; None before the first."""
        self.fallen = False
        """Whether it had fallen away at the last evaluation, which was told."""
        self.without = 0
        """Evaluations so far that found nothing confident."""

    def evaluated(
        self, step: int, scores: Mapping[str, float], confident: float | None, classes: ClassSums | None
    ) -> list[str]:
        """See `Guard.evaluated`."""
        if confident is None:
            return []
        # The last bits depend on where a resumed run was interrupted.
        before = self.largest or 0.0
        self.largest = max(before, round(confident, 6))
        if self.largest < BEGUN:
            return self._not_begun(step)
        told, self.fallen = self.fallen, before >= BEGUN and confident < FALLEN * before
        if told or not self.fallen:
            return []
        return [
            f"the share of confident pseudo-labels fell to {100 * confident:.1f} %, from up to {100 * before:.1f} %: "
            "there is little left to learn from. Look at the loss and the learning rate."
            f"{self.remedies.next_to_try(step, others=[lower_threshold(self.remedies.method)])}"
        ]

    def _not_begun(self, step: int) -> list[str]:
        self.without += 1
        if self.without == 1:
            others = [self.remedies.setting(step, CLASS_THRESHOLDS), lower_threshold(self.remedies.method)]
            following = self.remedies.next_to_try(step, self._first(step), others=others, soon=True)
            return [
                f"{self._nothing(step)}. If that stays, the score will be that of labelled images alone.{following}"
            ]
        done = self.remedies.do(step, self._first(step)) if self.without >= PATIENCE else None
        if done is None:
            return []
        self.without = 0  # the next remedy needs two evaluations again
        return [f"{self._nothing(step)}: {done}."]

    def _first(self, step: int) -> Remedy:
        """What to do first: no threshold helps where the teacher is the network as it began."""
        slow = untrained(self.remedies.method, step) and self.remedies.open(FASTER_TEACHER, step) is not None
        return FASTER_TEACHER if slow else CLASS_THRESHOLDS

    def ended(self, step: int) -> list[str]:
        """See `Guard.ended`."""
        if self.largest is None or self.largest >= BEGUN:
            return []
        firsts = [self.remedies.setting(step, remedy) for remedy in (self._first(step), CLASS_THRESHOLDS)]
        others = [*firsts, lower_threshold(self.remedies.method)]
        following = self.remedies.next_to_try(step, others=others)
        return [
            f"{self._nothing(step)}, so the score is that of labelled images alone. Train longer or give more labels."
            f"{following}"
        ]

    def _nothing(self, step: int) -> str:
        return f"no unlabelled image has taught anything yet after {step} steps: the confident share is 0 %"

    def state_dict(self) -> dict[str, Any]:
        """See `Guard.state_dict`."""
        return {"largest": self.largest, "without": self.without, "fallen": self.fallen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Guard.load_state_dict`."""
        self.largest = state["largest"]
        self.without = int(state.get("without", 0 if self.largest is None else 1))
        self.fallen = bool(state.get("fallen", False))


@final
class CollapseGuard(Guard):
    """Warns once of each collapse of the pseudo-labels: into one class, or out of some that are labelled. A guard that
    acts lets the surest of each class count, and in a collapse into one the unlabelled loss grow anew.

    They are compared with what was labelled in the same steps.
    """

    name = "collapse"

    def __init__(self, remedies: Remedies) -> None:
        self.remedies = remedies
        # The last entry is of all classes together: whether one has taken everything.
        self.in_a_row = [0] * (remedies.method.run_info.num_classes + 1)
        self.fine_before = [False] * len(self.in_a_row)

    def evaluated(
        self, step: int, scores: Mapping[str, float], confident: float | None, classes: ClassSums | None
    ) -> list[str]:
        """See `Guard.evaluated`."""
        if classes is None or not (sum(classes.predicted) > 0 and sum(classes.labeled) > 0):
            return []
        alone = self._alone(classes, 1.0 if confident is None else confident)
        absent = self._absent(classes, 1.0 if confident is None else confident)
        if alone is not None:
            return [self._with_remedy(step, alone, CLASS_THRESHOLDS, RAMP_AGAIN)]
        return [self._with_remedy(step, notice, CLASS_THRESHOLDS) for notice in absent]

    def _with_remedy(self, step: int, notice: str, *remedies: Remedy) -> str:
        """The notice with what is done now, or what may be tried."""
        done = self.remedies.do(step, *remedies)
        if done is None:
            others = [class_balance(self.remedies.method)]
            return f"{notice}{self.remedies.next_to_try(step, *remedies, others=others)} More labels help too."
        self.in_a_row = [_AGAIN if bad else 0 for bad in self.in_a_row]
        return f"{notice} {done[0].upper()}{done[1:]}."

    def _alone(self, sums: ClassSums, confident: float) -> str | None:
        """That one class has just taken everything."""
        labeled, predicted = sums.shares()
        most = max(range(len(predicted)), key=predicted.__getitem__)
        others, wanted = 1 - predicted[most], 1 - labeled[most]
        if sum(sums.predicted) * wanted < ENOUGH:
            return None
        too_much = confident * predicted[most] > labeled[most] + EXCESS * wanted
        if not self._due(-1, too_much and others < min(ALONE, wanted / FEWER), _ONE):
            return None
        return (
            f"{100 * predicted[most]:.1f} % of the confident pseudo-labels ({100 * confident:.1f} % of all) are "
            f"{sums.names[most]!r}, which is {100 * labeled[most]:.1f} % of what is labelled: the classes collapse "
            "into one. Look at the losses; the run may also go on from before with a lower optimizer.lr."
        )

    def _absent(self, sums: ClassSums, confident: float) -> list[str]:
        """Which classes are not predicted any more, and which still are not."""
        found = sum(sums.predicted)
        lost: list[str] = []
        never: list[str] = []
        for number, (name, wanted, share) in enumerate(zip(sums.names, *sums.shares(), strict=True)):
            known, absent = self.fine_before[number], share <= ABSENT * wanted
            if found * wanted < ENOUGH or (absent and not known and confident < HALF):
                continue
            if self._due(number, absent, _CLASS):
                item = f"{name!r} ({100 * share:.2g} %, of what is labelled {100 * wanted:.2g} %)"
                (lost if known else never).append(item)
        return [
            f"{begun} the confident pseudo-labels: {_listed(items)}. Unlabelled images teach nothing of what is not "
            "predicted."
            for begun, items in (("no longer among", lost), ("still not among", never))
            if items
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
