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
        colours = np.asarray(palette, np.uint8).reshape(-1, 3)
        self._colours = np.pad(np.pad(colours, ((0, 0), (0, 1)), constant_values=255), ((0, 1), (0, 0)))

    @property
    def full(self) -> bool:
        """Whether there is no room for another image."""
        return self.left <= 0

    def photos(self, found: Examined) -> list[str]:
        """The image, one picture for each date."""
        return [self._uri(_smaller(Image.fromarray(np.ascontiguousarray(date))), "JPEG") for date in found.dates]

    def labels(self, classes: Tensor, valid: Tensor) -> str:
        """A map (H, W) of classes in their colours; what is not valid is transparent."""
        numbers = np.where(valid.cpu().numpy(), classes.cpu().numpy(), len(self._colours) - 1)
        small = Image.fromarray(numbers.astype(np.int32)).resize(_size(numbers.shape), Image.Resampling.NEAREST)
        return self._uri(Image.fromarray(self._colours[np.asarray(small)]), "PNG")

    def confidence(self, values: Tensor) -> str:
        """A map (H, W) of confidence (0..1), dark to light."""
        shares = Image.fromarray(values.float().cpu().numpy())
        small = np.asarray(shares.resize(_size(values.shape), Image.Resampling.BOX))
        return self._uri(Image.fromarray(heat(small)), "JPEG")

    def _uri(self, picture: Image.Image, kind: str) -> str:
        file = BytesIO()
        picture.save(file, kind, optimize=True, **({"quality": 78} if kind == "JPEG" else {}))
        text = f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
        self.left -= len(text)
        return text


def _size(shape: Sequence[int]) -> tuple[int, int]:
    """(width, height) of the small picture of a map (H, W)."""
    scale = min(1.0, SIDE / max(shape))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _smaller(picture: Image.Image) -> Image.Image:
    return picture.resize(_size((picture.height, picture.width)), Image.Resampling.LANCZOS)
