"""UniMatch V2 (Yang et al. 2024): two strong views under complementary channel dropout learn from the weak one."""

from __future__ import annotations

from typing import Literal, final

import torch
from pydantic import Field, model_validator

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.channel_dropout import Draw, Kind, Levels, Masks, channel_masks, check_levels, select
from semikit.core.consistency import ConsistencySettings
from semikit.core.labeling import LabelingMethod, LabelingSettings
from semikit.core.network import Network
from semikit.core.rng import rng_for
from semikit.core.student_views import Position, student_pass
from semikit.distributed.collectives import over_all_processes
from semikit.settings.base import Settings

_PAPER = {"kept": 0.0, "draw": "half", "loss": "paper"}


@final
class UniMatchV2Config(ConsistencySettings, LabelingSettings):
    """Settings of UniMatch V2. The variants of the paper's Table 6: 4a is streams 1, dropout independent; 4b dropout
    none; 4c dropout independent.
    """

    follow: Literal["released", "paper"] = "released"
    """Where code and paper differ: paper sets kept 0, draw half and loss paper, unless they are given."""
    streams: Literal[1, 2] = 2
    """Strong views of an image."""
    dropout: Kind = "complementary"
    """Channel dropout on the strong views: complementary, independent or none."""
    position: Position = "encoder"
    """Where it acts: between encoder and decoder, or between decoder and classifier (Table 12)."""
    rate: float = Field(default=0.5, gt=0, lt=1)
    """Share of the channels dropped (0..1); in complementary dropout by the first view."""
    kept: float = Field(default=0.5, ge=0, le=1)
    """Share of the images of a group that keep all channels (0..1)."""
    draw: Draw = "bernoulli"
    """bernoulli: each channel by itself; half: exactly the rounded share of channels (eq. 14)."""
    levels: Levels = "all"
    """Which levels of the encoder are dropped, by index from 0; all: every one."""

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, raw: object) -> object:
        return {**_PAPER, **raw} if isinstance(raw, dict) and raw.get("follow") == "paper" else raw

    @model_validator(mode="after")
    def _fits(self) -> UniMatchV2Config:
        if self.streams == 1 and self.dropout == "complementary":
            raise ValueError("dropout 'complementary' needs streams 2; with streams 1 use 'independent' or 'none'")
        if self.position == "decoder" and self.levels != "all":
            raise ValueError("levels are levels of the encoder; with position 'decoder' leave levels at 'all'")
        return self


@final
class UniMatchV2(LabelingMethod):
    """Algorithm 1 of the paper."""

    Config = UniMatchV2Config
    config: UniMatchV2Config

    @classmethod
    def requirements(cls, config: Settings) -> Requirements:
        """A strong view for each stream."""
        assert isinstance(config, UniMatchV2Config)
        return Requirements(strong_views=config.streams)

    def __init__(self, network: Network, config: Settings, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_levels(self.config.levels, network.widths)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The labelled loss, and the mean of the strong views' (eq. 16, 17)."""
        assert unlabeled is not None
        assert pseudo is not None
        where, mode = self.config.position, self.config.forward
        predictions = student_pass(self.student, labeled, unlabeled, pseudo.masks, where, mode)
        pred_labeled, pred_weak, pred_strong = predictions
        pseudo = self.labeled_by(pred_weak, pred_labeled, pseudo, unlabeled, labeled)
        loss_x = self.labeled_loss(pred_labeled, labeled)
        loss_s = [self.emphasis.loss(logits, target) for logits, target in zip(pred_strong, pseudo.views, strict=True)]
        return self.emphasis.result(loss_x, torch.stack(loss_s).mean(), labeled, pseudo.weak)

    def masks(self, unlabeled: Unlabeled, step: int) -> tuple[Masks, ...]:
        """Complementary channel masks (eq. 14, 15), drawn over the total batch so that sharing it changes nothing."""
        config = self.config
        masks = channel_masks(
            rng_for(self.run_info.seed, "dropout", step),
            over_all_processes(len(unlabeled.positions)),
            self.student.widths if config.position == "encoder" else (self.student.embed_dim,),
            kind=config.dropout,
            streams=config.streams,
            group=self.run_info.group,
            kept=config.kept,
            draw=config.draw,
            levels=config.levels,
            rate=config.rate,
        )
        return select(masks, unlabeled.positions, unlabeled.weak.device)


plugin = UniMatchV2
