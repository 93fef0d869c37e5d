"""What a guard may change in a method while it trains, and which settings would have done so from the start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar, final, get_args

from torch import nn

from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.pseudo_labels import PseudoLabelRule
from semikit.core.settings import AutoThreshold, GivenTeacher, ThresholdSettings
from semikit.core.thresholds import ClassThreshold, FixedThreshold

QUANTILE = 0.8
"""Of the confidence of each class: its surest fifth begins to teach, as FreeMatch's threshold does in USB."""

RAMP = 0.1
"""Part of the run over which the unlabelled loss grows again."""

FASTER = 10
"""How many times as fast the teacher follows, or as much shorter its average is than what was trained so far."""

SHORTEST = 0.9
"""The least decay: a teacher that averages still fewer steps is its student."""

_MORE: Mapping[str, float] = {"threshold": 0.8, "quantile": 0.5, "deviations": 0.5, "minimum": 2.0}
"""Settings of methods that, times this, let more pseudo-labels count."""

FORGOTTEN = 0.05
"""Part of the first weights in an average below which they are of no matter."""

M = TypeVar("M", bound=nn.Module)


class Remedy(ABC):
    """A change of a method, from a step on. `name` is what checkpoints and results.json call it."""

    name: ClassVar[str]

    @abstractmethod
    def value(self, method: Method, step: int) -> float | None:
        """What it would set after `step` steps; None where the method cannot take it, or has it."""

    @abstractmethod
    def apply(self, method: Method, step: int, value: float) -> None:
        """Do it after `step` steps. Called again, with the same values, where a run goes on."""

    @abstractmethod
    def text(self, value: float) -> str:
        """What is so from then on."""

    @abstractmethod
    def setting(self, method: Method, value: float) -> str | None:
        """What to give to a new run instead, as KEY=VALUE; None where it is given."""


@final
class ClassThresholds(Remedy):
    """A threshold for each class in place of the fixed one, which then begins to learn what it is given."""

    name = "class_quantile"

    def value(self, method: Method, step: int) -> float | None:
        """See `Remedy.value`."""
        threshold, config = _part(method, PseudoLabelRule).threshold, method.config
        if not isinstance(config, ThresholdSettings) or not isinstance(threshold, FixedThreshold):
            return None
        return QUANTILE if threshold.threshold > 0 else None

    def apply(self, method: Method, step: int, value: float) -> None:
        """See `Remedy.apply`."""
        rule, device = _part(method, PseudoLabelRule), next(method.parameters()).device
        assert isinstance(rule.threshold, FixedThreshold)
        rule.threshold = ClassThreshold(method.run_info.num_classes, rule.threshold.threshold, value).to(device)

    def text(self, value: float) -> str:
        """See `Remedy.text`."""
        return f"of each predicted class at least the surest {100 * (1 - value):.0f} % count"

    def setting(self, method: Method, value: float) -> str | None:
        """See `Remedy.setting`."""
        return f"method.class_quantile={value:g}"


@final
class Ramp(Remedy):
    """The unlabelled loss begins at 0 and grows once more, so that the labelled images come first for a while."""

    name = "ramp"

    def value(self, method: Method, step: int) -> float | None:
        """See `Remedy.value`."""
        length = max(RAMP * method.run_info.iterations, _part(method, UnlabeledLoss).ramp_iterations)
        return float(max(1, round(length)))

    def apply(self, method: Method, step: int, value: float) -> None:
        """See `Remedy.apply`."""
        loss = _part(method, UnlabeledLoss)
        loss.ramp_start, loss.ramp_iterations = step, value

    def text(self, value: float) -> str:
        """See `Remedy.text`."""
        return f"the unlabelled loss grows from 0 over {value:.0f} iterations"

    def setting(self, method: Method, value: float) -> str | None:
        """See `Remedy.setting`."""
        return None if _part(method, UnlabeledLoss).config.ramp > 0 else "method.ramp=0.4"


@final
class FasterTeacher(Remedy):
    """A smaller decay of the average."""

    name = "ema_decay"

    def value(self, method: Method, step: int) -> float | None:
        """See `Remedy.value`."""
        taken = max(FASTER * (1 - method.ema_decay), FASTER / step)
        return None if method.ema_decay <= SHORTEST else max(SHORTEST, round(1 - taken, 6))

    def apply(self, method: Method, step: int, value: float) -> None:
        """See `Remedy.apply`."""
        method.ema_decay = value

    def text(self, value: float) -> str:
        """See `Remedy.text`."""
        return f"the teacher follows faster (ema_decay {value:g})"

    def setting(self, method: Method, value: float) -> str | None:
        """See `Remedy.setting`."""
        return f"method.ema_decay={value:g}"


@final
class StudentLabels(Remedy):
    """The student labels in place of its teacher."""

    name = "student_labels"

    def value(self, method: Method, step: int) -> float | None:
        """See `Remedy.value`: not where the method's own step asks its teacher (SimMatch, CoMatch)."""
        choices = get_args(type(method.config).model_fields["teacher"].annotation)
        return None if method.label_source is not method.teacher or GivenTeacher not in choices else 1.0

    def apply(self, method: Method, step: int, value: float) -> None:
        """See `Remedy.apply`."""
        method.student_labels = True

    def text(self, value: float) -> str:
        """See `Remedy.text`."""
        return "the student labels"

    def setting(self, method: Method, value: float) -> str | None:
        """See `Remedy.setting`."""
        return "method.teacher=student"


CLASS_THRESHOLDS, RAMP_AGAIN = ClassThresholds(), Ramp()
FASTER_TEACHER, STUDENT_LABELS = FasterTeacher(), StudentLabels()
_ALL: Mapping[str, Remedy] = {r.name: r for r in (CLASS_THRESHOLDS, RAMP_AGAIN, FASTER_TEACHER, STUDENT_LABELS)}


@final
@dataclass(frozen=True, slots=True)
class Action:
    """A remedy that was done after so many steps, and what it set."""

    iteration: int
    remedy: str
    value: float
    text: str


@final
class Remedies:
    """The remedies of a method, each at most once; `acts`: whether guards may do them, or only tell of them."""

    def __init__(self, method: Method, acts: bool) -> None:
        self.method = method
        self.acts = acts
        self.done: list[Action] = []

    def open(self, remedy: Remedy, step: int) -> float | None:
        """What a remedy would set; None where it was done or the method cannot take it."""
        return None if any(action.remedy == remedy.name for action in self.done) else remedy.value(self.method, step)

    def steps_left(self, step: int) -> bool:
        """Whether the run goes on after so many steps, so that a remedy does something."""
        return step < self.method.run_info.iterations

    def do(self, step: int, *remedies: Remedy) -> str | None:
        """Do those that are open, where guards act and steps are left: what is so from now on; None where nothing was
        done.
        """
        acts = self.acts and self.steps_left(step)
        found = [self.take(step, remedy) for remedy in remedies if acts and self.open(remedy, step) is not None]
        return f"from now on {' and '.join(found)} (train.guard act)" if found else None

    def take(self, step: int, remedy: Remedy) -> str:
        """Do a remedy that is open, whether guards act or not; what is so from now on."""
        value = self.open(remedy, step)
        assert value is not None, remedy
        remedy.apply(self.method, step, value)
        self.done.append(Action(step, remedy.name, value, remedy.text(value)))
        return self.done[-1].text

    def setting(self, step: int, remedy: Remedy) -> str | None:
        """What to give to a new run in place of a remedy that is open, as KEY=VALUE; None where there is nothing."""
        value = self.open(remedy, step)
        return None if value is None else remedy.setting(self.method, value)

    def next_to_try(self, step: int, *remedies: Remedy, others: Sequence[str | None] = (), soon: bool = False) -> str:
        """The sentences that name the settings of `remedies` that are open, then `others`, and how this run gets the
        former; empty where there are none. With `soon` guards that act do them at the next evaluation, and say that.
        """
        values = [(remedy, self.open(remedy, step)) for remedy in remedies]
        does = " and ".join(remedy.text(value) for remedy, value in values if value is not None)
        if does and self.acts and soon and self.steps_left(step):
            return f" If it is so at the next evaluation too, {does} from then on (train.guard act)."
        settings = [*(self.setting(step, remedy) for remedy in remedies), *others]
        named = [setting for setting in dict.fromkeys(settings) if setting is not None]
        new = f" Next to try: {' or '.join(named)}." if named else ""
        if not does or self.acts or not self.steps_left(step):
            return new
        return f"{new} This run may go on with train.guard=act: {does}."

    def state_dict(self) -> list[dict[str, Any]]:
        """What was done, as plain values."""
        return [asdict(action) for action in self.done]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Do again what was done before a checkpoint."""
        self.done = [Action(**values) for values in state]
        for action in self.done:
            _ALL[action.remedy].apply(self.method, action.iteration, action.value)


def untrained(method: Method, step: int) -> bool:
    """Whether an average that gives the labels still holds more than a part of the weights it began with."""
    return method.label_source is method.teacher and not method.config.ema_ramp and method.ema_decay**step > FORGOTTEN


def lower_threshold(method: Method) -> str | None:
    """The setting that lets more of all pseudo-labels count, as KEY=VALUE; None where all count."""
    for key, part in _MORE.items():
        if key in type(method.config).model_fields:
            given = getattr(method.config, key)  # no quantile: the mean, about the half
            if isinstance(given, AutoThreshold):
                continue
            value = part * (0.5 if given is None else given)
            return f"method.{key}={value:.2g}" if value > 0 else None
    return None


def class_balance(method: Method) -> str | None:
    """The setting that lets rare classes count more, as KEY=VALUE; None where it is given."""
    return None if getattr(method.config, "class_balance", 0.0) > 0 else "method.class_balance=0.5"


def _part(method: Method, kind: type[M]) -> M:
    return next(module for module in method.children() if isinstance(module, kind))
