"""Semikit's own step with a stopwatch in it; the code that runs is the code that trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from benchmarks.step import parts
from benchmarks.step.watch import Replacement, Watch, in_place_of
from benchmarks.step.workload import Raw, Workload
from semikit.core import mixing, pseudo_labels
from semikit.core import student_views as passes
from semikit.methods import unimatch_v2
from semikit.tasks import _pixels


@final
class CurrentStep:
    """One step of training, from the loader's crops to the teacher's average."""

    def __init__(self, workload: Workload, watch: Watch) -> None:
        self.workload, self.watch, self.compiled = workload, watch, workload.config.train.compiled
        method, stepper = workload.method, workload.stepper
        self.replaced: list[Replacement] = [
            (_pixels, "mix_images", watch.around(parts.MIXING, mixing.mix_images)),
            (unimatch_v2, "predict_logits", watch.around(parts.TEACHER, pseudo_labels.predict_logits)),
            (pseudo_labels, "predicted", watch.around(parts.TEACHER, pseudo_labels.predicted)),
            (method.rule, "targets", watch.around(parts.MIXING, method.rule.targets)),
            (method, "pseudo_labels", watch.around(parts.DRAWS, method.pseudo_labels)),
            (method, "after_step", watch.around(parts.EMA, method.after_step)),
            (stepper, "_update", watch.around(parts.OPTIMIZER, stepper._update)),
            (stepper, "forward", watch.around(parts.COMPILED if self.compiled else parts.LOSSES, stepper.forward)),
        ]
        if not self.compiled:
            self.replaced.append((passes, "logits_of", self._logits_of(passes.logits_of)))

    def __call__(self, raw: Raw, step: int) -> Tensor:
        """The loss () of a step. What no part claims is backward, with the release of the former gradients."""
        with in_place_of(self.replaced), self.watch.section(parts.BACKWARD):
            with self.watch.section(parts.VIEWS):
                labeled, unlabeled = self.workload.maker(raw, step, self.workload.device)
            self.labeled = labeled.images
            return self.workload.stepper(labeled, unlabeled, step)["loss"]

    def _logits_of(self, function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
        def timed(network: Any, images: Any, masks: Any, position: Any) -> tuple[Tensor, ...]:
            name = parts.STRONG
            if images[0] is self.labeled:
                name = parts.LABELED if len(images) == 1 else parts.FUSED
            with self.watch.section(name):
                return function(network, images, masks, position)

        return timed
