"""The pictures of a run folder, as they are looked at."""

from __future__ import annotations

import numpy as np
import pytest

from semikit.data.palette import palette
from semikit.inference.pictures import captioned, heat, sheet, sheet_legend, striped_outside

COLOURS = palette(2)


def drawn(width: int, *, ignored: bool = False, confidence: bool = False) -> np.ndarray:
    legend = sheet_legend([("one", COLOURS[0]), ("two", COLOURS[1])], ignored=ignored, confidence=confidence)
    return np.asarray(sheet([[np.full((192, width, 3), 255, np.uint8)] * 4], ["image"] * 4, legend))


def colours_of(picture: np.ndarray) -> set[tuple[int, ...]]:
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    found = np.unique(red << 16 | green << 8 | blue)
    return {(one >> 16, one >> 8 & 255, one & 255) for one in found.tolist()}


@pytest.mark.parametrize("width", [192, 640])
def test_text_is_as_large_as_the_picture_asks_for(width: int) -> None:
    """Shown 1200 pixels wide, its capital letters have at least eight."""
    picture = drawn(width)
    title = (picture[: picture.shape[1] // 60, :, :].min(axis=(1, 2)) < 128).sum()
    assert title / picture.shape[1] * 1200 >= 8
    assert captioned(sheet([[np.zeros((9, 3000, 3), np.uint8)]], ["a"], []), "caption").height - 9 > 80


def test_confidence_has_a_bar_of_its_colours() -> None:
    colours = colours_of(drawn(640, confidence=True))
    shown = [tuple(colour) for colour in heat(np.linspace(0, 1, 9)[None])[0].tolist()]
    assert all(min(np.abs(np.subtract(colour, one)).max() for one in colours) <= 6 for colour in shown)
    assert len(colours - colours_of(drawn(640))) > 60


def test_what_does_not_count_is_striped_in_truth_and_legend() -> None:
    labels, valid = np.zeros((32, 32), np.uint8), np.ones((32, 32), bool)
    valid[:16] = False
    truth = striped_outside(COLOURS[labels], valid)
    assert (truth[16:] == COLOURS[0]).all()
    stripes = np.unique(truth[:16].reshape(-1, 3), axis=0)
    assert len(stripes) == 2
    legend = drawn(192, ignored=True).reshape(-1, 3)
    assert all((legend == stripe).all(axis=1).sum() > 20 for stripe in stripes)
