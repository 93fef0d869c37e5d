"""UniMatch V1 (Yang et al. 2023): two strong views and a feature-dropped weak view learn from the weak one."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from semikit.core.batch import Labeled, Pseudo, Requirements, StepResult, Unlabeled
from semikit.core.channel_dropout import Masks, apply_masks, channel_masks, select
from semikit.core.consistency import ConsistencyMethod, ConsistencySettings, predict_labels, prepare
from semikit.core.network import Features
from semikit.core.pseudo_labels import pseudo_label
from semikit.core.rng import rng_for
from semikit.core.student_views import logits_of
from semikit.distributed.collectives import over_all_processes
from semikit.settings.base import Settings


@final
class UniMatchV1Config(ConsistencySettings):
    """Settings of UniMatch V1. It was published without a teacher: with `teacher: student` the average is kept for
    evaluation only. The V1 of the V2 paper's Table 5 has `teacher: ema`.
    """

    teacher: Literal["ema", "student", "auto"] = "student"
    """Who gives the pseudo-labels: the student in its own training pass, the average, or auto (see ema)."""
    rate: float = Field(default=0.5, gt=0, lt=1)
    """Share of the channels dropped from the weak view's features (0..1)."""


@final
class UniMatchV1(ConsistencyMethod):
    """The student labels the weak view in its own training pass (paper eq. 6-11; as released).

    The strong views are mixed with a second weak batch, which the student labels in eval mode beforehand. The released
    code also decodes dropped features of labelled images and drops the result; that is left out here, and only the
    statistics of a batch norm in the decoder see the difference.
    """

    Config = UniMatchV1Config
    config: UniMatchV1Config

    @classmethod
    def requirements(cls, config: Settings) -> Requirements:
        """Two strong views, and a second weak batch to mix with."""
        return Requirements(strong_views=2, partner_batch=True)

    @classmethod
    def needs_full_batch(cls, config: Settings) -> bool:
        """Where the student labels: pseudo-labels come out of the training pass."""
        assert isinstance(config, UniMatchV1Config)
        return config.teacher == "student"

    def label(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """The labels of what was pasted into the strong views, and the dropout of the step."""
        assert unlabeled is not None
        assert unlabeled.partner_batch is not None
        self.emphasis.begin(step)
        pseudo = prepare(unlabeled, self.run_info, self._masks(unlabeled, step))
        labeler = self.labeler
        labels, confidence = (
            values[unlabeled.partner] for values in predict_labels(labeler, unlabeled.partner_batch.images)
        )
        pseudo = replace(pseudo, views=tuple(replace(v, labels=labels, confidence=confidence) for v in pseudo.views))
        if self.needs_full_batch(self.config):
            return pseudo
        pseudo = _unpasted(pseudo, unlabeled, *predict_labels(labeler, unlabeled.weak))
        self.emphasis.observe(pseudo.weak)
        return pseudo

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The labelled loss, the feature-dropped weak view's and half of each strong view's (eq. 11)."""
        assert unlabeled is not None
        assert pseudo is not None
        pred_labeled, pred_weak, pred_dropped = self._weak_pass(labeled, unlabeled, pseudo.masks[0])
        pred_strong = logits_of(self.student, unlabeled.strong, [(), ()], "encoder")
        if self.needs_full_batch(self.config):
            pseudo = _unpasted(pseudo, unlabeled, *pseudo_label(pred_weak))
            self.emphasis.observe(pseudo.weak)
        loss_x = self.labeled_loss(pred_labeled, labeled)
        loss_1, loss_2 = map(self.emphasis.loss, pred_strong, pseudo.views)
        loss_fp = self.emphasis.loss(pred_dropped, pseudo.weak)
        return self.emphasis.result(loss_x, 0.25 * loss_1 + 0.25 * loss_2 + 0.5 * loss_fp, labeled, pseudo.weak)

    def _weak_pass(self, labeled: Labeled, unlabeled: Unlabeled, masks: Masks) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the labelled, the weak and the feature-dropped weak images, encoded once."""
        sizes = [len(labeled.images), len(unlabeled.weak), len(unlabeled.weak)]
        features = self.student.encode(torch.cat([labeled.images, unlabeled.weak]))
        weak = Features(tuple(level[sizes[0] :] for level in features.levels), features.size)
        pairs = zip(features.levels, apply_masks(weak, masks).levels, strict=True)
        logits = self.student.decode(Features(tuple(torch.cat(pair) for pair in pairs), features.size))
        pred_labeled, pred_weak, pred_dropped = torch.split(logits, sizes)
        return pred_labeled, pred_weak, pred_dropped

    def _masks(self, unlabeled: Unlabeled, step: int) -> tuple[Masks, ...]:
        """Channel dropout of the weak features, each level for itself."""
        rng, widths = rng_for(self.run_info.seed, "dropout", step), self.student.widths
        masks = channel_masks(
            rng,
            over_all_processes(len(unlabeled.positions)),
            widths,
            kind="independent",
            streams=1,
            group=self.run_info.group,
            kept=0.0,
            rate=self.config.rate,
            shared=False,
        )
        return select(masks, unlabeled.positions, unlabeled.weak.device)


def _unpasted(pseudo: Pseudo, unlabeled: Unlabeled, labels: Tensor, confidence: Tensor) -> Pseudo:
    """Pseudo-labels (B, *S) of the weak views put where the strong views show the image itself."""
    boxes = unlabeled.boxes or (torch.zeros_like(unlabeled.valid),) * len(pseudo.views)
    views = tuple(
        replace(
            pasted,
            labels=torch.where(box, pasted.labels, labels),
            confidence=torch.where(box, pasted.confidence, confidence),
        )
        for box, pasted in zip(boxes, pseudo.views, strict=True)
    )
    return replace(pseudo, weak=replace(pseudo.weak, labels=labels, confidence=confidence), views=views)


plugin = UniMatchV1
