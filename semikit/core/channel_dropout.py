"""Channel dropout between encoder and decoder, as masks drawn outside the network (paper eq. 14-16).

B images, D channels, V views, L levels. A mask (B, D) multiplies all positions of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from semikit.core.batch import RunInfo, Unlabeled, to_device
from semikit.core.network import Features
from semikit.core.rng import rng_for
from semikit.distributed.collectives import over_all_processes
from semikit.errors import ConfigError
from semikit.settings.base import Settings

Masks: TypeAlias = tuple[Tensor, ...]
"""One mask (B, D_l) for each level; empty: no dropout."""

_Floats: TypeAlias = npt.NDArray[np.float32]


@final
class ChannelDropout(Settings):
    """Which channels of the strong views' features are dropped."""

    kind: Literal["complementary", "independent", "none"] = "complementary"
    """complementary: the second view keeps what the first drops; independent: each view by itself; none."""
    position: Literal["encoder", "decoder"] = "encoder"
    """Where it acts: between encoder and decoder, or between decoder and classifier (paper, Table 12)."""
    rate: float = Field(default=0.5, gt=0, lt=1)
    """Share of the channels dropped (0..1); in complementary dropout by the first view."""
    undropped: float = Field(default=0.5, ge=0, le=1)
    """Share of the images of a group that keep all channels (0..1)."""
    sampling: Literal["bernoulli", "half"] = "bernoulli"
    """bernoulli: each channel by itself; half: exactly the rounded share of channels (eq. 14)."""
    levels: Literal["all"] | tuple[int, ...] = "all"
    """Which levels of the encoder are dropped, by index from 0; all: every one."""


def channel_masks(
    rng: np.random.Generator,
    batch: int,
    widths: Sequence[int],
    dropout: ChannelDropout,
    *,
    views: int,
    group: int,
    shared: bool = True,
) -> tuple[Masks, ...]:
    """Masks [v][l] (B, D_l) float32 on the host for `views` strong views over levels of `widths` channels.

    Independent: each view keeps channels on its own and scales them by 1 / (1 - rate). Complementary (two views): the
    second keeps exactly what the first drops, scaled by 1 / rate, so that at rate 0.5 the masks are 0 or 2 and add up
    to 2 (as released; paper eq. 14, 15). In each group of `group` consecutive images int(size · undropped) random ones
    keep all channels unscaled, in all views and levels (as released; 0: paper). Levels of equal width share one mask
    unless `shared` is false; levels outside `dropout.levels` get ones.

    Groups are drawn one after another: the masks of the first images do not depend on how many follow.
    """
    if dropout.kind == "none":
        return ()
    assert dropout.kind == "independent" or views == 2, (dropout.kind, views)
    keys = list(widths) if shared else list(range(len(widths)))
    drawn: dict[int, list[list[_Floats]]] = {key: [] for key in keys}
    for start in range(0, batch, group):
        size = min(group, batch - start)
        whole = rng.permutation(size)[: int(size * dropout.undropped)]
        for key, width in dict(zip(keys, widths, strict=True)).items():
            masks = _view_masks(rng, (size, width), dropout, views)
            for mask in masks:
                mask[whole] = 1.0
            drawn[key].append(masks)
    joined = {key: [torch.from_numpy(np.concatenate(view)) for view in zip(*drawn[key], strict=True)] for key in drawn}
    active = range(len(keys)) if dropout.levels == "all" else dropout.levels
    return tuple(
        tuple(joined[key][v] if level in active else torch.ones_like(joined[key][v]) for level, key in enumerate(keys))
        for v in range(views)
    )


def check_levels(dropout: ChannelDropout, widths: Sequence[int]) -> None:
    """Refuse levels the encoder does not have.

    Raises:
        ConfigError: when `dropout.levels` names an index outside 0..L-1.
    """
    wrong = [] if dropout.levels == "all" else [level for level in dropout.levels if not 0 <= level < len(widths)]
    if wrong:
        raise ConfigError(
            f"method.dropout.levels: {wrong[0]} is no level of this encoder, which has {len(widths)}; allowed are 0 to "
            f"{len(widths) - 1}, or 'all'."
        )


def _view_masks(rng: np.random.Generator, shape: tuple[int, int], dropout: ChannelDropout, views: int) -> list[_Floats]:
    """The masks of the views for images and channels `shape`."""
    first, rate = _keep(rng, shape, dropout), dropout.rate
    if dropout.kind == "complementary":
        return [_scaled(first, 1 - rate), _scaled(~first, rate)]
    return [_scaled(keep, 1 - rate) for keep in (first, *(_keep(rng, shape, dropout) for _ in range(views - 1)))]


def _keep(rng: np.random.Generator, shape: tuple[int, int], dropout: ChannelDropout) -> npt.NDArray[np.bool_]:
    if dropout.sampling == "bernoulli":
        return rng.random(shape) >= dropout.rate
    # The rank of each draw: exactly the rounded share is dropped, and every choice of channels is equally likely.
    ranks: npt.NDArray[np.int64] = rng.random(shape).argsort(axis=1).argsort(axis=1)
    return ranks < round(shape[1] * (1 - dropout.rate))


def _scaled(keep: npt.NDArray[np.bool_], share: float) -> _Floats:
    return keep.astype(np.float32) / np.float32(share)


def step_masks(
    run_info: RunInfo,
    unlabeled: Unlabeled,
    step: int,
    widths: Sequence[int],
    dropout: ChannelDropout,
    *,
    views: int,
    shared: bool = True,
) -> tuple[Masks, ...]:
    """The masks of a step for its unlabelled images, on their device; see `channel_masks`.

    Drawn over the total batch of all processes, so that sharing a step changes nothing.
    """
    rng, total = rng_for(run_info.seed, "dropout", step), over_all_processes(len(unlabeled.positions))
    masks = channel_masks(rng, total, widths, dropout, views=views, group=run_info.group, shared=shared)
    return select(masks, unlabeled.positions, unlabeled.weak.device)


def feature_dropout(
    run_info: RunInfo, unlabeled: Unlabeled, step: int, widths: Sequence[int], rate: float
) -> tuple[Masks, ...]:
    """The masks of one view, each level for itself: the perturbed features of UniMatch V1 and CorrMatch."""
    dropout = ChannelDropout(kind="independent", rate=rate, undropped=0.0)
    return step_masks(run_info, unlabeled, step, widths, dropout, views=1, shared=False)


def select(masks: tuple[Masks, ...], positions: range, device: torch.device) -> tuple[Masks, ...]:
    """The masks of the images at `positions`, on `device`; the one copy does not wait, shared masks stay shared."""
    rows = slice(positions.start, positions.stop, positions.step)
    moved = to_device({id(mask): mask[rows] for view in masks for mask in view}, device)
    return tuple(tuple(moved[id(mask)] for mask in view) for view in masks)


def apply_mask(values: Tensor, mask: Tensor) -> Tensor:
    """Values (B, D, ...) times a mask (B, D), in the values' type."""
    return values * mask.to(values.dtype).reshape(*mask.shape, *[1] * (values.dim() - mask.dim()))


def apply_masks(features: Features, masks: Masks) -> Features:
    """Features with every level times its mask; no masks: the features themselves."""
    if not masks:
        return features
    return replace(
        features, levels=tuple(apply_mask(level, mask) for level, mask in zip(features.levels, masks, strict=True))
    )
