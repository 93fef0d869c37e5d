"""A prediction drawn with matplotlib: the image with the colours of its classes, or the most probable classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Patch

from semikit.errors import InputError
from semikit.inference.pictures import Pixels, overlay
from semikit.raster.polygons import NODATA

if TYPE_CHECKING:
    from semikit.inference.in_memory import Prediction

_SIDE = 1024
"""Pixels a side that are drawn at most; of larger maps every second, third … one."""
_LISTED, _TOP = 12, 3
"""Classes that are listed beside a map, and below a whole image, at most."""


def draw(found: Prediction, pictures: Sequence[Pixels], axes: Any) -> None:
    """Draw a prediction over pictures (H, W, 3) of the image's dates; without any the map alone, or the probabilities.

    Raises:
        InputError: a picture has not the size of the map.
    """
    axes.axis("off")
    if isinstance(found.classes, int):
        _draw_class(found, pictures, axes)
        return
    sizes = [picture.shape[:2] for picture in pictures]
    if set(sizes) - {found.classes.shape}:
        raise InputError(f"the prediction has {found.classes.shape} rows and columns, the image {sizes}: give its own.")
    assert found.palette is not None
    step = -(-max(found.classes.shape) // _SIDE)
    classes, colours = found.classes[::step, ::step], found.palette
    *before, last = [picture[::step, ::step] for picture in pictures] or [colours[classes]]
    bare = (classes == NODATA) | ((classes == 0) & bool(before))  # of change what is unchanged
    shown = np.where(bare[..., None], last, np.asarray(overlay(last, classes, colours)))
    if before:
        gap = np.full((len(classes), classes.shape[1] // 40 + 1, 3), 255, np.uint8)
        shown = np.concatenate([before[0], gap, shown], axis=1)
        axes.set_title("before", loc="left", fontsize="medium")
        axes.set_title("after, and what changed", loc="right", fontsize="medium")
    axes.imshow(shown, interpolation="nearest")
    numbers, counts = np.unique(found.classes[found.classes != NODATA], return_counts=True)
    shares = sorted(zip(counts / counts.sum(), numbers, strict=True), reverse=True)
    patches = [Patch(color=colours[k] / 255, label=f"{found.names[k]} {share:.0%}") for share, k in shares
               if k or not before]  # fmt: skip
    if len(patches) > _LISTED:
        patches[_LISTED:] = [Patch(alpha=0, label=f"and {len(patches) - _LISTED} more")]
    beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0, "frameon": False, "handlelength": 1}
    for text in axes.legend(handles=patches, **beside).get_texts():
        text.set_parse_math(False)  # names may hold a dollar


def _draw_class(found: Prediction, pictures: Sequence[Pixels], axes: Any) -> None:
    """The image below its class, and the most probable classes as bars below the image."""
    axes.set_title(f"{found.names[found.classes]} {found.confidence:.0%}", parse_math=False)
    for picture in pictures:
        axes.imshow(picture)
    bars = axes.inset_axes((0, -0.34, 1, 0.3)) if pictures else axes
    bars.axis("off")
    shares = np.asarray(found.probabilities)
    top = shares.argsort()[::-1][:_TOP]
    bars.barh(range(len(top)), shares[top], color="tab:blue", alpha=0.35)
    bars.set(xlim=(0, 1), ylim=(_TOP - 0.4, -0.6))
    for place, number in enumerate(top):
        text = f"{found.names[number]} {shares[number]:.0%}"
        bars.text(0.01, place, text, va="center", fontsize="small", parse_math=False)
