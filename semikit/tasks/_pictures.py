"""Pictures for people: image, truth, prediction and confidence side by side; class maps; overlays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]
_GAP = 6
_HEAD = 16
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


def heat(confidence: npt.NDArray[np.floating]) -> Pixels:
    """Confidence (H, W) in 0..1 -> (H, W, 3), dark blue (low) to light yellow (high)."""
    stops = np.array([[20, 24, 82], [62, 73, 137], [38, 130, 142], [53, 183, 121], [253, 231, 37]], dtype=float)
    place = np.clip(confidence, 0, 1) * (len(stops) - 1)
    low = np.minimum(place.astype(int), len(stops) - 2)
    share = (place - low)[..., None]
    return np.asarray((stops[low] * (1 - share) + stops[low + 1] * share).round(), dtype=np.uint8)


def shown_labels(labels: Pixels, valid: npt.NDArray[np.bool_] | None, colours: Pixels) -> Pixels:
    """Class ids (H, W) -> colours (H, W, 3); white where not valid."""
    shown = colours[labels]
    if valid is not None:
        shown = np.where(valid[..., None], shown, np.uint8(255))
    return np.asarray(shown, dtype=np.uint8)


def sheet(rows: Sequence[Sequence[Pixels]], titles: Sequence[str], legend: Sequence[tuple[str, Pixels]]) -> Image.Image:
    """A table of pictures: one row per image, a title over each column, the classes' colours below.

    Small images are enlarged by a whole factor without smoothing, large ones thinned out.
    """
    step = max(1, -(-max(picture.shape[0] for row in rows for picture in row) // _MAX_SIDE))
    rows = [[picture[::step, ::step] for picture in row] for row in rows]
    height, width = max(r[0].shape[0] for r in rows), max(r[0].shape[1] for r in rows)
    factor = max(1, -(-_MIN_SIDE // max(height, width)))
    height, width = height * factor, width * factor
    total = len(titles) * (width + _GAP) + _GAP
    lines = _legend_lines(legend, total)
    canvas = Image.new("RGB", (total, _HEAD + len(rows) * (height + _GAP) + _GAP + 18 * len(lines)), "white")
    draw, font = ImageDraw.Draw(canvas), font_of(12)
    for column, title in enumerate(titles):
        draw.text((_GAP + column * (width + _GAP), 1), title, fill="black", font=font)
    for r, row in enumerate(rows):
        for column, pixels in enumerate(row):
            picture = Image.fromarray(pixels)
            size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
            place = (_GAP + column * (width + _GAP), _HEAD + _GAP + r * (height + _GAP))
            canvas.paste(picture.resize(size, Image.Resampling.NEAREST), place)
    top = _HEAD + _GAP + len(rows) * (height + _GAP)
    for i, line in enumerate(lines):
        for x, name, colour in line:
            draw.rectangle((x, top + 18 * i + 3, x + 11, top + 18 * i + 14), fill=tuple(int(c) for c in colour))
            draw.text((x + 16, top + 18 * i + 1), name, fill="black", font=font)
    return canvas


def _legend_lines(legend: Sequence[tuple[str, Pixels]], width: int) -> list[list[tuple[int, str, Pixels]]]:
    """Place the legend's entries (x, name, colour) on as many lines as needed."""
    font = font_of(12)
    lines: list[list[tuple[int, str, Pixels]]] = []
    x = width
    for name, colour in legend:
        need = 16 + int(font.getlength(name)) + 14
        if x + need > width:
            lines.append([])
            x = _GAP
        lines[-1].append((x, name, colour))
        x += need
    return lines


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG under a temporary name first, so that an interruption leaves no half picture.

    Raises:
        OSError: when the disk is full or the folder cannot be written; nothing is left then.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        image.save(temporary, format="PNG")
        temporary.replace(path)
    except OSError:
        with suppress(OSError):  # of a disk that became read-only nothing can be taken away
            temporary.unlink(missing_ok=True)
        raise
