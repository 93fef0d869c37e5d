"""Semikit's own step of classification with a stopwatch in it, from numbers of images to the teacher's average."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from benchmarks.step import parts
from benchmarks.step.class_workload import ClassWorkload, Raw
from benchmarks.step.watch import Replacement, Watch, in_place_of
from semikit.core import student_views as passes
from semikit.core.pseudo_labels import predict_logits
from semikit.methods import fixmatch, unimatch_v2

_METHODS = (fixmatch, unimatch_v2)
"""Who may ask a network for pseudo-labels."""


@final
class CurrentClassStep:
    """One step of training as the loop makes it; the code that runs is the code that trains."""

    def __init__(self, workload: ClassWorkload, watch: Watch) -> None:
        self.workload, self.watch = workload, watch
        method, stepper, compiled = workload.method, workload.stepper, workload.config.train.compiled
        self.replaced: list[Replacement] = [
            *((module, "predict_logits", watch.around(parts.TEACHER, predict_logits)) for module in _METHODS),
            (method, "pseudo_labels", watch.around(parts.DRAWS, method.pseudo_labels)),
            (method, "after_step", watch.around(parts.EMA, method.after_step)),
            (stepper, "_update", watch.around(parts.OPTIMIZER, stepper._update)),
            (stepper, "forward", watch.around(parts.COMPILED if compiled else parts.LOSSES, stepper.forward)),
        ]
        if not compiled:
            logits_of: Callable[..., Any] = watch.around(parts.FUSED, passes.logits_of)
            self.replaced.append((passes, "logits_of", logits_of))

    def __call__(self, raw: Raw, step: int) -> Tensor:
        """The loss () of a step. What no part claims is backward, with the release of the former gradients."""
        with in_place_of(self.replaced), self.watch.section(parts.BACKWARD):
            with self.watch.section(parts.VIEWS):
                labeled, unlabeled = self.workload.maker(raw, step, self.workload.device)
            return self.workload.stepper(labeled, unlabeled, step)["loss"]
