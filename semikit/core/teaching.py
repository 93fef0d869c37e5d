"""A student with a teacher that is its moving average: what all methods of the first generation share."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from pydantic import Field
from torch import Tensor, nn

from semikit.core.batch import Labeled, RunInfo
from semikit.core.ema import ema_decay, update
from semikit.core.losses import Ohem, masked_cross_entropy, ohem_cross_entropy
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.settings.base import Settings


class TeachingSettings(Settings):
    """Settings of the labelled loss and of the teacher."""

    ema_decay: float = Field(default=0.996, ge=0, lt=1)
    """What the teacher keeps of itself at each step (0..1)."""
    ema_ramp: bool = True
    """Whether the decay starts at 0 and grows as 1 - 1 / (step + 1) up to `ema_decay`, as released."""
    ohem: Ohem | None = None
    """Hard example mining on labelled images; null: every valid position counts."""


class StudentTeacher(Method, ABC):
    """Student, teacher and the teacher's average. A method of this kind fills `requirements`, `label` and `forward`.

    The teacher is a copy without gradients, always in eval mode. `config` is an instance of the class's `Config`.
    """

    config: TeachingSettings

    def __init__(self, network: Network, config: Settings, run_info: RunInfo) -> None:
        nn.Module.__init__(self)
        assert isinstance(config, self.Config), type(config)
        assert isinstance(config, TeachingSettings), type(config)
        self.config = config
        self.run_info = run_info
        self.student = network
        self.teacher = deepcopy(network).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> StudentTeacher:
        """Set the student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def after_step(self, step: int, applied: Tensor) -> None:
        """Let the teacher follow the student (paper eq. 18)."""
        update(self.teacher, self.student, ema_decay(step, self.config.ema_decay, self.config.ema_ramp), applied)

    def labeled_loss(self, logits: Tensor, labeled: Labeled) -> Tensor:
        """Cross-entropy on labelled images (paper eq. 1), over hard positions where `ohem` is set, ()."""
        where = (logits, labeled.labels, labeled.valid, labeled.denominator)
        if self.config.ohem is None:
            return masked_cross_entropy(*where)
        return ohem_cross_entropy(*where, self.run_info.group, self.config.ohem)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in eval mode; on leaving every module gets back the mode it had."""
    if not network.training:
        yield network
        return
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield network
    finally:
        for module, mode in modes.items():
            module.training = mode
