from __future__ import annotations

import pytest

from semikit.models.encoders.create import build_encoder
from semikit.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, statistics
from semikit.models.settings import ModelSettings


def test_statistics_of_pretraining_or_imagenet() -> None:
    pretrained = {"mean": (0.5, 0.5, 0.5), "std": [0.1, 0.2, 0.3]}
    assert statistics(pretrained, 3, random=False) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    assert statistics(pretrained, 3, random=True) == (IMAGENET_MEAN, IMAGENET_STD)
    mean, std = statistics(pretrained, 4, random=False)
    assert mean == (0.5,) * 4
    assert std == pytest.approx((0.2,) * 4)


def test_random_encoder_has_imagenet_statistics() -> None:
    settings = ModelSettings(
        encoder="beit-base", weights="none", encoder_args={"depth": 1, "embed_dim": 8, "num_heads": 1}
    )
    assert build_encoder(settings).mean == IMAGENET_MEAN
