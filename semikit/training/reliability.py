"""The gate of `method.threshold: auto`: how often confident pseudo-labels are right on held-out labels, and which rule
follows from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import nn

from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule
from semikit.core.task import Inference, Task
from semikit.core.thresholds import GatedThreshold
from semikit.distributed.collectives import own_share, sum_over_processes
from semikit.distributed.groups import GO, agreed


@final
@dataclass(frozen=True, slots=True)
class Reliability:
    """What was measured after `iteration` steps on `images` held-out images, and the rule chosen by it: "strict" or
    "floor" with its `threshold` of then. `right` of the `confident` of all `positions` had the right class.
    """

    iteration: int
    images: int
    positions: int
    confident: int
    right: int
    level: float
    rule: str
    threshold: float

    @property
    def share(self) -> float | None:
        """π, how often a confident pseudo-label is right (0..1); None where there is none."""
        return self.right / self.confident if self.confident else None

    def plain(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {"reliability": self.share, **asdict(self)}

    def row(self) -> dict[str, float]:
        """Columns of the table of evaluations."""
        measured = {} if self.share is None else {"reliability": self.share}
        return {**measured, "threshold": self.threshold}

    def text(self, strict: float) -> str:
        """The measurement and what follows, as a sentence."""
        if self.share is None:
            return (
                f"none of {self.positions} held-out positions reaches the confidence {strict:g}: threshold {strict:g} "
                "stays (method.threshold auto)"
            )
        rule = f"{strict:g} stays" if self.rule == "strict" else f"an adaptive floor, {self.threshold:.3f} now"
        return (
            f"of the held-out pseudo-labels with confidence {strict:g} {100 * self.share:.1f} % are right "
            f"({self.right} of {self.confident} positions in {self.images} images; {100 * self.level:g} % suffice): "
            f"threshold: {rule} (method.threshold auto)"
        )


@final
class Gate:
    """Measures a method's label source at every evaluation and sets its threshold; does nothing for a method whose
    threshold is not chosen.
    """

    def __init__(self, method: Method, task: Task) -> None:
        self.method, self.task = method, task
        self.last: Reliability | None = None

    def measure(self, step: int, networks: Mapping[str, Network], inference: Inference) -> str | None:
        """After `step` steps, by `networks` ("student" and "teacher", in eval mode): what a user should know, at first
        and where the rule changes. All processes have to call it; it may wait for the device.
        """
        threshold = self._threshold
        if threshold is None:
            return None
        settings = threshold.settings
        positions, confident, right = self._counts(self._labeler(networks), settings.strict, inference)
        level = settings.strict if settings.level is None else settings.level
        reliable = not confident or right >= level * confident
        threshold.reliable.fill_(float(reliable))
        rule, now = "strict" if reliable else "floor", round(float(threshold.current), 6)
        images = len(self.task.calibration)
        before, self.last = self.last, Reliability(step, images, positions, confident, right, level, rule, now)
        told = before is not None and (before.rule, before.share is None) == (rule, self.last.share is None)
        return None if told else self.last.text(settings.strict)

    @property
    def _threshold(self) -> GatedThreshold | None:
        rules = [module for module in self.method.children() if isinstance(module, PseudoLabelRule)]
        found = [rule.threshold for rule in rules if isinstance(rule.threshold, GatedThreshold)]
        return found[0] if found else None

    def _labeler(self, networks: Mapping[str, Network]) -> nn.Module:
        """Who labels, as it is evaluated."""
        if self.method.given:
            return getattr(self.method.given[0], "network", self.method.given[0])
        return networks["student" if self.method.student_labels else "teacher"]

    def _counts(self, network: nn.Module, threshold: float, inference: Inference) -> tuple[int, ...]:
        """Valid positions of the held-out images, those of at least the confidence `threshold`, and of these those
        with the right class, over all processes.
        """
        mine = [self.task.calibration[k] for k in own_share(len(self.task.calibration))]
        counts = torch.zeros(3, dtype=torch.float64, device=inference.device)
        for seen in self.task.examined(network, "train", inference, mine)[1]:  # type: ignore[arg-type]
            confident = (seen.surest >= threshold) & seen.valid
            right = confident & (seen.most == seen.labels)
            counts += torch.stack([seen.valid.sum(), confident.sum(), right.sum()])
        agreed(GO)
        return tuple(int(count) for count in sum_over_processes(counts).tolist())

    def state(self) -> dict[str, Any] | None:
        """What was measured last, as plain values; the rule itself is a buffer of the method."""
        return None if self.last is None else asdict(self.last)

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Restore the state of a checkpoint."""
        self.last = None if state is None else Reliability(**state)
