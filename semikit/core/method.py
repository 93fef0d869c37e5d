"""How a student learns: the frame every method of `semikit.methods` fills."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.collapse import ClassSums
from semikit.core.network import Network
from semikit.settings.base import Settings


class Method(nn.Module, ABC):
    """One way to learn from labelled and unlabelled images. Three calls make a step: `label`, `forward`, `after_step`.

    Only `forward` is wrapped by DDP and `torch.compile`, so the network may be called in it as often as needed, and
    nothing is drawn in it: draws are tensors of `Pseudo`. `teacher` has no gradients and is always in eval mode.
    """

    Config: ClassVar[type[Settings]]
    student: Network
    teacher: Network

    @classmethod
    @abstractmethod
    def requirements(cls, config: Settings) -> Requirements:
        """What the task has to supply for this configuration."""

    @classmethod
    def needs_full_batch(cls, config: Settings) -> bool:
        """Whether pseudo-labels come out of the student's own training pass, so that a batch may not be cut."""
        return False

    @abstractmethod
    def __init__(self, network: Network, config: Settings, run_info: RunInfo) -> None: ...

    def extra_parameters(self) -> list[nn.Parameter]:
        """What the method itself learns beside the student (a head of its own); at the rate of the decoder."""
        return []

    @abstractmethod
    def label(self, unlabeled: Unlabeled | None, step: int) -> Pseudo | None:
        """Pseudo-labels for the whole step's batch, without gradient, and the step's draws."""

    @abstractmethod
    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The loss of a (micro-)batch."""

    @abstractmethod
    def after_step(self, step: int, applied: Tensor) -> None:
        """What follows the optimiser's step `step` (from 0): the teacher's average, banks, counts.

        `applied` () float is 1 where the optimiser really stepped, 0 where it skipped a non-finite gradient; it stays
        on the device.
        """

    def after_evaluation(
        self, scores: Mapping[str, float], confident: float | None, classes: ClassSums | None = None
    ) -> list[str]:
        """What follows an evaluation; returns what a person should know.

        `scores` are those of "student" and "teacher" in percent; since the evaluation before, `confident` is the mean
        share of confident positions (0..1) and `classes` how often each class came, None where the method has none.
        """
        return []
