"""Small pictures of examined images, as text that a page holds."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from semikit.inference.inspection import Examined
from semikit.inference.pictures import heat

SIDE = 224
"""Pixels of the longer side, at most."""
BUDGET = 12_000_000
"""Bytes that the pictures of a page may take together."""

Bytes = NDArray[np.uint8]


@final
class Album:
    """Pictures as data URIs, until they take `budget` bytes together."""

    def __init__(self, palette: Sequence[Sequence[int]], budget: int) -> None:
        self.left = budget
        self._colours = [*np.asarray(palette, np.uint8).flatten().tolist()] if len(palette) else []

    @property
    def full(self) -> bool:
        """Whether there is no room for another image."""
        return self.left <= 0

    def photos(self, found: Examined) -> list[str]:
        """The image, one picture for each date."""
        return [self._uri(_smaller(Image.fromarray(np.ascontiguousarray(date))), "JPEG") for date in found.dates]

    def labels(self, classes: Tensor, valid: Tensor) -> str:
        """A map (H, W) of classes in their colours; what is not valid is transparent."""
        nothing = len(self._colours) // 3
        numbers = np.where(valid.cpu().numpy(), classes.cpu().numpy(), nothing).astype(np.uint8)
        picture = Image.fromarray(numbers, mode=None)
        picture = picture.resize(_size(picture), Image.Resampling.NEAREST)
        picture.putpalette([*self._colours, 0, 0, 0])
        return self._uri(picture, "PNG", transparency=nothing)

    def confidence(self, values: Tensor) -> str:
        """A map (H, W) of confidence (0..1), dark to light."""
        shares = Image.fromarray(values.float().cpu().numpy())
        small = np.asarray(shares.resize(_size(shares), Image.Resampling.BOX))
        return self._uri(Image.fromarray(heat(small)), "JPEG")

    def _uri(self, picture: Image.Image, kind: str, **options: int) -> str:
        file = BytesIO()
        picture.save(file, kind, optimize=True, **({"quality": 78} if kind == "JPEG" else {}), **options)
        text = f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
        self.left -= len(text)
        return text


def _size(picture: Image.Image) -> tuple[int, int]:
    scale = min(1.0, SIDE / max(picture.size))
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def _smaller(picture: Image.Image) -> Image.Image:
    return picture.resize(_size(picture), Image.Resampling.LANCZOS)
