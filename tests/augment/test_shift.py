"""The weak view of small images against padding and cutting with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from semikit.augment.resampling import draw_shifts, shifted
from semikit.augment.settings import ShiftSettings
from tests.helpers.sync_counter import SyncCounter


def padded_and_cut(image: Tensor, flip: int, down: int, right: int, reach: int) -> np.ndarray:
    array = image.numpy()[..., ::-1] if flip else image.numpy()
    padded = np.pad(array, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    height, width = array.shape[-2:]
    return padded[:, reach - down : reach - down + height, reach - right : reach - right + width]


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_equals_a_reflected_border_that_is_cut(channels: int) -> None:
    draws = torch.tensor([(flip, down, right) for flip in (0, 1) for down in range(-5, 6) for right in range(-5, 6)])
    images = torch.randint(0, 256, (len(draws), channels, 9, 12), dtype=torch.uint8)
    views = shifted(images, draws)
    assert views.dtype == torch.uint8
    for image, view, drawn in zip(images, views, draws.tolist(), strict=True):
        np.testing.assert_array_equal(view.numpy(), padded_and_cut(image, *drawn, reach=5))


def test_draws_are_uniform_whole_pixels() -> None:
    draws = draw_shifts(np.random.default_rng(0), 20000, (32, 96), ShiftSettings())
    assert draws.dtype == torch.int64
    assert draws.shape == (20000, 3)
    assert draws[:, 0].float().mean().item() == pytest.approx(0.5, abs=0.015)
    for column, reach in ((1, 4), (2, 12)):
        counts = torch.bincount(draws[:, column] + reach, minlength=2 * reach + 1) / len(draws)
        assert counts.shape == (2 * reach + 1,)
        np.testing.assert_allclose(counts.numpy(), 1 / (2 * reach + 1), atol=0.01)


def test_flip_and_shift_can_be_left_out() -> None:
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8)
    still = draw_shifts(np.random.default_rng(0), 50, (8, 8), ShiftSettings(flip=0, shift=0))
    assert torch.equal(shifted(images, still), images)
    digits = draw_shifts(np.random.default_rng(0), 500, (32, 32), ShiftSettings(flip=0))
    assert digits[:, 0].sum() == 0
    assert digits[:, 1:].abs().max() == 4
    mirrored = draw_shifts(np.random.default_rng(0), 50, (8, 8), ShiftSettings(flip=1, shift=0))
    assert torch.equal(shifted(images, mirrored), images.flip(-1))


def test_draws_repeat_by_seed() -> None:
    first, second, other = (
        draw_shifts(np.random.default_rng(seed), 20, (32, 32), ShiftSettings()) for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_nothing_waits_for_the_device_and_it_compiles() -> None:
    images = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8)
    draws = draw_shifts(np.random.default_rng(0), 20, (32, 32), ShiftSettings())
    with SyncCounter() as counter:
        expected = shifted(images, draws)
    assert not counter.found
    assert counter.total > 5
    compiled = torch.compile(shifted, fullgraph=True, backend="eager")
    assert torch.equal(compiled(images, draws), expected)
