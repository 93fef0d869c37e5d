"""Pictures: image, truth, prediction and confidence side by side; class maps; overlays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from semikit.files import RESUME, write_atomically

Pixels = npt.NDArray[np.uint8]
_GAP = 6
_TEXT = 15
"""Size of titles and legend, pixels; of wide pictures, which are looked at smaller, a hundredth of the width."""
_MIN_SIDE = 192
_MAX_SIDE = 640


@cache
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """A font with letters of many languages; Pillow's own has English ones only."""
    return ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def class_map(labels: Pixels, colours: Pixels) -> Image.Image:
    """Class ids (H, W) uint8 as a PNG of ids that shows colours: mode P, values unchanged."""
    image = Image.fromarray(labels, mode=None)
    image.putpalette(colours.tobytes())
    return image


def overlay(image: Pixels, labels: Pixels, colours: Pixels, opacity: float = 0.5) -> Image.Image:
    """Image (H, W, 3) with the colours of its classes laid over it."""
    mixed = image * (1 - opacity) + colours[labels] * opacity
    return Image.fromarray(mixed.round().astype(np.uint8))


_ROW, _SWATCH, _ROWS = 30, 46, 20
"""Of a legend: height of a line, width of a colour, lines of a column."""
_GROUND = ((40, 46, 52), (215, 218, 222))
"""Dark and light, which the half transparent colour of an overlay is shown over."""


def legend_picture(names: Sequence[str], colours: Pixels, bare: int | None = None, opacity: float = 0.5) -> Image.Image:
    """The classes of a map: colour, the same as an overlay lays it over dark and light, and name; in an overlay the
    class `bare` shows the image.
    """
    font, small = font_of(15), font_of(11)
    widths = [int(max(font.getlength(name) for name in names[k : k + _ROWS])) for k in range(0, len(names), _ROWS)]
    lefts = np.cumsum([_CELL_GAP * 2, *(width + 2 * _SWATCH + 5 * _CELL_GAP for width in widths)])
    rows = min(len(names), _ROWS)
    canvas = Image.new("RGB", (max(int(lefts[-1]), 160), _CELL_GAP * 3 + _LINE + rows * _ROW), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((lefts[0], _CELL_GAP), "map", fill="black", font=small)
    draw.text((lefts[0] + _SWATCH + _CELL_GAP, _CELL_GAP), "overlay", fill="black", font=small)
    for number, name in enumerate(names):
        left, top = int(lefts[number // _ROWS]), 2 * _CELL_GAP + _LINE + number % _ROWS * _ROW
        colour = colours[number].astype(float)
        draw.rectangle((left, top, left + _SWATCH, top + _ROW - 8), fill=_rgb(colour), outline="gray")
        left += _SWATCH + _CELL_GAP
        for half, ground in enumerate(_GROUND):
            mixed = colour * opacity + np.array(ground) * (1 - opacity) if number != bare else np.array(ground)
            start = left + half * _SWATCH // 2
            draw.rectangle((start, top, start + _SWATCH // 2, top + _ROW - 8), fill=_rgb(mixed))
        draw.text((left + _SWATCH + _CELL_GAP, top + 1), name, fill="black", font=font)
    return canvas


def _rgb(colour: npt.NDArray[np.floating]) -> tuple[int, ...]:
    return tuple(int(part) for part in colour.round())


def displayed(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Image (*T, H, W, C) as a picture (H, W, 3) of each date: the first three bands, or the first one three times."""
    rgb = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    return list(rgb) if rgb.ndim > 3 else [rgb]


def heat(confidence: npt.NDArray[np.floating]) -> Pixels:
    """Confidence (H, W) in 0..1 -> (H, W, 3), dark blue (low) to light yellow (high)."""
    stops = np.array([[20, 24, 82], [62, 73, 137], [38, 130, 142], [53, 183, 121], [253, 231, 37]], dtype=float)
    place = np.clip(confidence, 0, 1) * (len(stops) - 1)
    low = np.minimum(place.astype(int), len(stops) - 2)
    share = (place - low)[..., None]
    return np.asarray((stops[low] * (1 - share) + stops[low + 1] * share).round(), dtype=np.uint8)


Legend = Sequence[tuple[str, Pixels]]
"""Names with pictures (h, w, 3) of what they name, which are brought to the height of a line."""


def sheet_legend(classes: Sequence[tuple[str, Pixels]], *, ignored: bool, confidence: bool) -> Legend:
    """Names with colours (3,) of classes, what does not count, and a bar of the colours of confidence."""
    entries = [(name, colour[None, None]) for name, colour in classes]
    if ignored:
        entries.append(("does not count", _striped(12, 12)))
    if confidence:
        entries.append(("confidence, 0 to 100 %", heat(np.linspace(0, 1, 120)[None].repeat(12, axis=0))))
    return entries


def captioned(image: Image.Image, text: str) -> Image.Image:
    """The picture below a line of text."""
    size, tall = _text(image.width)
    font = font_of(size)
    width = max(image.width, int(font.getlength(text)) + 2 * _GAP)
    canvas = Image.new("RGB", (width, image.height + tall + _GAP), "white")
    ImageDraw.Draw(canvas).text((_GAP, 2), text, fill="black", font=font)
    canvas.paste(image, (0, tall + _GAP))
    return canvas


def _text(width: int) -> tuple[int, int]:
    """Size of the text of a picture of this width, and height of its lines."""
    size = max(_TEXT, width // 100)
    return size, size * 4 // 3


def striped_outside(picture: Pixels, valid: npt.NDArray[np.bool_] | None) -> Pixels:
    """A picture (H, W, 3) with gray stripes where it is not valid (H, W), None: it is throughout."""
    if valid is None:
        return picture
    return np.where(valid[..., None], picture, _striped(*valid.shape))


def _striped(height: int, width: int) -> Pixels:
    rows, columns = np.indices((height, width))
    return np.where((rows + columns) % 8 < 3, np.uint8(205), np.uint8(150))[..., None].repeat(3, axis=2)


def sheet(rows: Sequence[Sequence[Pixels]], titles: Sequence[str], legend: Legend) -> Image.Image:
    """A table of pictures: one row per image, a title over each column, the legend below.

    Small images are enlarged by a whole factor without smoothing, large ones thinned out.
    """
    step = max(1, -(-max(picture.shape[0] for row in rows for picture in row) // _MAX_SIDE))
    rows = [[picture[::step, ::step] for picture in row] for row in rows]
    height, width = max(r[0].shape[0] for r in rows), max(r[0].shape[1] for r in rows)
    factor = max(1, -(-_MIN_SIDE // max(height, width)))
    height, width = height * factor, width * factor
    total = len(titles) * (width + _GAP) + _GAP
    size, tall = _text(total)
    lines = _legend_lines(legend, total, size)
    canvas = Image.new("RGB", (total, tall + len(rows) * (height + _GAP) + _GAP + tall * len(lines)), "white")
    draw, font = ImageDraw.Draw(canvas), font_of(size)
    for column, title in enumerate(titles):
        draw.text((_GAP + column * (width + _GAP), 1), title, fill="black", font=font)
    for r, row in enumerate(rows):
        for column, pixels in enumerate(row):
            picture = Image.fromarray(pixels)
            enlarged = (pixels.shape[1] * factor, pixels.shape[0] * factor)
            place = (_GAP + column * (width + _GAP), tall + _GAP + r * (height + _GAP))
            canvas.paste(picture.resize(enlarged, Image.Resampling.NEAREST), place)
    top = tall + _GAP + len(rows) * (height + _GAP)
    for line in lines:
        for x, name, swatch in line:
            canvas.paste(swatch, (x, top + size // 4))
            edge = (x, top + size // 4, x + swatch.width - 1, top + size // 4 + swatch.height - 1)
            draw.rectangle(edge, outline="gray")
            draw.text((x + swatch.width + size // 3, top), name, fill="black", font=font)
        top += tall
    return canvas


def _legend_lines(legend: Legend, width: int, size: int) -> list[list[tuple[int, str, Image.Image]]]:
    """Place the legend's entries (x, name, what it names) on as many lines as needed."""
    font = font_of(size)
    lines: list[list[tuple[int, str, Image.Image]]] = []
    x = width
    for name, pixels in legend:
        tall = size * 5 // 6
        swatch = Image.fromarray(pixels).resize((tall * pixels.shape[1] // pixels.shape[0], tall))
        need = swatch.width + size // 3 + int(font.getlength(name)) + size
        if x + need > width:
            lines.append([])
            x = _GAP
        lines[-1].append((x, name, swatch))
        x += need
    return lines


def save_png(image: Image.Image, path: Path, remedy: str = RESUME) -> None:
    """Write a PNG as `write_atomically` does."""
    write_atomically(path, lambda temporary: image.save(temporary, format="PNG"), remedy=remedy, durable=False)


Bytes = NDArray[np.uint8]

_CELL_GAP, _LINE, _SIDE = 8, 15, 96
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
    width, height = _SIDE + _CELL_GAP, _SIDE + lines * _LINE + _CELL_GAP
    rows = -(-len(examples) // columns)
    canvas = Image.new("RGB", (columns * width + _CELL_GAP, _LINE + rows * height + _CELL_GAP), "white")
    draw, font = ImageDraw.Draw(canvas), font_of(10)
    draw.text((_CELL_GAP, 2), f"below each image: {', '.join(titles)}", fill="black", font=font)
    for number, example in enumerate(examples):
        left, top = _CELL_GAP + number % columns * width, _LINE + _CELL_GAP + number // columns * height
        canvas.paste(_thumbnail(example.image), (left, top))
        for k, (text, right) in enumerate(example.lines):
            colour = "black" if right is None else _RIGHT if right else _WRONG
            draw.text((left, top + _SIDE + k * _LINE), fitting(text, font), fill=colour, font=font)
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
    canvas = Image.new("RGB", (max(left + side + _CELL_GAP, 210), top + side + _CELL_GAP), "white")
    shown = Image.fromarray(heat(shares)).resize((side, side), Image.Resampling.NEAREST)
    canvas.paste(shown, (left, top))
    draw = ImageDraw.Draw(canvas)
    draw.text((_CELL_GAP, 2), "rows: truth, columns: predicted, %", fill="black", font=font)
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
        text = fitting(name, font, top - 26)
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


def fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int = _SIDE) -> str:
    """The text, cut off at its end where it is wider than `width` pixels."""
    while len(text) > 1 and font.getlength(text) > width:
        text = f"{text[:-2].rstrip('…')}…"
    return text
