"""Operations of a step against PERFORMANCE's counts, which were made with the decoder's 1x1 convolutions late."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.step.class_workload import configure_classes
from benchmarks.step.flops import step_flops
from benchmarks.step.workload import configure
from semikit.core.network import Features, Network
from semikit.models.classifier import build_classifier
from semikit.models.segmenter import build_segmenter
from semikit.models.siamese import build_siamese


class Product(Network):
    """One product of 5 x 7, so that everything can be counted by hand."""

    widths, embed_dim, num_classes, multiple = (5,), 7, 7, 1

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 7, bias=False)

    def encode(self, images: torch.Tensor) -> Features:
        return Features((images.flatten(1),), (1, 5))

    def embed(self, features: Features) -> torch.Tensor:
        return features.levels[0]

    def classify(self, embedding: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return self.layer(embedding)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return []


def test_by_hand() -> None:
    network = Product()
    forward = 2 * 5 * 7
    assert step_flops(network, (1, 1, 5), 3, 0) == 3 * forward
    assert step_flops(network, (1, 1, 5), 3, 4) == 3 * forward + 4 * 2 * forward, "no gradient for images"
    assert next(network.parameters()).device.type == "cpu"


def test_segmentation_with_dinov2_small() -> None:
    config = configure({"model": {"encoder": "dinov2-small"}, "views": {"weak": {"crop": 518}}})
    network = build_segmenter(config.model, 21)  # type: ignore[arg-type]
    assert step_flops(network, (3, 518, 518), 8, 24) / 1e12 == pytest.approx(9.09, rel=0.01)


def test_classification_with_a_wide_network() -> None:
    network = build_classifier(configure_classes({}).model, 10)  # type: ignore[arg-type]
    assert step_flops(network, (3, 32, 32), 0, 960) / 1e12 == pytest.approx(1.234, rel=1e-3)


def test_two_dates_double_the_encoder() -> None:
    config = configure({"views": {"weak": {"crop": 126}}}, "cd")
    one, two = build_segmenter(config.model, 2), build_siamese(config.model, 2)  # type: ignore[arg-type]
    with torch.no_grad():
        ratio = step_flops(two, (2, 3, 126, 126), 1, 0) / step_flops(one, (3, 126, 126), 1, 0)
    assert 1.5 < ratio < 2
