"""How a student learns: the frame every method of `semikit.methods` fills, and what methods have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.ema import ema_decay, update
from semikit.core.losses import masked_cross_entropy, ohem_cross_entropy
from semikit.core.network import Network
from semikit.core.pseudo_labels import NetworkCall, call
from semikit.core.settings import MethodSettings, UnlabeledSettings


@final
@dataclass(frozen=True, slots=True)
class Round:
    """One run of a method that takes several (self-training): the sub-folder it is kept in, "" for the run's own; what
    is laid over the settings of the run, and added to its seed; the sub-folders of the networks that label for it; the
    round whose reliable images alone it learns as unlabelled ("": all are); and the round that labelled images which it
    learns beside the labelled ones ("": none).

    Of a round with `reliable` above 0 that share of the unlabelled images, those its snapshots agree on most, counts as
    reliable afterwards. One with `picks` labels the unlabelled images of each class that it is surest of, a share of
    them that is larger the rarer the class is among the labels, by that power (`run/rounds.py`).
    """

    folder: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 0
    teachers: tuple[str, ...] = ()
    only: str = ""
    also: str = ""
    reliable: float = 0.0
    picks: float | None = None


class Method(nn.Module, ABC):
    """One way to learn from labelled and unlabelled images. Three calls make a step: `pseudo_labels`, `forward`,
    `after_step`. What varies (rule, passes, dropout) is handed in; a subclass is final.

    Only `forward` is wrapped by DDP and `torch.compile`, so the network may be called in it as often as needed, and
    nothing is drawn in it: draws are tensors of `Pseudo`. The teacher is a copy of the student without gradients,
    always in eval mode, that follows it as a moving average. `config` is an instance of the class's `Config`.
    `label_pass` is how the label source is called: it may be compiled. `peers` are further students, as many as
    `Requirements.students` asks for; few methods take any.
    """

    Config: ClassVar[type[MethodSettings]]
    config: MethodSettings
    student: Network
    teacher: Network
    class_weights: Tensor | None

    @classmethod
    @abstractmethod
    def requirements(cls, config: Any) -> Requirements:
        """What the task has to supply for this configuration."""

    @classmethod
    def needs_full_batch(cls, config: Any) -> bool:
        """Whether a batch may not be cut: the student labels in its own training pass, or images see one another."""
        return False

    @classmethod
    def rounds(cls, config: Any) -> Sequence[Round]:
        """The runs it takes, in their order, the last one its own; none: that alone."""
        return ()

    def __init__(self, network: Network, config: MethodSettings, run_info: RunInfo, *peers: Network) -> None:
        super().__init__()
        self.config = config
        self.run_info = run_info
        self.student = network
        self.peers = nn.ModuleList(peers)
        self.teacher = deepcopy(network).requires_grad_(False).eval()
        weights = None if run_info.class_weights is None else torch.tensor(run_info.class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.ema_decay = config.ema_decay
        self.label_pass: NetworkCall = call
        self.given: tuple[nn.Module, ...] = ()
        """A trained network that labels in place of both; in a tuple, for it is no part of the method: never saved."""
        self.student_labels = isinstance(config, UnlabeledSettings) and config.teacher == "student"

    @property
    def students(self) -> list[Network]:
        """All networks that are trained: the student, which is evaluated and kept, and its peers."""
        return [self.student, *self.peers]

    def train(self, mode: bool = True) -> Self:
        """Set the student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    @property
    def label_source(self) -> nn.Module:
        """Whose pseudo-labels are learned at this step: images (B, C, H, W) -> logits (B, K, *S). The trainer's guards
        may switch `student_labels`, as they may lower `ema_decay`, while a run goes on.
        """
        return self.given[0] if self.given else self.student if self.student_labels else self.teacher

    def extra_parameters(self) -> list[nn.Parameter]:
        """What the method itself learns beside the student (a head of its own); at the rate of the decoder."""
        return []

    @abstractmethod
    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo | None:
        """Targets for the whole step's batch, without gradient, and the step's draws."""

    @abstractmethod
    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The loss of a (micro-)batch."""

    def after_step(self, step: int, applied: Tensor) -> None:
        """What follows the optimiser's step `step` (from 0): the teacher follows the student (paper eq. 18).

        `applied` () float is 1 where the optimiser really stepped, 0 where it skipped a non-finite gradient; it stays
        on the device.
        """
        decay = ema_decay(step, self.ema_decay, self.config.ema_ramp)
        for average, learned in self.averages():
            update(average, learned, decay, applied)

    def averages(self) -> list[tuple[nn.Module, nn.Module]]:
        """What follows as a moving average, each with what it follows: the teacher, and what a method adds."""
        return [(self.teacher, self.student)]

    def supervised_loss(self, logits: Tensor, labeled: Labeled) -> Tensor:
        """Cross-entropy on labelled images (paper eq. 1), over hard positions where `ohem` is set, ().

        Class weights multiply the loss of each position; it is divided by the count of positions all the same.
        """
        weights = None if self.class_weights is None else self.class_weights[labeled.labels]
        if self.config.ohem is None:
            mask = labeled.valid if weights is None else labeled.valid * weights
            return masked_cross_entropy(logits, labeled.labels, mask, labeled.denominator)
        where = (logits, labeled.labels, labeled.valid, labeled.denominator)
        return ohem_cross_entropy(*where, self.run_info.group, self.config.ohem, weights)


@final
@dataclass(frozen=True, slots=True)
class Variant:
    """A method that is another one with something else handed in (FlexMatch is FixMatch with another threshold).

    It is found and called as a method's class is: `Config` are its settings, `build` makes it.
    """

    base: type[Method]
    Config: type[MethodSettings]
    build: Callable[[Network, Any, RunInfo], Method]
    needs: Requirements
    full_batch: Callable[[Any], bool] | None = None
    takes: Callable[[Any], Sequence[Round]] | None = None

    def rounds(self, config: Any) -> Sequence[Round]:
        """See `Method.rounds`."""
        return self.base.rounds(config) if self.takes is None else self.takes(config)

    def requirements(self, config: Any) -> Requirements:
        """See `Method.requirements`."""
        return self.needs

    def needs_full_batch(self, config: Any) -> bool:
        """See `Method.needs_full_batch`."""
        return self.base.needs_full_batch(config) if self.full_batch is None else self.full_batch(config)

    def __call__(self, network: Network, config: Any, run_info: RunInfo) -> Method:
        """A new method, as the class would give it."""
        return self.build(network, config, run_info)
