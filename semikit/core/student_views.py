"""How labelled, weak and strong images pass through the student: in one call or in several, with dropout or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from semikit.core.batch import Labeled, Unlabeled
from semikit.core.batch_norm import has_batch_norm, unrecorded
from semikit.core.channel_dropout import Masks, apply_mask, apply_masks
from semikit.core.network import Features, Network
from semikit.errors import ConfigError

Forward = Literal["auto", "fused", "separate", "joint"]
"""auto: by norms, device and size of a step (`settled_forward`); what it came to stands in a run's config.yaml. fused:
one call over [labelled, strong 1, strong 2]; without batch norm the same numbers, with fewer and larger operations.
separate: labelled, then strong (as released). joint: labelled, weak and strong in one call (classification)."""
Position = Literal["encoder", "decoder"]
Statistics = Literal["all", "weak"]
"""Passes that the running statistics of batch norm follow: all, or not those of strong views, whose colours nothing is
predicted on. The teacher labels weak views with them."""


def check_forward(forward: Forward, network: nn.Module, statistics: Statistics = "all") -> None:
    """Refuse a fused pass where it would change the numbers, and one pass whose views cannot be told apart.

    Raises:
        ConfigError: for 'fused', or 'joint' and statistics of weak views, with a network that has batch norm.
    """
    if forward == "joint" and statistics == "weak" and has_batch_norm(network):
        raise ConfigError(
            "method.batch_norm is 'weak', but with method.forward 'joint' weak and strong views pass together; allowed "
            "there: 'all'. Use method.batch_norm=all or, where the method has it, method.forward=separate with "
            "method.teacher=ema."
        )
    if forward == "fused" and has_batch_norm(network):
        raise ConfigError(
            "method.forward is 'fused', but the network has batch norm, whose statistics would mix labelled and strong "
            "images; allowed here: 'auto', 'separate', 'joint'. Use method.forward=auto."
        )


_FUSED_BYTES = 2_400_000
"""Most of a channel of all images in one call, bytes, up to which one call is faster on a CPU: beyond that what it
works on outgrows the caches (benchmarks/2026-11-29-cpu-step.md)."""


def settled_forward(forward: Forward, network: nn.Module, on_cpu: bool, pixels: int, size: int) -> Forward:
    """What `auto` means for a run that begins, by a rule and not by a clock, so that the same run begins alike.

    `pixels` are those of the labelled and strong images of a pass, `size` the bytes of a number in its products.
    """
    if forward != "auto":
        return forward
    large = on_cpu and pixels * size > _FUSED_BYTES
    return "separate" if large or has_batch_norm(network) else "fused"


@final
@dataclass(frozen=True, slots=True)
class Views:
    """Logits (B, K, *S) of the student's pass: labelled, weak (None but in a joint pass), and each strong view."""

    labeled: Tensor
    weak: Tensor | None
    strong: tuple[Tensor, ...]


def student_views(
    network: Network,
    labeled: Labeled,
    unlabeled: Unlabeled,
    forward: Forward,
    masks: Sequence[Masks] = (),
    position: Position = "encoder",
    statistics: Statistics = "all",
) -> Views:
    """What the student says of the labelled images and of the strong views, and with 'joint' of the weak ones.

    `masks[v]` are the channel masks of strong view v (none: no dropout); labelled and weak views are never dropped.
    """
    strong, dropped = list(unlabeled.strong), list(masks) or [()] * len(unlabeled.strong)
    if forward == "auto":  # as runs have it that began before `settled_forward`
        forward = "separate" if labeled.images.device.type == "cpu" or has_batch_norm(network) else "fused"
    if forward == "separate":
        (pred_labeled,) = logits_of(network, [labeled.images], [()], position)
        with unrecorded(network, statistics == "weak"):
            return Views(pred_labeled, None, logits_of(network, strong, dropped, position))
    if forward == "fused":
        pred_labeled, *pred_strong = logits_of(network, [labeled.images, *strong], [(), *dropped], position)
        return Views(pred_labeled, None, tuple(pred_strong))
    images = [labeled.images, unlabeled.weak, *strong]
    pred_labeled, pred_weak, *pred_strong = logits_of(network, images, [(), (), *dropped], position)
    return Views(pred_labeled, pred_weak, tuple(pred_strong))


def logits_of(
    network: Network, images: Sequence[Tensor], masks: Sequence[Masks], position: Position = "encoder"
) -> tuple[Tensor, ...]:
    """Logits of several lists of images (B_i, C, H, W) from one call, each under its own channel masks (none: ones)."""
    sizes = [len(part) for part in images]
    joined = _join(sizes, masks)
    features = network.encode(torch.cat(list(images)))
    if position == "encoder":
        logits = network.decode(apply_masks(features, joined))
    else:
        embedding = network.embed(features)
        logits = network.classify(apply_mask(embedding, joined[0]) if joined else embedding, features.size)
    return torch.split(logits, sizes)


def dropped_views(
    network: Network, labeled: Labeled, unlabeled: Unlabeled, masks: Masks
) -> tuple[Features, Tensor, Tensor, Tensor]:
    """Features of labelled and weak images, encoded once, and logits of the labelled, the weak and the weak images
    whose features are dropped by the `masks` of each level (UniMatch V1).
    """
    sizes = [len(labeled.images), len(unlabeled.weak), len(unlabeled.weak)]
    features = network.encode(torch.cat([labeled.images, unlabeled.weak]))
    weak = Features(tuple(level[sizes[0] :] for level in features.levels), features.size)
    pairs = zip(features.levels, apply_masks(weak, masks).levels, strict=True)
    logits = network.decode(Features(tuple(torch.cat(pair) for pair in pairs), features.size))
    pred_labeled, pred_weak, pred_dropped = torch.split(logits, sizes)
    return features, pred_labeled, pred_weak, pred_dropped


def _join(sizes: Sequence[int], masks: Sequence[Masks]) -> Masks:
    """One mask (ΣB_i, D_l) for each level; where only some lists have masks the others get ones."""
    given = next((part for part in masks if part), ())
    return tuple(
        torch.cat(
            [
                part[level] if part else like.new_ones(size, like.shape[1])
                for size, part in zip(sizes, masks, strict=True)
            ]
        )
        for level, like in enumerate(given)
    )
