"""The same step on pixels as the field's public code makes it, written plainly, to compare with.

The numbers are the same in one precision (a test holds them together); the way differs:
    float images of three views, int64 and float maps are moved, and waited for   (uint8 crops; views on the device)
    the two dates of a pair pass the encoder in two calls                         (one call)
    labelled and strong images pass the student in two calls                      (one call on accelerators)
    attention as a product of q and k, a softmax, a product with v                (scaled_dot_product_attention)
    the decoder's 1x1 convolutions after the enlargement                          (before it)
    softmax, its maximum and the maximum of the logits                            (one maximum)
    CutMix by boolean indexing, on clones for all maps                            (torch.where)
    the kept images of the dropout indexed from the host                          (drawn into the mask)
    AdamW in a loop over the parameters                                           (fused)
    the teacher's average in a loop, four operations a parameter                  (one pass over all)
    the host reads losses and counts in every step                                (at the log interval)
    fp32, unless asked otherwise                                                  (the run's precision)
The public code's search for unused parameters and its barrier need several processes and have no counterpart here.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from benchmarks.step import parts
from benchmarks.step.host_batch import IGNORED, Dates, HostBatch, host_batch
from benchmarks.step.pil_colour import PilColours
from benchmarks.step.plain_network import encode, plain_form
from benchmarks.step.watch import Watch
from benchmarks.step.workload import Raw, Workload
from semikit.core.channel_dropout import ChannelDropout, Masks, apply_masks, channel_masks
from semikit.core.ema import ema_decay
from semikit.core.mixing import partners
from semikit.core.rng import rng_for
from semikit.errors import InputError
from semikit.methods.unimatch_v2 import UniMatchV2Config
from semikit.run.config import Config
from semikit.training.device import autocast
from semikit.training.optimizer import build_optimizer

_FREE = {"threshold": 0.95, "forward": "auto", "teacher": "ema"}


def check_reference(config: Config) -> None:
    """Refuse what the reference does not do.

    Raises:
        InputError: for settings of the method, an optimiser, an accumulation or a precision it does not have.
    """
    assert isinstance(config.method, UniMatchV2Config)
    changed = {
        "method": config.method.model_copy(update=_FREE) != UniMatchV2Config(),
        "method.teacher": config.method.teacher == "auto",
        "optimizer.name": config.optimizer.name != "adamw",
        "train.accumulate": config.train.micro_batches > 1,
        "train.precision fp16": config.train.precision == "fp16",
        "train.normalise": config.train.normalise != "total",
    }
    wrong = [name for name, is_so in changed.items() if is_so]
    if wrong:
        raise InputError(
            f"the reference has the released method with AdamW in one batch, fp32 or bf16; changed here: "
            f"{', '.join(wrong)}. Leave that out, or measure without --against reference."
        )


@final
class ReferenceStep:
    """One step with a student and a teacher of its own, which begin as the workload's do.

    `precision` is its own. `loader`: also do in every step, as a part beside it, what a loader of the field does with
    PIL; the images of the step are semikit's views made on the host, so that both forms learn from the same.
    """

    def __init__(self, workload: Workload, watch: Watch, precision: str = "fp32", *, loader: bool = True) -> None:
        check_reference(workload.config)
        assert isinstance(workload.config.method, UniMatchV2Config)
        self.workload, self.watch = workload, watch
        self.config, self.facts, self.device = workload.config.method, workload.facts, workload.device
        self.autocast = autocast(workload.device, precision)
        self.student = plain_form(deepcopy(workload.network))
        self.student.train()
        self.teacher = deepcopy(self.student).requires_grad_(False).eval()
        settings = workload.config.optimizer
        groups = [
            {"params": group["params"], "lr": group["lr"]}
            for group in build_optimizer(self.student, settings).param_groups
        ]
        self.optimizer = optim.AdamW(groups, weight_decay=settings.weight_decay, foreach=False, fused=False)
        train = workload.config.train
        self.partner = partners(train.batch * train.ratio, train.group).to(self.device)
        self.loader = PilColours(workload) if loader else None
        self.read: list[float] = []
        assert isinstance(self.config.threshold, float), self.config.threshold
        self.threshold = self.config.threshold

    def __call__(self, raw: Raw, step: int) -> Tensor:
        """The loss () of a step; parts as in semikit's own."""
        section, given = self.watch.section, host_batch(self.workload, raw, step)
        if self.loader is not None:
            with section(parts.LOADER):
                self.loader(raw, step)
        with section(parts.BACKWARD):
            with section(parts.VIEWS):
                batch = given.moved(self._moved)
            with section(parts.MIXING):
                for view, box in zip(batch.strong, batch.boxes, strict=True):
                    for image in view:
                        _paste(image, image[self.partner], box.unsqueeze(1).expand(image.shape))
            with section(parts.TEACHER), torch.no_grad(), self.autocast():
                logits = self._label(batch.weak)
                confidence, labels = logits.softmax(dim=1).max(dim=1)[0], logits.argmax(dim=1)
            loss = self._loss(batch, labels, confidence.float(), step)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            with section(parts.OPTIMIZER):
                self.optimizer.step()
            with section(parts.EMA):
                average_in_a_loop(self.teacher, self.student, ema_decay(step, self.config.ema_decay))
        return loss.detach()

    def _moved(self, tensor: Tensor) -> Tensor:
        """On the device, a tensor of its own; the host waits for the copy."""
        return tensor.to(self.device, copy=True)

    def _label(self, weak: Dates) -> Tensor:
        labeler = self.teacher if self.config.teacher == "ema" else self.student
        labeler.eval()
        logits = labeler.decode(encode(labeler, weak))
        self.student.train()
        return logits

    def _loss(self, batch: HostBatch, labels: Tensor, confidence: Tensor, step: int) -> Tensor:
        section = self.watch.section
        with section(parts.DRAWS):
            masks = self._masks(len(batch.ignore), step)
        with self.autocast():
            with section(parts.LABELED):
                pred_labeled = self.student.decode(encode(self.student, batch.labeled))
            with section(parts.STRONG):
                both = tuple(torch.cat(views) for views in zip(*batch.strong, strict=True))
                features = apply_masks(encode(self.student, both), masks)
                pred_strong = self.student.decode(features).chunk(2)
        with section(parts.MIXING):
            targets = [self._mixed(batch, view, labels, confidence) for view in range(2)]
        with section(parts.LOSSES):
            loss_x = F.cross_entropy(pred_labeled.float(), batch.labels, ignore_index=IGNORED)
            loss_s = [self._unlabeled_loss(*pair) for pair in zip(pred_strong, targets, strict=True)]
            loss = (loss_x + (loss_s[0] + loss_s[1]) / 2) / 2
            share = (confidence >= self.threshold).sum() / confidence.numel()
            self.read = [value.item() for value in (loss, loss_x, *loss_s, share)]
        return loss

    def _mixed(self, batch: HostBatch, view: int, labels: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Labels, confidence and ignored pixels of a strong view: three clones, the box written into each."""
        maps = labels.clone(), confidence.clone(), batch.ignore.clone()
        for values, source in zip(maps, (labels, confidence, batch.ignore), strict=True):
            _paste(values, source[self.partner], batch.boxes[view])
        return maps

    def _unlabeled_loss(self, logits: Tensor, target: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        labels, confidence, ignore = target
        loss = F.cross_entropy(logits.float(), labels, reduction="none")
        loss = loss * ((confidence >= self.threshold) & (ignore != IGNORED))
        return loss.sum() / (ignore != IGNORED).sum().item()

    def _masks(self, count: int, step: int) -> Masks:
        """The masks of both strong views, one below the other; the host names the images that keep all channels."""
        (first, _) = channel_masks(
            rng_for(self.facts.seed, "dropout", step),
            count,
            self.student.widths,
            ChannelDropout(),
            views=2,
            group=self.facts.group,
        )
        made: dict[int, Tensor] = {}
        for mask in first:
            if id(mask) not in made:
                kept = torch.from_numpy(np.flatnonzero((mask.numpy() == 1).all(axis=1)))
                one = mask.to(self.device)
                two = 2 - one
                one[kept], two[kept] = 1.0, 1.0
                made[id(mask)] = torch.cat((one, two))
        return tuple(made[id(mask)] for mask in first)


@torch.no_grad()
def average_in_a_loop(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """Teacher <- decay · teacher + (1 - decay) · student, tensor by tensor; counts are copied."""
    kept = chain(teacher.parameters(), teacher.buffers())
    for average, new in zip(kept, chain(student.parameters(), student.buffers()), strict=True):
        average.copy_(average * decay + new.detach() * (1 - decay) if new.is_floating_point() else new)


def _paste(values: Tensor, partner: Tensor, box: Tensor) -> None:
    values[box == 1] = partner[box == 1]
