"""Whole-image evaluation against the authors' own numbers."""

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
from semikit.core.task import Scores
from semikit.inference.windows import original
from semikit.metrics.confusion import Average, count
from semikit.metrics.scoring import confusion_matrix, scores_of
from semikit.metrics.segmentation import segmentation_metrics

IMAGES = 6


@pytest.fixture(scope="module")
def stored() -> dict[str, NDArray[Any]]:
    with np.load(Path(__file__).parent / "data" / "a6_eval_original_mult14.npz") as file:
        return dict(file)


class Convolution(Network):
    """The stored convolution as a network; classes beyond its own are never predicted."""

    def __init__(self, stored: dict[str, NDArray[Any]], multiple: int, num_classes: int = 5) -> None:
        super().__init__()
        self.widths, self.embed_dim, self.num_classes, self.multiple = (3,), 3, num_classes, multiple
        self.weight = nn.Parameter(torch.from_numpy(stored["conv_weight"]))
        self.bias = nn.Parameter(torch.from_numpy(stored["conv_bias"]))
        self.sizes: list[list[int]] = []

    def encode(self, images: Tensor) -> Features:
        self.sizes.append(list(images.shape[-2:]))
        return Features((images,), (images.shape[-2], images.shape[-1]))

    def embed(self, features: Features) -> Tensor:
        return features.levels[0]

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        logits = F.conv2d(embedding, self.weight, self.bias, padding=3)
        absent = logits.new_full((logits.shape[0], self.num_classes - 5, *logits.shape[-2:]), -1e4)
        return torch.cat([logits, absent], dim=1)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return []


def evaluated(
    stored: dict[str, NDArray[Any]], network: Convolution, images: int = IMAGES
) -> tuple[Tensor, list[NDArray[Any]]]:
    """The confusion matrix over the first images, and the predictions."""
    size = network.num_classes
    matrix, predictions = torch.zeros((size, size), dtype=torch.long), []
    for k in range(images):
        image, mask = torch.from_numpy(stored[f"img{k}"]), torch.from_numpy(stored[f"mask{k}"])
        with torch.no_grad():
            predicted = original(network, image).argmax(1)
        matrix += count(predicted, mask, mask != 255, size)
        predictions.append(predicted.numpy())
    return matrix, predictions


def scores_from(matrix: Tensor, average: Average = "paper") -> Scores:
    metrics = segmentation_metrics(len(matrix), average)
    confusion_matrix(metrics).add_(matrix)
    return scores_of(metrics, [str(k) for k in range(len(matrix))])


def test_sizes_predictions_and_scores(stored: dict[str, NDArray[Any]]) -> None:
    network = Convolution(stored, 14)
    matrix, predictions = evaluated(stored, network)
    assert network.sizes == stored["resized_hw"].tolist()
    for k, predicted in enumerate(predictions):
        assert np.mean(predicted == stored[f"pred{k}"]) > 0.9999, f"image {k}"
    scores = scores_from(matrix)
    assert scores.value == pytest.approx(float(stored["mIoU"]), abs=1e-3)
    assert list(scores.per_class.values()) == pytest.approx(stored["iou_class"].tolist(), abs=1e-3)


def test_without_a_multiple(stored: dict[str, NDArray[Any]]) -> None:
    matrix, _ = evaluated(stored, Convolution(stored, 1))
    scores = scores_from(matrix)
    assert scores.value == pytest.approx(float(stored["mIoU_no_multiplier"]), abs=1e-3)
    assert list(scores.per_class.values()) == pytest.approx(stored["iou_class_no_multiplier"].tolist(), abs=1e-3)


def test_an_image_smaller_than_half_a_multiple_takes_one(stored: dict[str, NDArray[Any]]) -> None:
    network = Convolution(stored, 512)
    matrix, _ = evaluated(stored, network)
    assert network.sizes == [[512, 512]] * IMAGES
    value = scores_from(matrix).value
    assert value == pytest.approx(float(stored["mIoU_multiplier512"]), abs=1e-3)


def test_classes_that_are_absent(stored: dict[str, NDArray[Any]]) -> None:
    """The first image: class 4 is predicted but nowhere true, 5 and 6 are neither; printed are three 0."""
    matrix, _ = evaluated(stored, Convolution(stored, 14, num_classes=7), images=1)
    scores = scores_from(matrix)
    assert scores.value == pytest.approx(float(stored["mIoU_nclass7_two_absent_classes"]), abs=1e-3)
    assert [value is None for value in scores.per_class.values()] == [False] * 4 + [True] * 3
    values = [value or 0.0 for value in scores.per_class.values()]
    assert values == pytest.approx(stored["iou_class_nclass7"].tolist(), abs=1e-3)
    present = scores_from(matrix, "present")
    assert present.value == pytest.approx(scores.value * 7 / 4, abs=1e-9)
    assert scores.extra["mIoU_present"] == present.value
