"""AllSpark (Wang et al. 2024): channels of labelled features are made anew out of those of unlabelled images.

Tasks: seg, cd
Paper: arXiv 2403.01818
Cost: 2.0
For: pretrained transformers that fit few labelled images too closely; no strong view, no threshold
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.channel_attention import Attend, ChannelAttention
from semikit.core.draws import torch_seeded
from semikit.core.feature_bank import ClassQueues
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits
from semikit.core.schedules import steps_of
from semikit.core.settings import Teacher, UnlabeledSettings
from semikit.core.thresholds import FixedThreshold
from semikit.errors import ConfigError


@final
class AllSparkConfig(UnlabeledSettings):
    """Settings of AllSpark, as published; heads and channels of the attention are `model.channel_attention`, and the
    recipes of the tasks give labelled images the colours of strong views (`views.labeled`).
    """

    teacher: Teacher = "student"
    """Whose pseudo-labels: the student's own, in evaluation mode (as published), the EMA teacher's, or auto (see
    ema)."""
    threshold: float = Field(default=0.0, ge=0, le=1)
    """Least confidence of a pseudo-label that counts (0..1); 0: all count, as published."""
    warmup: float = Field(default=0.0625, ge=0)
    """Share of the run (up to 1), or iterations (above 1), in which channels come from the unlabelled images of the
    step; afterwards from the memory of all classes."""


@final
class AllSpark(Method):
    """Labelled images are decoded from features whose channels are sums of those that unlabelled images gave, so that
    few labels cannot be fitted by features of their own. What is predicted is made of channels of the image itself.
    """

    Config = AllSparkConfig
    config: AllSparkConfig

    @classmethod
    def requirements(cls, config: AllSparkConfig) -> Requirements:
        """The weak view of pixels, and a network whose channels attend."""
        return Requirements(strong_views=0, pixels=True, channel_attention=True)

    @classmethod
    def needs_full_batch(cls, config: AllSparkConfig) -> bool:
        """Labelled images see the unlabelled ones of the step; the memory is written once a step."""
        return True

    def __init__(self, network: Network, config: AllSparkConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        bottleneck = getattr(network, "bottleneck", None)
        if bottleneck is None:
            raise ConfigError(
                "allspark needs a network whose channels attend, but this one has no bottleneck. Give its settings: "
                "model.channel_attention={heads: 2}."
            )
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule(run_info, FixedThreshold(config.threshold), class_balance=config.class_balance)
        self.warmup = steps_of(config.warmup, run_info.iterations)
        self.remembers = False
        self.size = (math.ceil(run_info.side / bottleneck.reduction),) * 2
        self.memory = ClassQueues(run_info.num_classes, bottleneck.width, math.prod(self.size))
        with torch_seeded(run_info.seed, "channels"):
            self.among = ChannelAttention(bottleneck.width, bottleneck.heads, apart=True)

    def extra_parameters(self) -> list[nn.Parameter]:
        """Those of the attention of unlabelled images, by which nothing is predicted."""
        return list(self.among.parameters())

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """The label source labels the weak views; its logits also tell which class a channel is of."""
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        self.remembers = step >= self.warmup
        logits = predict_logits(self.label_source, unlabeled.weak, self.label_pass)
        coarse = F.interpolate(logits.float(), size=self.size, mode="bilinear", align_corners=False)
        return replace(self.rule(logits, unlabeled), logits=coarse)

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss of rebuilt features, and that of the weak view whose labels they are."""
        assert unlabeled is not None
        assert pseudo is not None
        assert pseudo.weak is not None
        assert pseudo.logits is not None
        count = len(labeled.images)
        features = self.student.encode(torch.cat([labeled.images, unlabeled.weak]))
        pred = self.student.decode(replace(features, attend=self._rebuilt(count, pseudo.logits)))
        loss_x = self.supervised_loss(pred[:count], labeled)
        loss_u = self.unlabeled_loss(pred[count:], pseudo.weak)
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, pseudo.weak)

    def _rebuilt(self, count: int, logits: Tensor) -> Attend:
        """What the channels of `count` labelled images are made of, and those of the unlabelled ones behind them, whose
        logits are (B, K, h, w).
        """

        def attend(places: Tensor, attention: ChannelAttention) -> Tensor:
            if places.shape[1] != math.prod(self.size):
                raise ConfigError(
                    f"allspark keeps features of crops, and one of {self.run_info.side} pixels has {places.shape[1]} "
                    f"positions in this encoder, not {math.prod(self.size)}. Give a --crop that is a multiple of 32."
                )
            labeled, unlabeled = places[:count], places[count:]
            self._remember(unlabeled.detach(), logits)
            sources = self.memory.by_class().transpose(1, 2).to(places.dtype) if self.remembers else unlabeled
            rebuilt = attention(labeled, sources.unsqueeze(0))
            return torch.cat([rebuilt, self.among(unlabeled, unlabeled.unsqueeze(1))])

        return attend

    def _remember(self, places: Tensor, logits: Tensor) -> None:
        """Write every channel of places (B, N, D) to the queue of the class that it is most like."""
        classes = channel_classes(logits, places)
        channels = places.transpose(1, 2).flatten(0, 1)
        self.memory.write(channels, classes.flatten(), torch.ones_like(classes.flatten(), dtype=torch.bool))


def channel_classes(logits: Tensor, places: Tensor) -> Tensor:
    """The class whose logits (B, K, h, w) are most like each channel of places (B, h · w, D) over the positions, by the
    cosine, (B, D) int64 (channel semantic grouping).
    """
    with torch.autocast(places.device.type, enabled=False):
        maps = F.normalize(logits.float().flatten(2), dim=2)
        return (maps @ F.normalize(places.float(), dim=1)).argmax(dim=1)


plugin = AllSpark
