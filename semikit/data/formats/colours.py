"""Masks whose classes are colours: a colour is one number, so that it is read as any other mask value is."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semikit.errors import DataError, some
from semikit.files import no_such_file, utf8_text
from semikit.settings.yaml_text import parse

Colour = tuple[int, int, int]
COLOUR = 1 << 24
"""What is added to a colour."""
_HEX = re.compile("#[0-9a-fA-F]{6}")
_SHOWN = 4
"""Colours that a message names."""


def packed(colour: Sequence[int]) -> int:
    """Red, green and blue (0..255) as one number, larger than any value of a mask of one channel."""
    red, green, blue = colour
    return COLOUR | red << 16 | green << 8 | blue


def unpacked(number: int) -> Colour:
    """The colour of a number."""
    return number >> 16 & 255, number >> 8 & 255, number & 255


def packed_pixels(values: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Colours (H, W, 3) as numbers (H, W)."""
    wide = values.astype(np.int32)
    pixels: NDArray[np.int32] = COLOUR | wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return pixels


def described_colours(values: NDArray[Any], counts: NDArray[np.int64], known: Mapping[int, str]) -> str:
    """Packed colours that are no class, those with most pixels first, each with the known colour most like it."""
    most = sorted(zip(counts.tolist(), values.tolist(), strict=True), reverse=True)
    shown = [f"{_text(value)}: {count} pixels, nearest {_nearest(value, known)}" for count, value in most[:_SHOWN]]
    return "; ".join([*shown, *([f"and {len(most) - _SHOWN} more colours"] if len(most) > _SHOWN else [])])


def _text(number: int) -> str:
    return str(list(unpacked(number))) if number >= COLOUR else f"value {number} of a mask without colours"


def _nearest(number: int, known: Mapping[int, str]) -> str:
    colour = unpacked(number)
    best = min(known, key=lambda other: sum((a - b) ** 2 for a, b in zip(colour, unpacked(other), strict=True)))
    return f"{known[best]} {list(unpacked(best))}"


def read_colours(path: Path) -> dict[str, Colour]:
    """Class -> colour, of a YAML {name: [r, g, b]} (or its key `colors`), a labelmap.txt (`name:r,g,b::`), lines
    `r g b name`, or a table with the columns name, r, g, b.

    Raises:
        DataError: no such file, or none of these.
    """
    if not path.is_file():
        raise no_such_file(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        raw = parse(path.read_bytes(), str(path))
        raw = raw.get("colors", raw) if isinstance(raw, dict) else {}
        found = [(str(name), colour) for name, colour in raw.items()]
    else:
        text = utf8_text(path)
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        found = [entry for line in lines if (entry := _entry(line)) is not None]
    colours = {name: colour for name, raw in found if (colour := _colour(raw)) is not None}
    if not colours or len(colours) < len(found):
        others = [f"{name}: {raw}" for name, raw in found if name not in colours]
        what = f"{some(others)} is no colour" if colours else "no list of colours"
        raise DataError(
            f'{path}: {what}. Write a YAML, road: [128, 64, 128] or road: "#804080" and so on, a line for each class.'
        )
    return colours


def _entry(line: str) -> tuple[str, Any] | None:
    """Name and colour of a line; None of a table's head."""
    if ":" in line:
        name, _, rest = line.partition(":")
        return name, rest.split(":")[0].split(",")
    words = next(csv.reader([line])) if "," in line else line.replace("\t", " ").split()
    if len(words) >= 4 and all(word.strip().isdigit() for word in words[:3]):
        return " ".join(words[3:]).strip(), words[:3]
    if len(words) >= 4 and all(word.strip().isdigit() for word in words[1:4]):
        return words[0].strip(), words[1:4]
    return None


def from_hex(raw: Any) -> Any:
    """The three values of "#804080"; what is no such text comes back as it is."""
    return tuple(bytes.fromhex(raw[1:])) if isinstance(raw, str) and _HEX.fullmatch(raw) else raw


def _colour(raw: Any) -> Colour | None:
    try:
        red, green, blue = (int(value) for value in from_hex(raw))
    except (TypeError, ValueError):
        return None
    return (red, green, blue) if all(0 <= value <= 255 for value in (red, green, blue)) else None
