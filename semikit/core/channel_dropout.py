"""Channel dropout between encoder and decoder, as masks drawn outside the network (paper eq. 14-16).

B images, D channels, V streams, L levels. A mask (B, D) multiplies all positions of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semikit.core.batch import to_device
from semikit.core.network import Features
from semikit.errors import ConfigError

Kind = Literal["none", "independent", "complementary"]
Draw = Literal["bernoulli", "half"]
Levels = Literal["all"] | tuple[int, ...]
Masks: TypeAlias = tuple[Tensor, ...]
"""One mask (B, D_l) for each level; empty: no dropout."""

_Floats: TypeAlias = npt.NDArray[np.float32]


def channel_masks(
    rng: np.random.Generator,
    batch: int,
    widths: Sequence[int],
    *,
    kind: Kind,
    streams: int,
    group: int,
    kept: float = 0.5,
    draw: Draw = "bernoulli",
    levels: Levels = "all",
    rate: float = 0.5,
    shared: bool = True,
) -> tuple[Masks, ...]:
    """Masks [v][l] (B, D_l) float32 on the host for `streams` streams over levels of `widths` channels.

    `rate` is the share of channels dropped. Independent: each stream keeps channels on its own and scales them by
    1 / (1 - rate). Complementary (two streams): the second keeps exactly what the first drops, scaled by 1 / rate, so
    that at rate 0.5 the masks are 0 or 2 and add up to 2 (as released; paper eq. 14, 15). Channels are kept one by one
    ('bernoulli', as released) or exactly the rounded share of them ('half', paper). In each group of `group`
    consecutive images int(size · kept) random ones keep all channels unscaled, in all streams and levels (as released;
    0: paper). Levels of equal width share one mask unless `shared` is false; levels outside `levels` get ones.

    Groups are drawn one after another: the masks of the first images do not depend on how many follow.
    """
    if kind == "none":
        return ()
    assert kind == "independent" or streams == 2, (kind, streams)
    keys = list(widths) if shared else list(range(len(widths)))
    drawn: dict[int, list[list[_Floats]]] = {key: [] for key in keys}
    for start in range(0, batch, group):
        size = min(group, batch - start)
        whole = rng.permutation(size)[: int(size * kept)]
        for key, width in dict(zip(keys, widths, strict=True)).items():
            masks = _streams(rng, (size, width), kind, streams, draw, rate)
            for mask in masks:
                mask[whole] = 1.0
            drawn[key].append(masks)
    joined = {key: [torch.from_numpy(np.concatenate(view)) for view in zip(*drawn[key], strict=True)] for key in drawn}
    active = range(len(keys)) if levels == "all" else levels
    return tuple(
        tuple(joined[key][v] if level in active else torch.ones_like(joined[key][v]) for level, key in enumerate(keys))
        for v in range(streams)
    )


def check_levels(levels: Levels, widths: Sequence[int]) -> None:
    """Refuse levels the encoder does not have.

    Raises:
        ConfigError: when `levels` names an index outside 0..L-1.
    """
    wrong = [] if levels == "all" else [level for level in levels if not 0 <= level < len(widths)]
    if wrong:
        raise ConfigError(
            f"method.levels: {wrong[0]} is no level of this encoder, which has {len(widths)}; allowed are 0 to "
            f"{len(widths) - 1}, or 'all'."
        )


def _streams(
    rng: np.random.Generator, shape: tuple[int, int], kind: Kind, streams: int, draw: Draw, rate: float
) -> list[_Floats]:
    """The masks of the streams for images and channels `shape`."""
    first = _keep(rng, shape, draw, rate)
    if kind == "complementary":
        return [_scaled(first, 1 - rate), _scaled(~first, rate)]
    return [_scaled(keep, 1 - rate) for keep in (first, *(_keep(rng, shape, draw, rate) for _ in range(streams - 1)))]


def _keep(rng: np.random.Generator, shape: tuple[int, int], draw: Draw, rate: float) -> npt.NDArray[np.bool_]:
    if draw == "bernoulli":
        return rng.random(shape) >= rate
    ranks: npt.NDArray[np.int64] = rng.random(shape).argsort(axis=1).argsort(axis=1)
    return ranks < round(shape[1] * (1 - rate))


def _scaled(keep: npt.NDArray[np.bool_], share: float) -> _Floats:
    return keep.astype(np.float32) / np.float32(share)


def select(masks: tuple[Masks, ...], positions: range, device: torch.device) -> tuple[Masks, ...]:
    """The masks of the images at `positions`, on `device`; copies do not wait, shared ones are made once."""
    rows = slice(positions.start, positions.stop, positions.step)
    moved: dict[int, Tensor] = {}
    for mask in (mask for view in masks for mask in view):
        if id(mask) not in moved:
            moved[id(mask)] = to_device(mask[rows], device)
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
