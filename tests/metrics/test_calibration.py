"""The expected calibration error, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from semikit.metrics.calibration import CalibrationError


def metric_of(confidence: Tensor, right: Tensor, bins: int = 15, parts: int = 1) -> CalibrationError:
    metric = CalibrationError(bins)
    labels = torch.where(right, 1, 0)
    for part in zip(confidence.chunk(parts), torch.ones_like(labels).chunk(parts), labels.chunk(parts), strict=True):
        metric.update(*part)
    return metric


def test_by_hand() -> None:
    metric = metric_of(torch.tensor([0.55, 0.58, 0.95, 0.99, 1.0]), torch.tensor([True, False, True, True, False]), 10)
    assert metric.sums[0].tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 3]
    low, high = abs(0.565 - 1 / 2), abs((0.95 + 0.99 + 1.0) / 3 - 2 / 3)
    assert metric.compute()["ECE"].item() == pytest.approx((2 * low + 3 * high) / 5)


def test_batches_add_up() -> None:
    confidence, right = torch.rand(50), torch.rand(50) > 0.5
    assert torch.allclose(metric_of(confidence, right).sums, metric_of(confidence, right, parts=3).sums)


def test_the_perfectly_calibrated() -> None:
    metric = metric_of(torch.full((100,), 0.75), torch.arange(100) < 75)
    assert metric.compute()["ECE"].item() == pytest.approx(0.0, abs=1e-6)
