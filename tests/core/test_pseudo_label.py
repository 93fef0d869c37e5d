"""Pseudo-labels against softmax and argmax."""

from __future__ import annotations

import pytest
import torch

from semikit.core.pseudo_labels import predicted


@pytest.mark.parametrize("shape", [(4,), (3, 5, 7)], ids=["images", "pixels"])
@pytest.mark.parametrize("classes", [2, 5])
def test_labels_and_confidence(shape: tuple[int, ...], classes: int) -> None:
    logits = torch.randn(shape[0], classes, *shape[1:], generator=torch.Generator().manual_seed(0)) * 6
    found = predicted(logits)
    labels, confidence = found.labels, found.confidence
    assert labels.shape == confidence.shape == shape
    assert torch.equal(labels, logits.argmax(1))
    torch.testing.assert_close(confidence, logits.softmax(1).amax(1), rtol=1e-6, atol=0)
    assert labels.dtype == torch.int64


def test_has_no_gradient() -> None:
    confidence = predicted(torch.randn(2, 3, requires_grad=True)).confidence
    assert not confidence.requires_grad


def test_extreme_logits_are_certain() -> None:
    confidence = predicted(torch.tensor([[1e30, -1e30, 0.0], [200.0, 0.0, 100.0]])).confidence
    assert confidence.tolist() == [1.0, 1.0]


def test_half_precision_is_widened() -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    confidence = predicted(logits).confidence
    assert confidence.dtype == torch.float32
    assert torch.equal(confidence, predicted(logits.float()).confidence)


def test_the_logits_are_left_alone() -> None:
    logits = torch.tensor([[1.0, 2.0]])
    predicted(logits)
    assert logits.tolist() == [[1.0, 2.0]]
