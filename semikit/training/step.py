"""One optimiser step: backward over micro-batches, and an update that skips non-finite gradients without asking the
device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, optim
from torch.nn.utils import get_total_norm
from torch.profiler import record_function

from semikit.core.batch import Labeled, Pseudo, StepResult, Unlabeled, share_of, take
from semikit.core.batch_norm import has_batch_norm
from semikit.core.flat import flat, spread
from semikit.core.method import Method
from semikit.distributed.collectives import mean_over_processes, process_count, sum_over_processes

if TYPE_CHECKING:  # its library takes a second to import
    from semikit.training.fsdp import Sharding

Forward = Callable[[Labeled, Unlabeled | None, Pseudo | None], StepResult]


PARTS = PSEUDO_LABELS, FORWARD, BACKWARD, UPDATE, AFTER_STEP = (
    "semikit pseudo_labels",
    "semikit forward",
    "semikit backward",
    "semikit optimizer update",
    "semikit after_step",
)
"""The ranges of a step that a profiler shows. They lie outside what is compiled, and cost microseconds a step."""
_OVERFLOWS = 40
"""Halvings in a row that take the first loss scale (2 ** 16) far below 1."""


@final
class Stepper:
    """Makes optimiser steps.

    `forward` is the method or its compiled form, with several processes in DistributedDataParallel, which averages the
    gradients after the last micro-batch; `autocast` is entered around every forward pass, `kernels` around forward and
    backward passes; `accumulate` the number of micro-batches. `skipped` () int64 counts the steps that were not
    applied, `first_skipped` () int64 is the first of them (-1: none); both stay on the device until somebody reads
    them.
    """

    def __init__(
        self,
        method: Method,
        forward: Forward,
        optimizer: optim.Optimizer,
        autocast: Callable[[], AbstractContextManager[Any]],
        accumulate: int,
        scaler: torch.amp.GradScaler | None,
        sharding: Sharding | None = None,
        kernels: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.method = method
        self.forward = forward
        self.optimizer = optimizer
        self.autocast = autocast
        self.accumulate = accumulate
        self.scaler = scaler
        self.sharding = sharding
        self.kernels = kernels
        if sharding is not None:
            sharding.hand_to(optimizer)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.find_buffers()
        self.own_statistics = process_count() > 1 and has_batch_norm(method.student)
        self.no_sync: Callable[[], AbstractContextManager[Any]] = getattr(forward, "no_sync", nullcontext)
        device = self.parameters[0].device
        self.skipped = torch.zeros((), dtype=torch.long, device=device)
        self.overflows = torch.zeros((), dtype=torch.long, device=device)
        self.first_skipped = torch.full((), -1, dtype=torch.long, device=device)

    def find_buffers(self) -> None:
        """Look for what a step changes beside the parameters: batch norm, thresholds, banks (the teacher follows
        afterwards). Needed again where the method was given another threshold.
        """
        unchanged = ("teacher.", "class_weights")
        self.buffers = [buffer for name, buffer in self.method.named_buffers() if not name.startswith(unchanged)]

    def __call__(self, labeled: Labeled, unlabeled: Unlabeled | None, step: int) -> dict[str, Tensor]:
        """Label, learn, update; returns scalars () on the device for the logs, of this process's share.

        Where it raises, everything is as it was before the step.
        """
        before = flat(self.buffers)
        try:
            with self.kernels():
                logs = self._learn(labeled, unlabeled, step)
            with record_function(UPDATE):
                applied = self._update(logs["loss"], before, step)
        except RuntimeError:
            spread(before, self.buffers)
            raise
        with record_function(AFTER_STEP):
            self.method.after_step(step, applied)
        return logs

    def _learn(self, labeled: Labeled, unlabeled: Unlabeled | None, step: int) -> dict[str, Tensor]:
        """Pseudo-labels and gradients, micro-batch by micro-batch; the logs add up."""
        self.optimizer.zero_grad(set_to_none=True)
        with record_function(PSEUDO_LABELS), self.autocast():
            pseudo = self.method.pseudo_labels(unlabeled, step)
        logs: dict[str, Tensor] = {}
        for number, part in enumerate(self._parts(labeled, unlabeled, pseudo), 1):
            # DistributedDataParallel decides in forward whether the backward pass sums over processes.
            summed = nullcontext() if number == self.accumulate else self.no_sync()
            with record_function(FORWARD), summed, self.autocast():
                result = self.forward(*part)
            loss = result.loss if self.scaler is None else self.scaler.scale(result.loss)
            with record_function(BACKWARD):
                loss.backward()  # type: ignore[no-untyped-call]
            for name, value in result.logs.items():
                logs[name] = logs[name] + value if name in logs else value
        return logs

    def _parts(
        self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None
    ) -> Iterator[tuple[Labeled, Unlabeled | None, Pseudo | None]]:
        """Consecutive micro-batches; denominators were counted over the whole batch, so losses simply add."""
        if self.accumulate == 1:
            yield labeled, unlabeled, pseudo
            return
        for i in range(self.accumulate):
            yield tuple(  # type: ignore[misc]
                None if item is None else take(item, share_of(length, i, self.accumulate))
                for item, length in (
                    (labeled, len(labeled.index)),
                    (unlabeled, 0 if unlabeled is None else len(unlabeled.index)),
                    (pseudo, 0 if unlabeled is None else len(unlabeled.index)),
                )
            )

    def _update(self, loss: Tensor, before: list[Tensor], step: int) -> Tensor:
        """Step the optimiser unless loss, gradient or a buffer is not finite; returns 1 or 0 as a tensor ()."""
        if self.sharding is not None:
            self.sharding.take_gradients()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        after = self._statistics()
        sound = torch.stack([torch.isfinite(loss), *_stayed_finite(before, after)]).all()
        finite = sound & torch.isfinite(get_total_norm(gradients, foreach=None))
        # Nothing is asked of other processes from here on.
        sound, finite = (sum_over_processes(torch.stack([~sound, ~finite]).float()) == 0).unbind()
        applied = finite.float()
        if self.scaler is None:
            # Fused optimisers skip a step on the device when this is 1; it is how torch's own GradScaler drives them.
            self.optimizer.found_inf = 1.0 - applied  # type: ignore[attr-defined]
            self.optimizer.step()
            bad = ~finite
        else:
            gradients[0].mul_(torch.where(sound, 1.0, torch.nan))  # the scaler checks gradients only
            self.scaler.step(self.optimizer)
            self.scaler.update()
            # An overflow of scaled gradients is how the scale is found; so many in a row are not.
            self.overflows.copy_(torch.where(finite, 0, self.overflows + 1))
            bad = ~sound | (self.overflows > _OVERFLOWS)
        settled = [torch.where(finite, new, old) for new, old in zip(after, before, strict=True)]
        spread(settled, self.buffers)
        self.first_skipped.copy_(torch.where(bad & (self.skipped == 0), step, self.first_skipped))
        self.skipped += bad
        return applied

    def _statistics(self) -> list[Tensor]:
        """The buffers after a step; batch norm's, which each process took of its own images, averaged."""
        found = flat(self.buffers)
        if not self.own_statistics:
            return found
        return [mean_over_processes(values) if values.is_floating_point() else values for values in found]


def _stayed_finite(before: list[Tensor], after: list[Tensor]) -> list[Tensor]:
    """Of each pair of vectors whether no value stopped being finite, (): masked pseudo-labels that are not numbers
    leave loss and gradient alone, but not the running averages of them.
    """
    pairs = zip(before, after, strict=True)
    return [(new.isfinite() | ~old.isfinite()).all() for old, new in pairs if new.is_floating_point()]
