from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semikit.errors import DataError
from semikit.inference.windows import (
    EvaluateSettings,
    normalized,
    original,
    predict_scores,
    probabilities,
    resized,
    rows_of,
    sliding,
    window_starts,
)

CPU = torch.device("cpu")
Make = Callable[..., Any]


def test_windows_of_cityscapes() -> None:
    assert window_starts(1024, 798) == [0, 226]
    assert window_starts(2048, 798) == [0, 532, 1064, 1250]


@pytest.mark.parametrize(
    ("length", "window", "starts"), [(10, 10, [0]), (4, 10, [0]), (11, 10, [0, 1]), (3, 1, [0, 1, 2])]
)
def test_windows_at_the_border(length: int, window: int, starts: list[int]) -> None:
    assert window_starts(length, window) == starts


@given(length=st.integers(1, 300), window=st.integers(1, 120))
def test_windows_cover_every_pixel_and_stay_inside(length: int, window: int) -> None:
    starts = window_starts(length, window)
    covered = {pixel for start in starts for pixel in range(start, start + window)}
    assert covered >= set(range(length))
    assert max(starts) == max(length - window, 0)
    assert sorted(set(starts)) == starts


@settings(max_examples=25)
@given(height=st.integers(1, 70), width=st.integers(1, 70), window=st.integers(8, 40))
def test_sliding_reaches_every_pixel_of_any_image(pointwise: Make, height: int, width: int, window: int) -> None:
    network = pointwise(multiple=14)
    images = torch.randn(1, 3, height, width)
    with torch.no_grad():
        scores = sliding(network, images, window)
        expected = torch.nn.functional.conv2d(images, network.weight)
    assert scores.shape == (1, 3, height, width)
    counts = scores.sum(1)
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-4)
    assert counts.min() > 0.99, "each window adds probabilities that sum to 1"
    torch.testing.assert_close(probabilities(scores, EvaluateSettings(window="sliding")), expected.softmax(1))


def test_windows_are_padded_to_a_multiple_of_the_patch_only(pointwise: Make) -> None:
    network = pointwise(multiple=14)
    sliding(network, torch.zeros(2, 3, 20, 100), 50)
    assert set(network.seen) == {(2, 3, 28, 56)}


def test_original_leaves_a_fitting_image_alone(pointwise: Make) -> None:
    network = pointwise(multiple=7)
    images = torch.randn(2, 3, 14, 21)
    assert torch.equal(original(network, images), network(images))


def test_original_resizes_there_and_back(pointwise: Make) -> None:
    network = pointwise(multiple=14)
    assert original(network, torch.zeros(1, 3, 40, 48)).shape == (1, 3, 40, 48)
    assert network.seen == [(1, 3, 42, 42)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=2, max_size=3), st.data())
def test_rows_of_what_is_resized(sizes: list[tuple[int, int]], data: st.DataObject) -> None:
    maps = torch.rand(2, 3, *sizes[0], generator=torch.Generator().manual_seed(0))
    first = data.draw(st.integers(0, sizes[-1][0] - 1))
    end = data.draw(st.integers(first + 1, sizes[-1][0]))
    whole = maps
    for size in sizes[1:]:
        whole = resized(whole, size)
    torch.testing.assert_close(rows_of(maps, sizes[1:], first, end), whole[..., first:end, :])


@pytest.mark.parametrize("window", ["original", "sliding"])
def test_probabilities_sum_to_one_and_keep_the_prediction(pointwise: Make, window: str) -> None:
    how = EvaluateSettings(window=window)
    scores = predict_scores(pointwise(multiple=4), torch.randn(2, 3, 31, 17), how, crop=12)
    shares = probabilities(scores, how)
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 31, 17))
    assert torch.equal(shares.argmax(1), scores.argmax(1))


def test_the_size_of_the_window_goes_before_the_crop(pointwise: Make) -> None:
    for size, side in ((None, 12), (8, 8)):
        network = pointwise(multiple=4)
        predict_scores(network, torch.zeros(1, 3, 24, 24), EvaluateSettings(window="sliding", size=size), crop=12)
        assert network.seen[0][-1] == side


def test_images_are_normalised_as_the_network_wants_it(pointwise: Make) -> None:
    images = np.full((1, 2, 2, 3), 255, dtype=np.uint8)
    torch.testing.assert_close(normalized(pointwise(), images, CPU), torch.full((1, 3, 2, 2), 3.0))


def test_images_of_other_channels(pointwise: Make) -> None:
    with pytest.raises(DataError, match="the images have 5 channels, but the model was made for 3"):
        normalized(pointwise(), np.zeros((1, 2, 2, 5), dtype=np.uint8), CPU)
