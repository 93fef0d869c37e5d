"""Weights of satellite sensors: the order of their bands, and what values are normalised by."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from semikit.augment.normalise import channel_statistics, normalize, to_float
from semikit.data.formats.rescale import BYTES, Scale, to_uint8
from semikit.errors import ConfigError, UnknownNameError, WeightsError
from semikit.models.classifier import ClassifierSettings, build_classifier
from semikit.models.encoders.create import build_encoder
from semikit.models.settings import ModelSettings
from semikit.models.weights.sensors import sensor_weights, without_torchgeo
from tests.helpers import fake_torchgeo
from tests.helpers.fake_torchgeo import BANDS, MEAN, RESNET, STD


@pytest.fixture
def torchgeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of its weights."""
    return fake_torchgeo.install(tmp_path, monkeypatch)


def of_bands(*names: str, **more: Any) -> ModelSettings:
    return ModelSettings(encoder=RESNET, in_channels=len(names), band_names=names, **more)


@pytest.mark.parametrize("weights", ["pretrained", "file"])
@pytest.mark.parametrize("names", [("B04", "B03", "B02", "B08"), ("B8A", "B12"), tuple(BANDS)])
def test_every_band_meets_its_weights_normalised_as_the_sensor_is(
    torchgeo: Path, names: tuple[str, ...], weights: str
) -> None:
    """What the first layer sees is that of all thirteen bands, normalised by torchgeo, the others at their mean."""
    given = {} if weights == "pretrained" else {"weights": str(torchgeo)}
    encoder = build_encoder(of_bands(*names, **given)).eval()
    scale = Scale(min=tuple(50.0 + k for k in range(len(names))), max=tuple(3110.0 + k for k in range(len(names))))
    low = np.array(scale.min)
    steps = np.random.default_rng(0).integers(0, 256, (64, 64, len(names)))
    values = low + 12.0 * steps  # which 8 bits hold exactly
    mean, std = channel_statistics(*scale.unit(encoder.mean, encoder.std))
    seen = to_float(torch.from_numpy(to_uint8(values, scale.bounds, None)).permute(2, 0, 1)[None])
    whole = torch.tensor(MEAN).view(1, 13, 1, 1).repeat(1, 1, 64, 64)
    plain = [name.lower() for name in BANDS]
    for k, name in enumerate(names):
        whole[:, plain.index(name.replace("B0", "B").lower())] = torch.from_numpy(values[..., k]).float()
    shown = v2.Normalize(MEAN, STD)(whole)
    with torch.inference_mode():
        first = torch.nn.functional.conv2d(shown, torch.load(torchgeo)["conv1.weight"], stride=2, padding=3)
        ours = encoder.backbone.conv1(normalize(seen, mean, std))
    torch.testing.assert_close(ours, first, rtol=1e-4, atol=1e-4)
    assert torch.equal(encoder.backbone.layer4[0].conv1.weight, torch.load(torchgeo)["layer4.0.conv1.weight"])


def test_steps_of_normalisation_become_one(torchgeo: Path) -> None:
    rgb = sensor_weights("torchgeo:ResNet18_Weights.RGB")
    assert rgb.mean == pytest.approx([2 + 255 * part for part in (0.485, 0.456, 0.406)])
    assert rgb.std == pytest.approx([255 * part for part in (0.229, 0.224, 0.225)])
    mean, _ = BYTES.unit(rgb.mean, rgb.std)
    assert mean == pytest.approx([2 / 255 + part for part in (0.485, 0.456, 0.406)])
    assert (rgb.licence, rgb.bands) == ("MIT", None)
    assert sensor_weights(RESNET).mean == pytest.approx(MEAN)
    assert sensor_weights(RESNET).std == pytest.approx(STD)


def test_images_without_names_have_as_many_bands(torchgeo: Path) -> None:
    encoder = build_encoder(ModelSettings(encoder=RESNET, in_channels=13))
    assert torch.equal(encoder.backbone.conv1.weight, torch.load(torchgeo)["conv1.weight"])
    with pytest.raises(
        ConfigError, match=r"takes the 13 bands B1, .*, B12, but the images have 4, without names\. Name"
    ):
        build_encoder(ModelSettings(encoder=RESNET, in_channels=4))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"in_channels": 2, "band_names": ("B4", "Red edge")}, r"but the images have Red edge\. Leave them out"),
        ({"in_channels": 3, "band_names": ("B4", "B3")}, r"band_names has 2 names, but the images have 3 channels"),
        (
            {"encoder": RESNET.replace("ALL", "AL")},
            r"unknown weights of torchgeo .*Did you mean 'ResNet18_Weights\.SENT",
        ),
        ({"encoder": "torchgeo:CROMABase_Weights.CROMA_VIT"}, "unknown weights of torchgeo for a network of timm"),
    ],
)
def test_what_does_not_fit(torchgeo: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=told):
        build_encoder(ModelSettings(**{"encoder": RESNET, **settings}))


def test_weights_that_cannot_be_had(torchgeo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"torchgeo:ResNet18_Weights\.RGB' could not .*-gone\.pth .*model.weights="):
        build_encoder(ModelSettings(encoder="torchgeo:ResNet18_Weights.RGB"))
    sensor_weights.cache_clear()
    monkeypatch.setitem(sys.modules, "torchgeo.models", None)
    with pytest.raises(ConfigError, match=r'need torchgeo, which is not installed: pip install "semikit\[torchgeo\]"'):
        build_encoder(ModelSettings(encoder=RESNET))
    with pytest.raises(ConfigError, match="is an encoder of tasks on pixels"):
        build_classifier(ClassifierSettings(encoder=RESNET), 2)


def test_a_network_that_was_trained_needs_no_torchgeo(torchgeo: Path) -> None:
    vit = ModelSettings(encoder="torchgeo:ViT_Weights.SOFTCON", weights="none", encoder_args={"depth": 2})
    plain = without_torchgeo(vit)
    assert (plain.encoder, plain.encoder_args) == ("vit_small_patch14_dinov2", {"img_size": 224, "depth": 2})
    assert without_torchgeo(plain) is plain


def test_torchgeo_as_it_is_installed() -> None:
    pytest.importorskip("torchgeo.models", exc_type=ImportError)
    sensor_weights.cache_clear()
    moco = sensor_weights("torchgeo:ResNet50_Weights.SENTINEL2_ALL_MOCO")
    assert (moco.architecture, moco.bands) == ("resnet50", tuple(BANDS))
    assert (moco.mean, moco.std) == (pytest.approx([0] * 13), pytest.approx([10000] * 13))
    softcon = sensor_weights("torchgeo:ViTSmall14_DINOv2_Weights.SENTINEL2_ALL_SOFTCON")
    assert softcon.mean[:3] == pytest.approx([1612.9, 1397.6, 1322.3])
    assert softcon.args == {"img_size": 224}


@pytest.mark.parametrize("name", ["dinov3-large-sat", "dinov3-7b-sat", "vit_large_patch16_dinov3_qkvb.sat493m"])
def test_satellite_weights_of_dinov3_have_statistics_of_their_own(
    name: str, tmp_path: Path, whole_file: Callable[..., Path]
) -> None:
    tiny = {"depth": 2, "embed_dim": 48, "num_heads": 2}
    file = whole_file(name, tmp_path, tiny)
    encoder = build_encoder(ModelSettings(encoder=name, weights=str(file), encoder_args=tiny))
    assert (encoder.mean, encoder.std) == ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143))


@pytest.fixture
def whole_file() -> Callable[..., Path]:
    def write(name: str, folder: Path, args: dict[str, Any]) -> Path:
        random = build_encoder(ModelSettings(encoder=name, weights="none", encoder_args=args))
        torch.save(random.backbone.state_dict(), folder / "w.pth")
        return folder / "w.pth"

    return write
