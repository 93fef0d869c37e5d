"""Bytes to normalised floats."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from semikit.augment.normalise import channel_statistics, normalize, to_float
from semikit.errors import ConfigError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_equals_torchvision() -> None:
    images = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8)
    ours = normalize(to_float(images), *channel_statistics(MEAN, STD))
    theirs = reference.normalize(reference.to_dtype(images, torch.float32, scale=True), list(MEAN), list(STD))
    torch.testing.assert_close(ours, theirs)
    assert ours.dtype == torch.float32


def test_bytes_span_zero_to_one() -> None:
    assert to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 2, 5, 4, 4)])
def test_any_channels_and_two_dates(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    mean, std = channel_statistics([0.1, 0.2, 0.3, 0.4, 0.5], [1, 2, 3, 4, 5])
    out = normalize(images, mean, std)
    for channel in range(5):
        expected = (images.select(-3, channel) - (channel + 1) / 10) / (channel + 1)
        torch.testing.assert_close(out.select(-3, channel), expected)


def test_what_cannot_be_divided_by_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"every value must be above 0"):
        channel_statistics([0.5, 0.5], [0.2, 0.0])
    with pytest.raises(ConfigError, match=r"mean has 3 values and std 1"):
        channel_statistics([0.5] * 3, [0.2])
