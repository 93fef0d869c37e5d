"""Colours that stay apart, also laid over an image and for those who see no red or no green."""

from __future__ import annotations

import numpy as np
import pytest

from semikit.data.palette import as_seen, palette


def separation(count: int, under: float) -> float:
    """The least difference (Oklab) of two colours that lie half transparent over a gray."""
    looks = as_seen((palette(count)[:count] + under) / 2)
    apart = np.linalg.norm(looks[:, :, None] - looks[:, None], axis=3)
    apart[:, np.arange(count), np.arange(count)] = np.inf
    return float(apart.min())


def test_white_black_and_what_colour_blind_see() -> None:
    """Values of Oklab's definition; red and a dark yellow green look alike without green receptors."""
    looks = as_seen(np.array([[255.0, 255, 255], [0, 0, 0], [255, 0, 0]]))
    np.testing.assert_allclose(looks[:, 0], [[1, 0, 0]] * 3, atol=2e-3)
    np.testing.assert_allclose(looks[:, 1], 0, atol=1e-6)
    np.testing.assert_allclose(looks[0, 2], [0.628, 0.225, 0.126], atol=1e-3)
    assert looks[2, 2, 1] < looks[0, 2, 1] / 3


@pytest.mark.parametrize("under", [60.0, 128.0, 200.0])
@pytest.mark.parametrize(("count", "least"), [(3, 0.13), (5, 0.11), (8, 0.07), (12, 0.05), (20, 0.035)])
def test_they_stay_apart_for_all_eyes(count: int, least: float, under: float) -> None:
    assert separation(count, under) > least


def test_the_same_index_has_the_same_colour_and_all_differ() -> None:
    assert np.array_equal(palette(5)[:5], palette(255)[:5])
    assert len(np.unique(palette(255)[:255], axis=0)) == 255
    assert palette(2, [(1, 2, 3), (4, 5, 6)])[:3].tolist() == [[1, 2, 3], [4, 5, 6], [0, 0, 0]]
