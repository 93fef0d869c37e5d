"""The same step written plainly, to compare with: what UniMatch V2 costs without the choices made in this package.

The numbers are the same (a test holds them together); the way differs:
    labelled and strong images pass the student in two calls        (here: one call on accelerators)
    attention as a product of q and k, a softmax, a product with v  (scaled_dot_product_attention)
    the decoder's 1x1 convolutions after the enlargement            (before it)
    softmax, its maximum and the maximum of the logits              (one maximum)
    CutMix by boolean indexing, on clones for all maps              (torch.where)
    AdamW in a loop over the parameters                             (fused)
    the teacher's average in a loop, four operations a parameter    (one pass over all)
    the host reads losses and counts in every step                  (at the log interval)
"""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from semikit.benchmark import parts
from semikit.benchmark.watch import Watch
from semikit.benchmark.workload import Workload
from semikit.config import Config
from semikit.core.batch import Labeled, Unlabeled
from semikit.core.draws import draw
from semikit.core.dropout import Masks, apply_masks, channel_masks
from semikit.core.ema import ema_decay
from semikit.errors import InputError
from semikit.methods.unimatch_v2 import UniMatchV2Config
from semikit.models.decoders.dpt import DPT, Fusion
from semikit.models.segmenter import Segmenter
from semikit.training.optimizer import build_optimizer

IGNORED = 255


def check_naive(config: Config) -> None:
    """Refuse what the plain form does not do.

    Raises:
        InputError: for settings of the method, an optimiser, an accumulation or a precision it does not have.
    """
    assert isinstance(config.method, UniMatchV2Config)
    changed = {
        "method": config.method.model_copy(update={"threshold": 0.95, "forward": "auto"}) != UniMatchV2Config(),
        "optimizer.name": config.optimizer.name != "adamw",
        "train.accumulate": config.train.accumulate > 1,
        "train.precision fp16": config.train.precision == "fp16",
    }
    wrong = [name for name, is_so in changed.items() if is_so]
    if wrong:
        raise InputError(
            f"the naive form has the released method with AdamW in one batch, fp32 or bf16; changed here: "
            f"{', '.join(wrong)}. Leave that out, or measure without --against naive."
        )


@final
class NaiveStep:
    """One step with a student and a teacher of its own, which begin as the workload's do.

    Strong views are mixed in place: hand over copies.
    """

    def __init__(self, workload: Workload, watch: Watch) -> None:
        check_naive(workload.config)
        assert isinstance(workload.config.method, UniMatchV2Config)
        self.config, self.facts, self.watch = workload.config.method, workload.facts, watch
        self.autocast = workload.stepper.autocast
        self.student = plain_form(deepcopy(workload.network))
        self.student.train()
        self.teacher = deepcopy(self.student).requires_grad_(False).eval()
        settings = workload.config.optimizer
        groups = [
            {"params": group["params"], "lr": group["lr"]}
            for group in build_optimizer(self.student, settings).param_groups
        ]
        self.optimizer = optim.AdamW(groups, weight_decay=settings.weight_decay, foreach=False, fused=False)
        self.read: list[float] = []

    def __call__(self, labeled: Labeled, unlabeled: Unlabeled, step: int) -> Tensor:
        """The loss () of a step; parts as in semikit's own."""
        section = self.watch.section
        with section(parts.BACKWARD):
            with section(parts.MIXING):
                for view, box in zip(unlabeled.strong, unlabeled.boxes, strict=True):
                    _paste(view, view[unlabeled.partner], box.unsqueeze(1).expand(view.shape))
            with section(parts.TEACHER), torch.no_grad(), self.autocast():
                logits = self.teacher(unlabeled.weak)
                confidence, labels = logits.softmax(dim=1).max(dim=1)[0], logits.argmax(dim=1)
            loss = self._loss(labeled, unlabeled, labels, confidence.float(), step)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            with section(parts.OPTIMIZER):
                self.optimizer.step()
            with section(parts.EMA):
                average_in_a_loop(self.teacher, self.student, ema_decay(step, self.config.ema_decay))
        return loss.detach()

    def _loss(self, labeled: Labeled, unlabeled: Unlabeled, labels: Tensor, confidence: Tensor, step: int) -> Tensor:
        section = self.watch.section
        with section(parts.DRAWS):
            masks = self._masks(unlabeled, step)
        with self.autocast():
            with section(parts.LABELED):
                pred_labeled = self.student(labeled.images)
            with section(parts.STRONG):
                features = apply_masks(self.student.encode(torch.cat(unlabeled.strong)), masks)
                pred_strong = self.student.decode(features).chunk(2)
        with section(parts.MIXING):
            targets = [_mixed(unlabeled, view, labels, confidence) for view in range(2)]
        with section(parts.LOSSES):
            target = torch.where(labeled.valid, labeled.labels, IGNORED)
            loss_x = F.cross_entropy(pred_labeled.float(), target, ignore_index=IGNORED)
            loss_s = [self._unlabeled_loss(*pair) for pair in zip(pred_strong, targets, strict=True)]
            loss = (loss_x + (loss_s[0] + loss_s[1]) / 2) / 2
            share = (confidence >= self.config.threshold).sum() / confidence.numel()
            self.read = [value.item() for value in (loss, loss_x, *loss_s, share)]
        return loss

    def _unlabeled_loss(self, logits: Tensor, target: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        labels, confidence, valid = target
        loss = F.cross_entropy(logits.float(), labels, reduction="none")
        loss = loss * ((confidence >= self.config.threshold) & valid)
        return loss.sum() / valid.sum().item()

    def _masks(self, unlabeled: Unlabeled, step: int) -> Masks:
        """The masks of both strong views, one below the other."""
        first, second = channel_masks(
            draw(self.facts.seed, "dropout", step),
            len(unlabeled.index),
            self.student.widths,
            kind="complementary",
            streams=2,
            group=self.facts.group,
        )
        device = unlabeled.weak.device
        return tuple(torch.cat(pair).to(device) for pair in zip(first, second, strict=True))


@torch.no_grad()
def average_in_a_loop(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """Teacher <- decay · teacher + (1 - decay) · student, tensor by tensor; counts are copied."""
    kept = chain(teacher.parameters(), teacher.buffers())
    for average, new in zip(kept, chain(student.parameters(), student.buffers()), strict=True):
        average.copy_(average * decay + new.detach() * (1 - decay) if new.is_floating_point() else new)


def _mixed(unlabeled: Unlabeled, view: int, labels: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, confidence and valid of a strong view: three clones, into each of which the box is written."""
    box, partner = unlabeled.boxes[view], unlabeled.partner
    maps = labels.clone(), confidence.clone(), unlabeled.valid.clone()
    for values, source in zip(maps, (labels, confidence, unlabeled.valid), strict=True):
        _paste(values, source[partner], box)
    return maps


def _paste(values: Tensor, partner: Tensor, box: Tensor) -> None:
    values[box] = partner[box]


def plain_form(network: Segmenter) -> Segmenter:
    """The network itself, with explicit attention and, in DPT, its 1x1 convolutions after the enlargement."""
    for module in list(network.modules()):
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]
        if isinstance(module, DPT):
            module.fusions = nn.ModuleList(_LateFusion(fusion) for fusion in module.fusions)
    return network


@final
class _LateFusion(nn.Module):
    """A fusion of DPT that enlarges before its 1x1 convolution."""

    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        assert isinstance(fusion, Fusion), type(fusion)
        self.unit1, self.unit2, self.out_conv = fusion.unit1, fusion.unit2, fusion.out_conv

    def forward(self, coarse: Tensor | None, level: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, D, h, w) of the coarser path and of the level -> (B, D, *size)."""
        if coarse is not None:
            assert self.unit1 is not None
            level = coarse + self.unit1(level)
        enlarged = F.interpolate(self.unit2(level), size=size, mode="bilinear", align_corners=True)
        result: Tensor = self.out_conv(enlarged)
        return result
