"""U2PL (Wang et al. 2022): pixels whose label is unreliable still tell which classes they are not.

Tasks: seg, cd
Paper: arXiv 2203.03884
Cost: 1.4
For: classes that are seldom labelled with confidence; a pretrained network, for its first labels count too
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal, Self, final

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from semikit.core.batch import Labeled, Pseudo, Requirements, RunInfo, StepResult, Target, Unlabeled, to_device
from semikit.core.draws import torch_seeded
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits, probabilities_of
from semikit.core.rng import rng_for
from semikit.core.running_averages import quantile_of
from semikit.core.settings import UnlabeledSettings
from semikit.core.student_views import check_forward
from semikit.core.thresholds import FixedThreshold
from semikit.distributed.collectives import (
    gather_over_processes,
    over_all_processes,
    process_rank,
    sum_over_processes,
)

_STRIDE = 4
"""Pixels of the images to one place that is compared, as published, where the network is not coarser."""
_SMALLEST = 1e-10


@final
class U2PLConfig(UnlabeledSettings):
    """Settings of U2PL, as published but for the size of the bank; the recipes of the tasks leave colours as they are
    and paste half of another image into every second one (`views`).
    """

    loss: Literal["released", "paper"] = "paper"
    """paper: labelled + λ · unlabelled; released: that divided by 1 + λ, as UniMatch's segmentation code does."""
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    """What the teacher keeps of itself at each step (0..1)."""
    forward: Literal["joint"] = "joint"
    """Labelled and strong images pass through the student in one call."""
    unreliable: float = Field(default=0.2, ge=0, lt=0.5)
    """Share of the pixels, those of the greatest entropy, whose label is not learned at first (0..0.5); it falls
    linearly to 0."""
    contrast: float = Field(default=1.0, ge=0)
    """Weight of the contrastive loss."""
    temperature: float = Field(default=0.5, gt=0)
    """Temperature of its similarities."""
    anchor: float = Field(default=0.3, ge=0, lt=1)
    """Least probability of its class for a pixel to be an anchor (0..1)."""
    low_rank: int | None = Field(default=None, ge=1)
    """An unreliable pixel is a negative of the classes of at least this rank in its probabilities (0: the likeliest);
    null: 3, of fewer than six classes half."""
    high_rank: int = Field(default=20, ge=2)
    """And of less than this rank: of still less likely classes it would be too easy a negative."""
    queries: int = Field(default=256, ge=1)
    """Anchors of each class in a step, and the most negatives that a step adds to its bank."""
    negatives: int = Field(default=50, ge=1)
    """Negatives that each anchor is compared with."""
    bank: int = Field(default=2000, ge=1)
    """Negatives that are kept of each class, 2 MB (published: 30,000; 50,000 of the first)."""
    width: int = Field(default=256, ge=1)
    """Length of the features that are compared."""

    @model_validator(mode="after")
    def _fits(self) -> U2PLConfig:
        if self.bank < self.queries:
            raise ValueError(
                f"bank {self.bank} is less than queries {self.queries}, which a step may add; use bank {self.queries}"
            )
        return self


@final
class U2PL(Method):
    """Reliable pixels learn their pseudo-label; all others are negatives, in a contrastive loss between pixels, of the
    classes that they are unlikely to be (Algorithm 1).
    """

    Config = U2PLConfig
    config: U2PLConfig
    share: Tensor

    @classmethod
    def requirements(cls, config: U2PLConfig) -> Requirements:
        """One strong view of pixels."""
        return Requirements(strong_views=1, pixels=True)

    @classmethod
    def needs_full_batch(cls, config: U2PLConfig) -> bool:
        """Which pixels are reliable is relative to the batch; the bank is read and written once a step."""
        return True

    def __init__(self, network: Network, config: U2PLConfig, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        self.rule = PseudoLabelRule(run_info, FixedThreshold(0.0), class_balance=config.class_balance)
        with torch_seeded(run_info.seed, "representation"):
            self.representation = _representation(network.embed_dim, config.width)
        self.teacher_representation = deepcopy(self.representation).requires_grad_(False)
        self.bank = NegativeBank(run_info.num_classes, config.bank, config.width)
        self.register_buffer("share", torch.tensor(config.unreliable), persistent=False)

    def extra_parameters(self) -> list[nn.Parameter]:
        """Those of the representation."""
        return list(self.representation.parameters())

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """The label source labels the unmixed images; the draws of anchors and negatives, the same in all processes."""
        assert unlabeled is not None
        config, info = self.config, self.run_info
        self.unlabeled_loss.begin(step)
        self.share.fill_(config.unreliable * (1 - step / info.iterations))  # dynamic partition adjustment
        shape = info.num_classes, config.queries, config.negatives + 2
        drawn = torch.from_numpy(rng_for(info.seed, "contrast", step).random(shape, dtype="float32"))
        pseudo = self.rule(predict_logits(self.label_source, unlabeled.weak, self.label_pass), unlabeled)
        return replace(pseudo, draws=(to_device(drawn, unlabeled.weak.device),))

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss, that of reliable pixels, and the contrastive one."""
        assert unlabeled is not None
        assert pseudo is not None
        (target,), (draws,), count = pseudo.views, pseudo.draws, len(labeled.images)
        images = torch.cat([labeled.images, unlabeled.strong[0]])
        logits, features, _ = _passed(self.student, self.representation, images)
        with torch.no_grad():
            teacher_logits, keys, small = _passed(self.teacher, self.teacher_representation, images)
            coarse = self.teacher.classify(small, (small.shape[-2], small.shape[-1]))
        with torch.autocast(images.device.type, enabled=False):
            entropy = entropy_of(teacher_logits[count:])
            low, high = (quantile_of(entropy, target.valid, at).value for at in (self.share, 1 - self.share))
            labels = torch.cat([labeled.labels, target.labels])
            known = torch.cat([labeled.valid, target.valid & (entropy <= low)])
            unreliable = torch.cat([torch.zeros_like(labeled.valid), target.valid & (entropy >= high)])
            labels, known, unreliable = (_small(values, keys) for values in (labels, known, unreliable))
            parts = Partition.of(probabilities_of(coarse), labels, known, unreliable, count, self.config)
            loss_c = self.config.contrast * self._contrast(features.float(), keys.float(), parts, draws)
        loss_x = self.supervised_loss(logits[:count], labeled)
        reliable = replace(target, weights=target.valid & (entropy < high))
        loss_u = self.unlabeled_loss(logits[count:], reliable) * rarity(reliable).square()
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, reliable, loss_c=loss_c)

    def _contrast(self, features: Tensor, keys: Tensor, parts: Partition, draws: Tensor) -> Tensor:
        """Anchors, features (B, D, h, w) of the student, are to be like the mean key of their class and unlike the
        negatives of its bank, (); over the images of all processes.
        """
        keys = keys.movedim(1, -1).flatten(0, 2)
        new = distinct(parts.negatives, draws[:, 0, 0], self.config.queries)
        self.bank.write(sum_over_processes(keys[new.places] * new.own.unsqueeze(2)), new.count)
        members = sum_over_processes(parts.members.sum(dim=1))
        centers = F.normalize(sum_over_processes(parts.members.float() @ keys), dim=1)
        found = with_replacement(parts.anchors, draws[:, :, 1])
        anchors = F.normalize(features.movedim(1, -1).flatten(0, 2)[found.places], dim=2)
        likeness = torch.cat([anchors @ centers.unsqueeze(2), self.bank.similarity(anchors, draws[:, :, 2:])], dim=2)
        apart = contrast(likeness, self.config.temperature)
        classes = (members > 0).sum()
        counts = found.own & ((self.bank.filled > 0) & (classes > 1)).unsqueeze(1)
        summed = over_all_processes(torch.where(counts, apart, 0.0).sum())  # gradients are averaged over them
        return summed / self.config.queries / classes.clamp(min=1)

    def averages(self) -> list[tuple[nn.Module, nn.Module]]:
        """The teacher, and its representation beside the student's."""
        return [*super().averages(), (self.teacher_representation, self.representation)]


@final
@dataclass(frozen=True, slots=True)
class Partition:
    """Which places of a step are what for each class, (K, P) bool: `members` labelled or reliable ones of the class, of
    which `anchors` are those with enough probability, and `negatives`, places that are not of it but might seem so.
    """

    members: Tensor
    anchors: Tensor
    negatives: Tensor

    @classmethod
    def of(
        cls, probabilities: Tensor, labels: Tensor, known: Tensor, unreliable: Tensor, labeled: int, config: U2PLConfig
    ) -> Self:
        """From the teacher's probabilities (B, K, h, w) and labels (B, h, w), of which the first `labeled` images are
        true; `known` and `unreliable` (B, h, w) bool.

        A labelled place is a negative of the classes among its likeliest that it is not of; an unreliable one of those
        that are not among its likeliest, as far as they are not the least likely.
        """
        count = probabilities.shape[1]
        first = config.low_rank or min(3, max(1, count // 2))
        rank = probabilities.argsort(dim=1, descending=True).argsort(dim=1)
        of_class = labels.unsqueeze(1) == torch.arange(count, device=labels.device).view(-1, 1, 1)
        members = of_class & known.unsqueeze(1)
        mistaken = known.unsqueeze(1) & ~of_class & (rank < first)
        unlikely = unreliable.unsqueeze(1) & (rank >= first) & (rank < config.high_rank)
        negatives = torch.cat([mistaken[:labeled], unlikely[labeled:]])
        masks = (members, members & (probabilities > config.anchor), negatives)
        return cls(*(mask.transpose(0, 1).flatten(1) for mask in masks))


@final
@dataclass(frozen=True, slots=True)
class Picked:
    """Places (K, Q) int64 of this process; `own` (K, Q) bool: those that are picked, each by one process; `count` (K,)
    int64: over all processes.
    """

    places: Tensor
    own: Tensor
    count: Tensor


def with_replacement(mask: Tensor, draws: Tensor) -> Picked:
    """For each draw (K, Q) in 0..1 one of the places of mask (K, P) bool of all processes, none where it has none."""
    cumulated, total, before = _counted(mask)
    number = (draws * total.unsqueeze(1)).long().minimum(total.unsqueeze(1) - 1)
    return _picked(cumulated, number, before, torch.where(total > 0, draws.shape[1], 0))


def distinct(mask: Tensor, draw: Tensor, most: int) -> Picked:
    """At most `most` different places of mask (K, P) bool of all processes, evenly spread, by a draw (K,) in 0..1."""
    cumulated, total, before = _counted(mask)
    order, first = torch.arange(most, device=mask.device), draw.double().unsqueeze(1)
    spread = ((order + first) * total.unsqueeze(1) / most).long()
    return _picked(cumulated, torch.where(total.unsqueeze(1) > most, spread, order), before, total.clamp(max=most))


def _counted(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many places of mask (K, P) there are up to each one, in all processes (K,), and in those before this one."""
    cumulated = mask.cumsum(dim=1)
    counts = gather_over_processes(cumulated[:, -1].unsqueeze(0))
    return cumulated, counts.sum(dim=0), counts[: process_rank()].sum(dim=0)


def _picked(cumulated: Tensor, number: Tensor, before: Tensor, count: Tensor) -> Picked:
    """The places with these numbers (K, Q) among all, the first `count` (K,) of them."""
    number = number - before.unsqueeze(1)
    inside = (number >= 0) & (number < cumulated[:, -1:])
    own = inside & (torch.arange(number.shape[1], device=number.device) < count.unsqueeze(1))
    places = torch.searchsorted(cumulated, number + 1).clamp(max=cumulated.shape[1] - 1)
    return Picked(places, own, count)


@final
class NegativeBank(nn.Module):
    """The last negatives of each class: `rows` (K, N, D) of length 1, of which `filled` (K,) are, and the next is
    written at `cursor` (K,). All processes hold the same.
    """

    rows: Tensor
    filled: Tensor
    cursor: Tensor

    def __init__(self, num_classes: int, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(num_classes, size, width))
        self.register_buffer("filled", torch.zeros(num_classes, dtype=torch.long))
        self.register_buffer("cursor", torch.zeros(num_classes, dtype=torch.long))

    @torch.no_grad()
    def write(self, features: Tensor, count: Tensor) -> None:
        """Take in the first `count` (K,) of features (K, Q, D) in place of the oldest; Q is at most N."""
        order, size = torch.arange(features.shape[1], device=features.device), self.rows.shape[1]
        places = ((self.cursor.unsqueeze(1) + order) % size).unsqueeze(2).expand_as(features)
        new = (order < count.unsqueeze(1)).unsqueeze(2)
        self.rows.scatter_(1, places, torch.where(new, F.normalize(features, dim=2), self.rows.gather(1, places)))
        self.filled.copy_((self.filled + count).clamp(max=size))
        self.cursor.copy_((self.cursor + count) % size)

    def similarity(self, anchors: Tensor, draws: Tensor) -> Tensor:
        """Of anchors (K, Q, D) of length 1 to negatives of their class, by draws (K, Q, M) in 0..1, (K, Q, M)."""
        number = (draws * self.filled.view(-1, 1, 1)).long().minimum((self.filled - 1).clamp(min=0).view(-1, 1, 1))
        # The rows are copied: the next step may write them before the gradient of this one is taken.
        return (anchors @ self.rows.clone().transpose(1, 2)).gather(2, number)


def contrast(likeness: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the first among similarities (..., 1 + M), (...)."""
    return -(likeness / temperature).log_softmax(dim=-1)[..., 0]


def entropy_of(logits: Tensor) -> Tensor:
    """Of the probabilities by logits (B, K, H, W), (B, H, W), in nats."""
    probabilities = probabilities_of(logits)
    return -(probabilities * (probabilities + _SMALLEST).log()).sum(dim=1)


def rarity(target: Target) -> Tensor:
    """How many times as many positions are valid as count, over all processes, ()."""
    valid, counted = (sum_over_processes(mask.sum()) for mask in (target.valid, target.weights))
    return valid / counted.clamp(min=1)


def _representation(inputs: int, width: int) -> nn.Module:
    """What makes features that are compared out of those that are classified (B, inputs, h, w) -> (B, width, h, w)."""
    return nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1), nn.ReLU(), nn.Conv2d(inputs, width, 1))


def _passed(network: Network, representation: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, K, H, W), features that are compared (B, D, h, w), and what they and the classes are made of."""
    encoded = network.encode(images)
    embedding = network.embed(encoded)
    logits = network.classify(embedding, encoded.size)
    height, width = (min(-(-side // _STRIDE), own) for side, own in zip(encoded.size, embedding.shape[2:], strict=True))
    small = F.adaptive_avg_pool2d(embedding, (height, width))
    return logits, representation(small), small


def _small(values: Tensor, like: Tensor) -> Tensor:
    """Values (B, H, W) at the places of features (B, D, h, w), the nearest of each."""
    near = F.interpolate(values.unsqueeze(1).float(), size=like.shape[-2:], mode="nearest")
    return near.squeeze(1).to(values.dtype)


plugin = U2PL
