"""ReMixMatch (Berthelot et al. 2020): aligned, sharpened labels, all images mixed with one another, and rotations.

Tasks: cls
Paper: arXiv 1911.09785
Cost: 2.2
For: few labels of small images, and long runs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from semikit.core.alignment import AlignmentSettings
from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Target, Unlabeled, to_device
from semikit.core.batch_norm import unrecorded
from semikit.core.losses import (
    UnlabeledLoss,
    loss_weights,
    masked_cross_entropy,
    masked_soft_cross_entropy,
    with_margin,
)
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule
from semikit.core.rng import rng_for
from semikit.core.settings import RENAMED_LABELS, JointSettings, optional_kind
from semikit.core.thresholds import FixedThreshold
from semikit.distributed.collectives import gather_over_processes, over_all_processes, own_part
from semikit.errors import ConfigError


@final
class ReMixMatchConfig(JointSettings):
    """Settings of ReMixMatch, as in USB: two strong views where the paper has eight, and no stronger labelled ones."""

    RENAMED: ClassVar[Mapping[str, str]] = RENAMED_LABELS

    teacher: Literal["student"] = "student"
    """The student labels, in its training pass."""
    forward: Literal["separate"] = "separate"
    """Every kind of images passes through the student on its own."""
    ohem: None = None
    """Hard examples are not looked for: labelled images are mixed with others."""
    weight: float = Field(default=1.5, ge=0)
    """Weight λ_U of the mixed unlabelled images."""
    ramp: float = Field(default=1 / 64, ge=0)
    """Weights of unlabelled images grow linearly from 0 over this share of the run (up to 1) or this many iterations
    (above 1); 0: no ramp."""
    soft_labels: float = Field(default=0.5, gt=0)
    """Temperature that sharpens the labels."""
    alignment: Annotated[AlignmentSettings | None, BeforeValidator(optional_kind)] = AlignmentSettings(
        kind="ema", target="labels"
    )
    """Distribution alignment: none, queue (mean of the last steps) or ema, or a mapping with the details."""
    mixup: float = Field(default=0.75, ge=0)
    """Parameter of the Beta distribution that shares in a mixed image come from; 0: nothing is mixed."""
    unmixed_weight: float = Field(default=0.5, ge=0)
    """Weight λ_U1 of the first strong view before it is mixed."""
    rotation_weight: float = Field(default=0.5, ge=0)
    """Weight λ_r of telling by how many quarter turns the first strong view was turned; 0: not asked."""


@final
class ReMixMatch(Method):
    """Algorithm 1 and the loss of section 3.3. Images of all processes are mixed with one another. As published,
    running statistics follow the mixed labelled images alone.
    """

    Config = ReMixMatchConfig
    config: ReMixMatchConfig
    unmixed_weight: Tensor

    @classmethod
    def requirements(cls, config: ReMixMatchConfig) -> Requirements:
        """Two strong views of whole images."""
        return Requirements(strong_views=2, whole_images=True)

    @classmethod
    def needs_full_batch(cls, config: ReMixMatchConfig) -> bool:
        """Images are mixed over the batch."""
        return True

    def __init__(self, network: Network, config: ReMixMatchConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule.of(config, run_info, FixedThreshold(0.0))
        self.rotation = None if config.rotation_weight == 0 else nn.Linear(network.embed_dim, 4)
        if self.rotation is not None:
            scale = np.sqrt(2 / (network.embed_dim + 4))
            drawn = rng_for(run_info.seed, "rotation").normal(0, scale, (4, network.embed_dim))
            self.rotation.weight.data.copy_(torch.from_numpy(drawn))
            self.rotation.bias.data.zero_()
        self.register_buffer("unmixed_weight", torch.tensor(config.unmixed_weight), persistent=False)

    def extra_parameters(self) -> list[nn.Parameter]:
        """Those of the layer that tells rotations."""
        return [] if self.rotation is None else list(self.rotation.parameters())

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """What is drawn for the total batch of all processes: for each kind of images (labelled, two strong views,
        weak) keys (4, B) whose order is that of the partners, shares (4, B), and quarter turns (B,).
        """
        assert unlabeled is not None
        self.unmixed_weight.fill_(self.config.unmixed_weight * self.unlabeled_loss.begin(step))
        total, rng = over_all_processes(len(unlabeled.index)), rng_for(self.run_info.seed, "mixup", step)
        keys, alpha = rng.random((4, total)), self.config.mixup
        shares = rng.beta(alpha, alpha, (4, total)) if alpha else np.ones((4, total))
        drawn = keys, np.maximum(shares, 1 - shares).astype(np.float32), rng.integers(4, size=total)
        return Pseudo(draws=to_device(tuple(map(torch.from_numpy, drawn)), unlabeled.weak.device))

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """L_X + λ_U L_U of mixed images + λ_U1 of the first strong view as it is + λ_r of its rotation."""
        assert unlabeled is not None
        assert pseudo is not None
        keys, shares, turns = pseudo.draws
        with unrecorded(self.student):
            with torch.no_grad():  # 3.1: aligned and sharpened
                pseudo = self.rule(self.student(unlabeled.weak), unlabeled)
            target = pseudo.views[0]
            loss_unmixed = self.unlabeled_loss(self.student(unlabeled.strong[0]), target)
            more = {"loss_unmixed": self.unmixed_weight * loss_unmixed} | self._rotated(unlabeled, target, turns)
        loss_x, loss_u = self._mixed(labeled, unlabeled, target, keys, shares)
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, pseudo.weak, **more)

    def _mixed(
        self, labeled: Labeled, unlabeled: Unlabeled, target: Target, keys: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The losses of labelled and of unlabelled images, each mixed with a partner among all (Algorithm 1)."""
        soft, weights = target.probabilities, loss_weights(target).float()
        assert soft is not None
        hard = soft.new_zeros(len(labeled.labels), soft.shape[1]).scatter(1, labeled.labels.unsqueeze(1), 1.0)
        weights_x = labeled.valid if self.class_weights is None else labeled.valid * self.class_weights[labeled.labels]
        images = [labeled.images, *unlabeled.strong, unlabeled.weak]
        sizes = [over_all_processes(len(kind)) for kind in images]
        assert max(sizes) <= keys.shape[1], (sizes, keys.shape)
        order = torch.cat([kind[:size] for kind, size in zip(keys, sizes, strict=True)]).argsort()
        partners = [kind[own_part(len(kind))] for kind in torch.split(order, sizes)]
        own_shares = [kind[own_part(size)] for kind, size in zip(shares, sizes, strict=True)]
        mixed = _blended(_pairs(images, partners), own_shares)
        labels_x, *labels = _blended(_pairs([hard, soft, soft, soft], partners), own_shares)
        pairs = _pairs([weights_x.float(), weights, weights, weights], partners)
        counts_x, *counts = (
            torch.where((own > 0) & (other > 0), mean, 0.0)
            for (own, other), mean in zip(pairs, _blended(pairs, own_shares), strict=True)
        )
        pred_x = self.student(mixed[0])
        with unrecorded(self.student):
            pred_u = torch.cat([with_margin(self.student(kind), target) for kind in mixed[1:]])
        loss_x = masked_soft_cross_entropy(pred_x, labels_x, counts_x, labeled.denominator)
        denominator = 3 * target.denominator.repeat(3)
        return loss_x, masked_soft_cross_entropy(pred_u, torch.cat(labels), torch.cat(counts), denominator)

    def _rotated(self, unlabeled: Unlabeled, target: Target, turns: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the number of quarter turns of the first strong view, weighted (3.3)."""
        if self.rotation is None:
            return {}
        turns = turns[own_part(len(turns))]
        encoded = self.student.encode(quarter_turned(unlabeled.strong[0], turns))
        logits = self.rotation(self.student.embed(encoded))
        loss = masked_cross_entropy(logits, turns, target.valid, target.denominator)
        return {"loss_rotation": self.config.rotation_weight * loss}


def quarter_turned(images: Tensor, turns: Tensor) -> Tensor:
    """Images (B, C, S, S), each turned against the clock by `turns` (B,) quarters, 0..3.

    Raises:
        ConfigError: images that are not square.
    """
    if images.shape[-1] != images.shape[-2]:
        raise ConfigError(
            f"remixmatch turns images by quarters, but they are {images.shape[-2]} x {images.shape[-1]} pixels; "
            "allowed are squares. Crop them (views.size=SIDE), or use method.rotation_weight=0."
        )
    turns = turns.view(-1, 1, 1, 1)
    images = torch.where(turns % 2 == 1, images.transpose(-1, -2), images)
    images = torch.where((turns == 1) | (turns == 2), images.flip(-2), images)
    return torch.where(turns >= 2, images.flip(-1), images)


def _pairs(kinds: Sequence[Tensor], partners: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Each kind of values (B_k, ...) with those of the partners."""
    pool = torch.cat([gather_over_processes(kind) for kind in kinds])
    return [(kind, pool.index_select(0, partner)) for kind, partner in zip(kinds, partners, strict=True)]


def _blended(pairs: Sequence[tuple[Tensor, Tensor]], shares: Sequence[Tensor]) -> list[Tensor]:
    """Of each pair (B_k, ...) the first by its share (B_k,), the second by the rest."""
    found = []
    for (own, other), share in zip(pairs, shares, strict=True):
        share = share.view(-1, *[1] * (own.dim() - 1)).to(own.dtype)
        found.append(share * own + (1 - share) * other)
    return found


plugin = ReMixMatch
