"""AugSeg (Zhao et al. 2023): random intensity, and labelled images pasted into those the teacher is not sure of.

Tasks: seg, cd
Paper: arXiv 2212.04976
Cost: 1.0
For: few labels, which come back in the images the teacher does not know yet
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Target, Unlabeled, to_device
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.mixing import box_mask, boxes_about, mix_images
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits, probabilities_of
from semikit.core.rng import rng_for
from semikit.core.settings import ThresholdSettings, UnlabeledSettings
from semikit.core.student_views import check_forward, student_views
from semikit.core.thresholds import threshold_of
from semikit.distributed.collectives import gather_over_processes

_INJECTED, _PASTED = (8.0, 2.0), (4.0, 4.0)
"""As released: of the beta distributions of 1 minus the area of a box from a labelled and from an unlabelled image."""
_MARGIN = 8
"""As released: the middle of a box lies behind the first eighth of the rows and columns."""
_SMALLEST = 1e-10


@final
class AugSegConfig(ThresholdSettings, UnlabeledSettings):
    """Settings of AugSeg, as published for Pascal VOC (for Cityscapes threshold 0 and ema_decay 0.996); the recipes of
    the tasks draw intensities from its list (`views.strong.kind`).
    """

    loss: Literal["released", "paper"] = "paper"
    """paper: labelled + λ · unlabelled; released: that divided by 1 + λ, as UniMatch's segmentation code does."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """What the teacher keeps of itself at each step (0..1)."""
    forward: Literal["auto", "fused", "separate"] = "auto"
    """How images pass through the student: auto, fused or separate."""


@final
class AugSeg(Method):
    """Confident pseudo-labels of the weak view teach a strong one, mixed by how sure the teacher is of the image."""

    Config = AugSegConfig
    config: AugSegConfig

    @classmethod
    def requirements(cls, config: AugSegConfig) -> Requirements:
        """One strong view of pixels, not mixed."""
        return Requirements(strong_views=1, pixels=True, own_mixing=True)

    @classmethod
    def needs_full_batch(cls, config: AugSegConfig) -> bool:
        """Images of the whole step are mixed, labelled ones among them."""
        return True

    def __init__(self, network: Network, config: AugSegConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        threshold = threshold_of(config, run_info)
        self.rule = PseudoLabelRule(run_info, threshold, class_balance=config.class_balance)

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """The label source labels the weak views; what is pasted, and which images a labelled one is pasted into: the
        less sure it is of one the likelier.
        """
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        logits = predict_logits(self.label_source, unlabeled.weak, self.label_pass)
        injected, pasted, chance = self._boxes(unlabeled, step)
        injected = injected & (chance > image_confidence(logits, unlabeled.valid))[:, None, None]
        return replace(self.rule(logits, unlabeled), draws=(injected, pasted))

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss, and that of the strong view as it is mixed here."""
        assert unlabeled is not None
        assert pseudo is not None
        images, target = self._mixed(labeled, unlabeled, pseudo)
        unlabeled, config = replace(unlabeled, strong=(images,)), self.config
        pred = student_views(self.student, labeled, unlabeled, config.forward, statistics=config.batch_norm)
        loss_x, loss_u = self.supervised_loss(pred.labeled, labeled), self.unlabeled_loss(pred.strong[0], target)
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, pseudo.weak)

    def _mixed(self, labeled: Labeled, unlabeled: Unlabeled, pseudo: Pseudo) -> tuple[Tensor, Target]:
        """Adaptive label-injecting CutMix: a box of each strong view is taken from its partner, into which one of a
        labelled image was pasted before where it was chosen.
        """
        (strong,), (target,), (injected, pasted) = unlabeled.strong, pseudo.views, pseudo.draws
        count = len(strong)
        taken = torch.arange(count, device=strong.device) * len(labeled.images) // count
        balance = None if self.rule.balance is None else self.rule.balance.weights()[labeled.labels]
        truth = Target(labeled.labels, labeled.valid, labeled.valid, labeled.denominator, class_weights=balance)
        filled = mix_images(strong, injected, labeled.images, taken)
        pool = self.rule.mixed(target, injected, truth, taken)
        filled = gather_over_processes(filled) if unlabeled.cross_rank else filled
        mixed = self.rule.mixed(target, pasted, pool, unlabeled.partner, unlabeled.cross_rank)
        return mix_images(strong, pasted, filled, unlabeled.partner), mixed

    def _boxes(self, unlabeled: Unlabeled, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, H, W) bool from labelled and from unlabelled images, and numbers in 0..1 (B,), by where the images
        stand in the total batch.
        """
        seed, last = self.run_info.seed, unlabeled.positions.stop
        size = (unlabeled.valid.shape[-2], unlabeled.valid.shape[-1])
        boxes = []
        for name, shape in (("injected", _INJECTED), ("pasted", _PASTED)):
            sides = np.sqrt(1 - rng_for(seed, f"{name}-area", step).beta(*shape, last))
            places = rng_for(seed, f"{name}-place", step).random((last, 2))
            boxes.append(boxes_about(sides, places, size, _MARGIN))
        chance = torch.from_numpy(rng_for(seed, "injected", step).random(last, dtype=np.float32))
        own = slice(unlabeled.positions.start, last)
        injected, pasted, chance = to_device(tuple(drawn[own] for drawn in (*boxes, chance)), unlabeled.weak.device)
        return box_mask(injected, size), box_mask(pasted, size), chance


@torch.no_grad()
def image_confidence(logits: Tensor, valid: Tensor) -> Tensor:
    """How sure a network is of each image by logits (B, K, H, W): the mean over valid pixels (B, H, W) bool of the
    greatest probability times 1 minus the entropy as a part of the greatest possible one, (B,) in 0..1.
    """
    probabilities = probabilities_of(logits)
    entropy = -(probabilities * (probabilities + _SMALLEST).log()).sum(dim=1) / math.log(logits.shape[1])
    sure = torch.where(valid, (1 - entropy) * probabilities.amax(dim=1), 0.0)
    return sure.flatten(1).sum(dim=1) / valid.flatten(1).sum(dim=1).clamp(min=1)


plugin = AugSeg
