"""The same step of classification written plainly, in two forms, to compare with.

reference, as the field's public code does it:
    every image through PIL, one by one, then scaled, normalised and stacked   (here: batched on the device)
    float images are moved, and waited for                                     (numbers of images)
    activations and sums write new maps                                        (in place)
    the host waits for the device before and after the update                  (never)
    the average is kept as a shadow, of which a network is loaded every step   (in the network itself)
    fp32, unless asked otherwise                                               (the run's precision)
contiguous, with semikit's views and network, so that only these differ, as they do in the reference too:
    tensors with the channels first                                            (last)
    SGD in a loop over the parameters                                          (fused)
    the average in a loop over parameters and buffers                          (one pass over all)
    the host reads losses and counts in every step                             (at the log interval)
The numbers are the same in one precision (a test holds them together).
"""

from __future__ import annotations

from copy import deepcopy
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from benchmarks.step import parts
from benchmarks.step.class_workload import ClassWorkload, Raw, configure_classes
from benchmarks.step.pil_views import PilViews
from benchmarks.step.reference import average_in_a_loop
from benchmarks.step.watch import Watch
from semikit.core.batch import Unlabeled
from semikit.core.settings import PseudoLabelSettings
from semikit.errors import InputError
from semikit.methods.fixmatch import FixMatchConfig
from semikit.methods.unimatch_v2 import UniMatchV2, UniMatchV2Config
from semikit.models.classifier import Classifier
from semikit.models.encoders.wide_resnet import SLOPE, Block, WideResNet
from semikit.run.config import Config
from semikit.tasks._training_data import LABELED
from semikit.training.device import autocast
from semikit.training.optimizer import build_optimizer


def check_class_reference(config: Config) -> None:
    """Refuse what the plain forms do not do.

    Raises:
        InputError: for settings of the method, an optimiser, an encoder or a precision they do not have.
    """
    assert isinstance(config.method, (FixMatchConfig, UniMatchV2Config))
    recipe = configure_classes({"method": {"name": config.method_name}})
    changed = {
        "method": config.method.model_copy(update={"threshold": 0.95}) != recipe.method,
        "model.encoder": not config.model.encoder.startswith("wrn"),
        "optimizer.name": config.optimizer.name != "sgd",
        "train.accumulate": config.train.micro_batches > 1,
        "train.precision fp16": config.train.precision == "fp16",
    }
    wrong = [name for name, is_so in changed.items() if is_so]
    if wrong:
        raise InputError(
            f"the reference has the recipe's method, a wide network and SGD in one batch, fp32 or bf16; changed here: "
            f"{', '.join(wrong)}. Leave that out, or measure without --against."
        )


@final
class ClassReferenceStep:
    """One step with a student and a teacher of its own, which begin as the workload's do.

    `pil`: the reference, else the contiguous form; `precision` is its own.
    """

    def __init__(self, workload: ClassWorkload, watch: Watch, precision: str = "fp32", *, pil: bool) -> None:
        check_class_reference(workload.config)
        assert isinstance(workload.config.method, PseudoLabelSettings)
        self.workload, self.watch, self.config = workload, watch, workload.config.method
        self.device, self.autocast = workload.device, autocast(workload.device, precision)
        self.threshold = getattr(workload.config.method, "threshold", 0.0)
        self.student = deepcopy(workload.network)
        if pil:
            plain_form(self.student)
        self.student.train()
        self.teacher = deepcopy(self.student).requires_grad_(False).eval()
        self.pil = PilViews(workload) if pil else None
        self.shadow = ShadowAverage(self.teacher) if pil else None
        settings = workload.config.optimizer
        groups = [
            {key: group[key] for key in ("params", "lr", "weight_decay")}
            for group in build_optimizer(self.student, settings).param_groups
        ]
        self.optimizer = optim.SGD(
            groups, momentum=settings.momentum, nesterov=settings.nesterov, foreach=False, fused=False
        )
        self.read: list[float] = []

    def __call__(self, raw: Raw, step: int) -> Tensor:
        """The loss () of a step; parts as in semikit's own."""
        section = self.watch.section
        with section(parts.BACKWARD):
            labeled, weak, strong, labels = self._views(raw, step)
            loss = self._loss(labeled, weak, strong, labels, step)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            with section(parts.OPTIMIZER):
                self._wait()
                self.optimizer.step()
                self._wait()
            with section(parts.EMA):
                if self.shadow is None:
                    average_in_a_loop(self.teacher, self.student, self.config.ema_decay)
                else:
                    self.shadow(self.student, self.config.ema_decay)
        return loss.detach()

    def _wait(self) -> None:
        if self.pil is not None and self.device.type != "cpu":
            torch.accelerator.synchronize()

    def _views(self, raw: Raw, step: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...], Tensor]:
        """Labelled images, weak views, strong views, labels."""
        if self.pil is not None:
            with self.watch.section(parts.LOADER):
                images, weak, strong = self.pil(raw, step)
                labels = self.workload.labels[raw[LABELED][0]]
            with self.watch.section(parts.VIEWS):
                moved = [part.to(self.device, copy=True) for part in (images, weak, *strong, labels)]
            return moved[0], moved[1], tuple(moved[2:-1]), moved[-1]
        with self.watch.section(parts.VIEWS):
            labeled, unlabeled = self.workload.maker(raw, step, self.device)
            assert unlabeled is not None
            strong = tuple(view.contiguous() for view in unlabeled.strong)
            return labeled.images.contiguous(), unlabeled.weak.contiguous(), strong, labeled.labels

    def _loss(self, labeled: Tensor, weak: Tensor, strong: tuple[Tensor, ...], labels: Tensor, step: int) -> Tensor:
        section = self.watch.section
        with section(parts.DRAWS):
            masks = self._masks(weak, strong, step)
        with section(parts.FUSED), self.autocast():
            pooled = self.student.encode(torch.cat([labeled, weak, *strong])).levels[0]
            if masks is not None:
                pooled = pooled * masks
            logits = self.student.classifier(pooled).float()
        with section(parts.LOSSES):
            pred_labeled, pred_weak, *pred_strong = logits.split([len(labeled), *([len(weak)] * (1 + len(strong)))])
            confidence, pseudo = pred_weak.detach().softmax(dim=1).max(dim=1)
            mask = (confidence >= self.threshold).float()
            loss_x = F.cross_entropy(pred_labeled, labels)
            losses = [(F.cross_entropy(pred, pseudo, reduction="none") * mask).mean() for pred in pred_strong]
            loss_u = torch.stack(losses).mean()
            loss: Tensor = loss_x + loss_u
            self.read = [value.item() for value in (loss, loss_x, loss_u, mask.mean())]
        return loss

    def _masks(self, weak: Tensor, strong: tuple[Tensor, ...], step: int) -> Tensor | None:
        """Channel masks (ΣB, D) of all images of the pass, ones where nothing is dropped; None without dropout."""
        count, device = len(weak), self.device
        none = torch.zeros(0, device=device)
        made = Unlabeled(weak, strong, none, (), none, none, range(count))
        method = self.workload.method
        masks = method._channel_masks(made, step) if isinstance(method, UniMatchV2) else ()
        if not masks:
            return None
        kept = torch.ones(self.workload.config.train.batch + count, self.student.embed_dim, device=device)
        return torch.cat([kept, *(levels[0] for levels in masks)])


@final
class ShadowAverage:
    """The average as a mapping of tensors: after each step the network is loaded from the student, then from it."""

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher = teacher
        self.shadow = {name: value.clone() for name, value in teacher.state_dict().items()}

    @torch.no_grad()
    def __call__(self, student: nn.Module, decay: float) -> None:
        """Shadow <- decay · shadow + (1 - decay) · student, tensor by tensor; counts are copied."""
        new = student.state_dict()
        for name, average in self.shadow.items():
            self.shadow[name] = (
                average * decay + new[name] * (1 - decay) if new[name].is_floating_point() else new[name]
            )
        self.teacher.load_state_dict(new)
        self.teacher.load_state_dict(self.shadow)


def plain_form(network: Classifier) -> Classifier:
    """The network itself, whose blocks write their activations and sums into new maps."""
    encoder = network.encoder
    assert isinstance(encoder, WideResNet)
    encoder.blocks = nn.Sequential(*(_PlainBlock(block) for block in encoder.blocks))
    return network


@final
class _PlainBlock(nn.Module):
    """A block of the wide network in which nothing is changed in place."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        assert isinstance(block, Block), type(block)
        self.both, self.raw = block.both, block.raw
        self.norm1, self.conv1, self.norm2, self.conv2 = block.norm1, block.conv1, block.norm2, block.conv2
        self.shortcut = block.shortcut

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, inputs, h, w) -> (B, width, h / stride, w / stride)."""
        active = maps if self.raw else F.leaky_relu(self.norm1(maps), SLOPE)
        inner = F.leaky_relu(self.norm2(self.conv1(active)), SLOPE)
        result: Tensor = self.shortcut(active if self.both else maps) + self.conv2(inner)
        return result
