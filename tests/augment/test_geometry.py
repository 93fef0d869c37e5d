"""The weak view against PIL's resize, then pad, then crop, then mirror."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semikit.augment.settings import WeakSettings
from semikit.augment.weak import Window, cut, cut_map, cut_valid, draw_window

Pixels = npt.NDArray[np.uint8]


def whole(pixels: npt.NDArray[np.generic], window: Window, resample: Image.Resampling) -> Pixels:
    """Resize everything, pad, crop, mirror."""
    height, width = window.scaled
    picture = Image.fromarray(pixels).resize((width, height), resample)
    padded = Image.new(picture.mode, (max(width, window.crop), max(height, window.crop)))
    padded.paste(picture, (0, 0))
    box = (window.left, window.top, window.left + window.crop, window.top + window.crop)
    cropped: Pixels = np.array(padded.crop(box), dtype=np.uint8)
    return cropped[:, ::-1] if window.flip else cropped


def scene(rng: np.random.Generator, size: tuple[int, int], bands: int = 3) -> Pixels:
    """Noise on blocks on slopes: sharp and flat places."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    blocks = ((rows // 17 + columns // 23) % 5) * 40
    base = (blocks + rows // 4)[..., None] + rng.integers(0, 40, (*size, bands))
    return np.asarray(np.clip(base, 0, 255), dtype=np.uint8)


def windows(seed: int, count: int, crop: int = 98) -> list[tuple[np.random.Generator, Window]]:
    made = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        size = (int(rng.integers(30, 260)), int(rng.integers(30, 260)))
        made.append((rng, draw_window(size, rng, WeakSettings(crop=crop))))
    return made


def test_image_equals_resize_then_crop_up_to_rounding() -> None:
    worst, means, biases, enlarged = 0, [], [], 0
    for rng, window in windows(1, 80):
        pixels = scene(rng, window.source)
        difference = cut(pixels, window).astype(int) - whole(pixels, window, Image.Resampling.BILINEAR)
        worst, enlarged = max(worst, int(np.abs(difference).max())), enlarged + (window.scaled > window.source)
        means.append(np.abs(difference).mean())
        biases.append(abs(difference.mean()))
    assert 20 < enlarged < 70
    assert worst <= 2
    assert max(means) < 0.3
    assert max(biases) < 0.02


def test_unscaled_image_is_copied() -> None:
    pixels = scene(np.random.default_rng(0), (120, 150))
    window = Window((120, 150), (120, 150), 7, 31, 64, False)
    np.testing.assert_array_equal(cut(pixels, window), pixels[7:71, 31:95])


def test_labels_equal_resize_then_crop_exactly() -> None:
    for rng, window in windows(2, 80):
        labels = rng.integers(0, 255, window.source, dtype=np.uint8)
        np.testing.assert_array_equal(cut_map(labels, window), whole(labels, window, Image.Resampling.NEAREST))


@pytest.mark.parametrize("scaled", [(60, 90), (120, 180), (240, 360), (360, 540), (121, 181)])
def test_labels_on_even_scales_equal_resize_then_crop_exactly(scaled: tuple[int, int]) -> None:
    labels = np.random.default_rng(3).integers(0, 255, (120, 180), dtype=np.uint8)
    window = Window((120, 180), scaled, min(3, scaled[0] - 1), 5, 80, True)
    np.testing.assert_array_equal(cut_map(labels, window), whole(labels, window, Image.Resampling.NEAREST))


def test_image_labels_and_valid_stay_aligned() -> None:
    for rng, window in windows(4, 30):
        labels = (scene(rng, window.source, 1)[..., 0] // 64).astype(np.uint8)
        enlarged = Window(window.source, tuple(2 * side for side in window.source), 0, 0, 70, window.flip)  # type: ignore[arg-type]
        painted = np.repeat(labels[..., None] * 60, 3, axis=-1).astype(np.uint8)
        seen, expected = cut(painted, enlarged)[..., 0].astype(int), cut_map(labels, enlarged).astype(int) * 60
        inside = cut_map(np.ones(window.source, dtype=bool), enlarged)
        agree = np.abs(seen - expected)[inside] <= 46
        assert agree.mean() > 0.97
        shifted = np.abs(np.roll(seen, 3, axis=1) - expected)[inside] <= 46
        assert shifted.mean() < agree.mean()
        np.testing.assert_array_equal(cut_valid(labels > 1, enlarged), cut_map(labels, enlarged) > 1)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 13])
def test_any_number_of_bands(bands: int) -> None:
    for rng, window in windows(5, 5):
        pixels = scene(rng, window.source, bands)
        out = cut(pixels, window)
        assert out.shape == (98, 98, bands)
        assert out.dtype == np.uint8
        for band in range(bands):
            one = np.repeat(pixels[..., band, None], 3, axis=-1)
            np.testing.assert_array_equal(out[..., band], cut(one, window)[..., 0])


def test_padding_lies_right_and_below_and_is_never_valid() -> None:
    window = Window((40, 60), (20, 30), 0, 0, 50, False)
    image = cut(np.full((40, 60, 3), 200, dtype=np.uint8), window)
    valid = cut_valid(None, window)
    assert (image[:20, :30] == 200).all()
    assert image.sum() == 200 * 20 * 30 * 3
    assert valid[:20, :30].all()
    assert valid.sum() == 600
    np.testing.assert_array_equal(valid, cut_valid(np.ones((40, 60), dtype=bool), window))
    mirrored = Window((40, 60), (20, 30), 0, 0, 50, True)
    np.testing.assert_array_equal(cut_valid(None, mirrored), valid[:, ::-1])


@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    crop=st.integers(1, 300),
    low=st.floats(0.05, 2),
    more=st.floats(1, 3),
    seed=st.integers(0, 2**32),
)
def test_a_window_lies_in_the_padded_image(
    height: int, width: int, crop: int, low: float, more: float, seed: int
) -> None:
    settings = WeakSettings(crop=crop, scale=(low, low * more))
    window = draw_window((height, width), np.random.default_rng(seed), settings)
    longest = max(height, width)
    assert max(1, int(longest * low)) <= max(window.scaled) <= max(1, int(longest * low * more))
    for start, side in ((window.top, window.scaled[0]), (window.left, window.scaled[1])):
        assert 0 <= start <= max(side - crop, 0)
    assert min(window.filled) >= 1
    assert cut_map(np.ones((height, width), dtype=np.uint8), window).shape == (crop, crop)


def test_draws_have_the_released_distribution() -> None:
    settings = WeakSettings(crop=50)
    rng = np.random.default_rng(0)
    drawn = [draw_window((100, 80), rng, settings) for _ in range(6000)]
    long = np.array([window.scaled[0] for window in drawn])
    assert (long.min(), long.max()) == (50, 200)
    assert abs(long.mean() - 125) < 2
    assert all(window.scaled[1] == int(80 * window.scaled[0] / 100 + 0.5) for window in drawn)
    assert abs(np.mean([window.flip for window in drawn]) - 0.5) < 0.025
    places = [window.top / (window.scaled[0] - 50) for window in drawn if window.scaled[0] > 60]
    assert (min(places), max(places)) == (0, 1)
    assert abs(np.mean(places) - 0.5) < 0.02


def test_the_same_generator_state_gives_the_same_window() -> None:
    settings = WeakSettings(crop=50)
    first, second = (draw_window((100, 80), np.random.default_rng(7), settings) for _ in range(2))
    assert first == second
    assert first != draw_window((100, 80), np.random.default_rng(8), settings)


def test_two_dates_share_a_window() -> None:
    rng, window = windows(6, 1)[0]
    before = scene(rng, window.source)
    after = before.copy()
    after[: window.source[0] // 2] = 0
    same = (cut(before, window) == cut(after, window)).all(axis=-1)
    unchanged = cut_map(np.arange(window.source[0])[:, None].repeat(window.source[1], 1), window)
    assert same[unchanged > window.source[0] // 2 + 2].all()
