"""A module with the interface of torchgeo 0.8, whose weights lie on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch
from torch import nn
from torchvision.models import WeightsEnum
from torchvision.models._api import Weights
from torchvision.transforms import v2

from semikit.models.weights.sensors import sensor_weights

BANDS = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8a", "B9", "B10", "B11", "B12"]
MEAN, STD = [1300.0 + 10 * k for k in range(13)], [800.0 + 20 * k for k in range(13)]
RESNET = "torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put it in the place of torchgeo; returns the file of the weights of `RESNET`."""
    torch.manual_seed(3)
    torch.save(timm.create_model("resnet18", in_chans=13).state_dict(), folder / "sentinel.pth")
    crop = [v2.Resize([64, 64]), v2.CenterCrop(48)]
    twice = [v2.Normalize([2.0], [255.0]), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], inplace=True)]
    meta = {"in_chans": 13, "model": "resnet18", "bands": BANDS}
    url = (folder / "sentinel.pth").as_uri()

    class ResNet18_Weights(WeightsEnum):  # type: ignore[misc]
        SENTINEL2_ALL_MOCO = Weights(url, nn.Sequential(*crop, v2.Normalize(MEAN, STD, inplace=True)), meta)
        RGB = Weights(f"{url}-gone.pth", nn.Sequential(*twice), {"in_chans": 3, "license": "MIT"})

    class ViT_Weights(WeightsEnum):  # type: ignore[misc]
        SOFTCON = Weights(url, nn.Sequential(*crop), {"in_chans": 2, "img_size": 224, "bands": ["VV", "VH"]})

    known = {"resnet18": ResNet18_Weights, "vit_small_patch14_dinov2": ViT_Weights}
    models = ModuleType("torchgeo.models")
    vars(models).update(list_models=lambda: ["croma_base", "resnet50", *known], get_model_weights=known.__getitem__)
    monkeypatch.setitem(sys.modules, "torchgeo", ModuleType("torchgeo"))
    monkeypatch.setitem(sys.modules, "torchgeo.models", models)
    monkeypatch.setenv("TORCH_HOME", str(folder / "hub"))
    sensor_weights.cache_clear()
    return folder / "sentinel.pth"
