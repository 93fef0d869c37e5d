"""Evaluation of change detection against the authors' own numbers (LiheYoung/UniMatch-V2, f6afb4d, remote-sensing)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from semikit.core.network import Features, Network
from semikit.inference.windows import original
from semikit.metrics.change import change_metrics
from semikit.metrics.scoring import confusion_matrix, scores_of

PAIRS = 3


@pytest.fixture(scope="module")
def stored() -> dict[str, NDArray[Any]]:
    with np.load(Path(__file__).parent / "data" / "a6_eval_cd.npz") as file:
        return dict(file)


class Convolution(Network):
    """The stored convolution over the difference of both dates."""

    def __init__(self, stored: dict[str, NDArray[Any]], multiple: int) -> None:
        super().__init__()
        self.widths, self.embed_dim, self.num_classes, self.multiple = (3,), 3, 2, multiple
        self.weight = nn.Parameter(torch.from_numpy(stored["conv_weight"]))
        self.bias = nn.Parameter(torch.from_numpy(stored["conv_bias"]))

    def encode(self, images: Tensor) -> Features:
        return Features(((images[:, 0] - images[:, 1]).abs(),), (images.shape[-2], images.shape[-1]))

    def embed(self, features: Features) -> Tensor:
        return features.levels[0]

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        return F.conv2d(embedding, self.weight, self.bias, padding=2)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return []


@pytest.mark.parametrize(("multiple", "suffix"), [(14, ""), (1, "_no_multiplier")])
def test_both_classes_and_accuracy(stored: dict[str, NDArray[Any]], multiple: int, suffix: str) -> None:
    """Released: accuracy over all pixels, ignored ones counted as wrong; here over valid ones."""
    network, metrics, pixels = Convolution(stored, multiple), change_metrics(2, "paper"), 0
    for k in range(PAIRS):
        pair = torch.stack([torch.from_numpy(stored[f"{date}{k}"]) for date in "ab"], dim=1)
        mask = torch.from_numpy(stored[f"mask{k}"])
        with torch.no_grad():
            predicted = original(network, pair).argmax(1)
        metrics.update(predicted, mask, mask != 255)
        pixels += mask.numel()
    scores = scores_of(metrics, ("unchanged", "changed"))
    expected = stored[f"iou_class{suffix}"].tolist()
    assert list(scores.per_class.values()) == pytest.approx(expected, abs=1e-3)
    assert scores.value == pytest.approx(expected[1], abs=1e-3)
    valid = int(confusion_matrix(metrics).sum())
    assert valid < pixels
    assert scores.extra["OA"] * valid / pixels == pytest.approx(float(stored[f"overall_acc{suffix}"]), abs=1e-3)
    assert scores.extra["F1"] == pytest.approx(200 * expected[1] / (100 + expected[1]), abs=1e-3)
