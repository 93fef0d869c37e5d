"""Pictures of classification for people: images with their classes, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from semikit.tasks._pictures import font_of, heat

Bytes = NDArray[np.uint8]

_GAP, _LINE, _SIDE = 8, 15, 96
_RIGHT, _WRONG = (20, 110, 60), (190, 30, 40)
_MOST = 40
"""Classes up to which the matrix names them and writes numbers."""


@final
@dataclass(frozen=True, slots=True)
class Example:
    """One image (H, W, 3) and the lines below it, each with whether it is right (None: neither)."""

    image: Bytes
    lines: Sequence[tuple[str, bool | None]]


def gallery(examples: Sequence[Example], titles: Sequence[str], columns: int = 8) -> Image.Image:
    """A table of images with their lines, which `titles` names; wrong ones are red, right ones green."""
    lines = max(len(example.lines) for example in examples)
    width, height = _SIDE + _GAP, _SIDE + lines * _LINE + _GAP
    rows = -(-len(examples) // columns)
    canvas = Image.new("RGB", (columns * width + _GAP, _LINE + rows * height + _GAP), "white")
    draw, font = ImageDraw.Draw(canvas), font_of(10)
    draw.text((_GAP, 2), f"below each image: {', '.join(titles)}", fill="black", font=font)
    for number, example in enumerate(examples):
        left, top = _GAP + number % columns * width, _LINE + _GAP + number // columns * height
        canvas.paste(_thumbnail(example.image), (left, top))
        for k, (text, right) in enumerate(example.lines):
            colour = "black" if right is None else _RIGHT if right else _WRONG
            draw.text((left, top + _SIDE + k * _LINE), _fitting(text, font), fill=colour, font=font)
    return canvas


def confusion_picture(matrix: NDArray[np.int64], names: Sequence[str]) -> Image.Image:
    """The confusion matrix (K, K), rows are true classes; colours and numbers are percent of a row."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    named = len(names) <= _MOST
    cell = 30 if named else max(1, 800 // len(names))
    font = font_of(10)
    left = 90 if named else 30
    top = 90 if named else 30
    side = cell * len(names)
    canvas = Image.new("RGB", (max(left + side + _GAP, 210), top + side + _GAP), "white")
    shown = Image.fromarray(heat(shares)).resize((side, side), Image.Resampling.NEAREST)
    canvas.paste(shown, (left, top))
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, 2), "rows: truth, columns: predicted, %", fill="black", font=font)
    if named:
        _name_matrix(canvas, draw, shares, names, cell, (left, top))
    return canvas


def _name_matrix(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    shares: NDArray[np.float64],
    names: Sequence[str],
    cell: int,
    corner: tuple[int, int],
) -> None:
    font = font_of(10)
    left, top = corner
    for k, name in enumerate(names):
        text = _fitting(name, font, top - 26)
        middle = k * cell + cell // 2
        draw.text((left - 4, top + middle), text, fill="black", font=font, anchor="rm")
        label = Image.new("RGB", (top - 24, _LINE), "white")
        ImageDraw.Draw(label).text((0, 1), text, fill="black", font=font)
        canvas.paste(label.rotate(90, expand=True), (left + middle - _LINE // 2, 22))
    for row, column in np.argwhere(shares >= 0.005):
        share = shares[row, column]
        place = (left + column * cell + cell // 2, top + row * cell + cell // 2)
        draw.text(place, f"{share * 100:.0f}", fill="black" if share > 0.6 else "white", font=font, anchor="mm")


def _thumbnail(image: Bytes) -> Image.Image:
    """At most 96 pixels a side; small images are enlarged by a whole factor without smoothing."""
    picture = Image.fromarray(image)
    factor = _SIDE // max(picture.size)
    if factor >= 1:
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    picture.thumbnail((_SIDE, _SIDE))
    return picture


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int = _SIDE) -> str:
    while len(text) > 1 and font.getlength(text) > width:
        text = f"{text[:-2].rstrip('…')}…"
    return text
