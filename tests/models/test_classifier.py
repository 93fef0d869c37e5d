"""Networks that give a whole image one class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from semikit.errors import ConfigError, UnknownNameError, WeightsError
from semikit.models.classifier import ClassifierSettings, build_classifier

SMALL = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_width": 8}
TINY = {"depth": 2, "embed_dim": 32, "num_heads": 2}


def build(encoder: str = "wrn-28-2", classes: int = 5, **settings: Any) -> Any:
    return build_classifier(ClassifierSettings(encoder=encoder, **settings), classes)


@pytest.mark.parametrize(
    ("encoder", "args", "side", "width"),
    [
        ("wrn-28-2", {"blocks": 1}, 32, 128),
        ("resnet10t", SMALL, 32, 8),
        ("vit-tiny", {**TINY, "img_size": 32, "patch_size": 8}, 32, 32),
        ("dinov2-small", TINY, 42, 32),
    ],
)
def test_one_level_of_pooled_features(encoder: str, args: dict[str, Any], side: int, width: int) -> None:
    network = build(encoder, encoder_args=args).eval()
    images = torch.randn(2, 3, side, side)
    features = network.encode(images)
    assert (network.widths, network.embed_dim, [level.shape for level in features.levels]) == (
        (width,),
        width,
        [(2, width)],
    )
    assert torch.equal(network(images), network.classifier(network.embed(features)))
    assert network(images).shape == (2, 5)


def test_what_is_normalised_by() -> None:
    assert build(encoder_args={"blocks": 1}).mean == (0.485, 0.456, 0.406)
    own = build(encoder_args={"blocks": 1}, mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1])
    assert (own.mean, own.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    with pytest.raises(ValidationError, match="mean has 2 numbers for 3 channels"):
        ClassifierSettings(mean=(0.5, 0.4))


def test_a_frozen_encoder_keeps_its_weights_and_statistics() -> None:
    network = build("resnet10t", encoder_args=SMALL, freeze=True).train()
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    network(torch.randn(4, 3, 32, 32)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is not None] == [
        "classifier.weight",
        "classifier.bias",
    ]
    assert all(torch.equal(before[name], value) for name, value in network.encoder.state_dict().items())


def test_weights_of_a_file(tmp_path: Path) -> None:
    first = build(encoder_args={"blocks": 1})
    save_file(first.encoder.state_dict(), tmp_path / "wide.safetensors")
    again = build(encoder_args={"blocks": 1}, weights=str(tmp_path / "wide.safetensors"))
    assert all(map(torch.equal, first.encoder.state_dict().values(), again.encoder.state_dict().values()))
    with pytest.raises(WeightsError, match="does not fit the encoder"):
        build(encoder_args={"blocks": 2}, weights=str(tmp_path / "wide.safetensors"))


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"encoder": "wrn-28"}, UnknownNameError, "unknown encoder 'wrn-28'. Did you mean .*wrn-28-2"),
        ({"encoder_args": {"depth": 3}}, ConfigError, "takes `blocks`"),
        ({"weights": "pretrained"}, ConfigError, "no pretrained weights of wrn-28-2"),
        ({"encoder": "mit-b0"}, ConfigError, "an encoder of tasks on pixels"),
        ({"encoder": "resnet10t", "encoder_args": {"no_such": 1}}, ConfigError, "cannot be built with"),
    ],
)
def test_what_does_not_fit(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build(**settings)


@pytest.mark.parametrize("encoder", ["test_mambaout", "mobilenetv4_conv_small"])
def test_encoders_that_widen_what_they_pooled(encoder: str) -> None:
    network = build_classifier(ClassifierSettings(encoder=encoder), 3).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 64, 64)).shape == (1, 3)
