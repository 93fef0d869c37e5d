"""The expected calibration error, by hand."""

from __future__ import annotations

import pytest
import torch

from semikit.metrics.calibration import binned, expected_calibration_error


def test_by_hand() -> None:
    confidence = torch.tensor([0.55, 0.58, 0.95, 0.99, 1.0])
    right = torch.tensor([True, False, True, True, False])
    sums = binned(confidence, right, 10)
    assert sums[0].tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 3]
    low, high = abs(0.565 - 1 / 2), abs((0.95 + 0.99 + 1.0) / 3 - 2 / 3)
    assert expected_calibration_error(sums) == pytest.approx((2 * low + 3 * high) / 5)


def test_parts_add_up_and_nothing_is_no_error() -> None:
    confidence, right = torch.rand(50), torch.rand(50) > 0.5
    whole = binned(confidence, right, 15)
    assert torch.allclose(whole, binned(confidence[:20], right[:20], 15) + binned(confidence[20:], right[20:], 15))
    assert expected_calibration_error(torch.zeros(3, 15)) == 0.0


def test_the_perfectly_calibrated() -> None:
    confidence = torch.full((100,), 0.75)
    right = torch.arange(100) < 75
    assert expected_calibration_error(binned(confidence, right, 15)) == pytest.approx(0.0, abs=1e-6)
