"""UniMatch V2 (Yang et al. 2024): two strong views under complementary channel dropout learn from the weak one.

Tasks: seg, cd, cls
Paper: arXiv 2410.10777
Cost: 1.2
For: the default: few labels, pretrained encoders
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import BeforeValidator, model_validator

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.channel_dropout import ChannelDropout, Masks, check_levels, step_masks
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits
from semikit.core.settings import RENAMED_LABELS, PseudoLabelSettings, ThresholdSettings, named_kind
from semikit.core.student_views import check_forward, student_views
from semikit.core.thresholds import threshold_of


@final
class UniMatchV2Config(ThresholdSettings, PseudoLabelSettings):
    """Settings of UniMatch V2. The variants of the paper's Table 6: 4a is streams 1, dropout independent; 4b dropout
    none; 4c dropout independent.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {
        **RENAMED_LABELS,
        **{"kept": "dropout.undropped", "draw": "dropout.sampling"},
        **{key: f"dropout.{key}" for key in ("position", "rate", "levels")},
    }

    streams: Literal[1, 2] = 2
    """Strong views of an image."""
    dropout: Annotated[ChannelDropout, BeforeValidator(named_kind)] = ChannelDropout()
    """Channel dropout on the strong views: complementary, independent, none, or a mapping with the details."""
    follow: Literal["released", "paper"] = "released"
    """Where code and paper differ: paper sets dropout.undropped 0, dropout.sampling half, loss paper, unless given."""

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get("follow") != "paper":
            return raw
        given = named_kind(raw.get("dropout", {}))
        dropout = {"undropped": 0.0, "sampling": "half", **given} if isinstance(given, dict) else given
        return {"loss": "paper", **raw, "dropout": dropout}

    @model_validator(mode="after")
    def _fits(self) -> UniMatchV2Config:
        if self.streams == 1 and self.dropout.kind == "complementary":
            raise ValueError("dropout 'complementary' needs streams 2; with streams 1 use 'independent' or 'none'")
        if self.dropout.position == "decoder" and self.dropout.levels != "all":
            raise ValueError("dropout.levels are levels of the encoder; with position 'decoder' leave them at 'all'")
        return self


@final
class UniMatchV2(Method):
    """Algorithm 1 of the paper."""

    Config = UniMatchV2Config
    config: UniMatchV2Config

    @classmethod
    def requirements(cls, config: UniMatchV2Config) -> Requirements:
        """A strong view for each stream."""
        return Requirements(strong_views=config.streams)

    @classmethod
    def needs_full_batch(cls, config: UniMatchV2Config) -> bool:
        """Only where the student labels inside its joint pass."""
        return config.joint

    def __init__(self, network: Network, config: UniMatchV2Config, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        check_levels(config.dropout, network.widths)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule.of(config, run_info, threshold_of(config, run_info))

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """The teacher labels the weak views (eq. 2, 3); channel masks are drawn (eq. 14, 15)."""
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        masks = self._channel_masks(unlabeled, step)
        if self.config.joint:  # the student labels in `forward`
            return Pseudo(masks=masks)
        logits = predict_logits(self.label_source, unlabeled.weak, self.label_pass)
        return replace(self.rule(logits, unlabeled), masks=masks)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss, and the mean of the strong views' (eq. 16, 17)."""
        assert unlabeled is not None
        assert pseudo is not None
        config = self.config
        how = config.forward, pseudo.masks, config.dropout.position, config.batch_norm
        pred = student_views(self.student, labeled, unlabeled, *how)
        if config.joint:
            pseudo = self.rule(pred.weak, unlabeled, (pred.labeled, labeled))
        loss_x = self.supervised_loss(pred.labeled, labeled)
        loss_s = [self.unlabeled_loss(*pair) for pair in zip(pred.strong, pseudo.views, strict=True)]
        return self.unlabeled_loss.combine(loss_x, torch.stack(loss_s).mean(), labeled, pseudo.weak)

    def _channel_masks(self, unlabeled: Unlabeled, step: int) -> tuple[Masks, ...]:
        """The channel dropout of each stream."""
        dropout = self.config.dropout
        widths = self.student.widths if dropout.position == "encoder" else (self.student.embed_dim,)
        return step_masks(self.run_info, unlabeled, step, widths, dropout, views=self.config.streams)


plugin = UniMatchV2
