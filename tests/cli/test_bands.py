"""Rasters whose bands have names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from semikit.models.weights.sensors import sensor_weights
from semikit.run.load import load_network
from tests.helpers import fake_torchgeo, georasters, photos

Call = Callable[..., Any]


def scenes(folder: Path, bands: Sequence[str], more: str = "", val: Sequence[str] | None = None) -> Path:
    """Two scenes of 16 bits with masks, and their data YAML."""
    rng = np.random.default_rng(0)
    for part, names in (("train", bands), ("val", val or bands)):
        values = rng.integers(100, 3000, (len(names), 64, 64)).astype("uint16")
        path = georasters.save(folder / part / "images/a.tif", values)
        with rasterio.open(path, "r+") as file:
            file.descriptions = tuple(names)
        georasters.save(folder / part / "masks/a.tif", (values[0] > 1500).astype("uint8"))
    parts = "".join(f"{part}: {{images: {part}/images, masks: {part}/masks}}\n" for part in ("train", "val"))
    (folder / "data.yaml").write_text(f"{parts}classes: [low, high]\n{more}")
    return folder / "data.yaml"


SMALL = ("--crop", "32", "--batch", "2", "--workers", "0", "--device", "cpu", "--method", "supervised")


def test_weights_of_a_sensor(semikit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torchgeo.install(tmp_path, monkeypatch)
    data = scenes(tmp_path, ["B02", "B03", "B04", "B08"], "bands: [B08, B03]\nscale: {min: 100, max: 3100}\n")
    flags = ("--encoder", fake_torchgeo.RESNET, "--iterations", "1", "--out", "run", *SMALL)
    answer = semikit("train", "seg", "--data", data, *flags)
    assert answer.code == 0, answer.err
    told = " ".join(answer.out.replace("│", "").split())
    assert "pretrained · torchgeo · licence: not stated by torchgeo" in told
    assert "64 x 64 pixels · 2 of 4 bands (B8, B3) · uint16" in told
    sensor_weights.cache_clear()
    monkeypatch.setitem(sys.modules, "torchgeo.models", None)
    _, metadata = load_network(Path("run"))
    assert (metadata["model"]["encoder"], metadata["model"]["band_names"]) == ("resnet18", ["B8", "B3"])
    mean, std = ([values[k] for k in (7, 2)] for values in (fake_torchgeo.MEAN, fake_torchgeo.STD))
    assert metadata["mean"] == pytest.approx([(value - 100) / 3000 for value in mean])
    assert metadata["std"] == pytest.approx([value / 3000 for value in std])
    answer = semikit("predict", "run", tmp_path / "val/images/a.tif", "-o", "map.tif")
    assert answer.code == 0, answer.err


def test_other_units_than_those_of_the_weights_are_said(
    semikit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torchgeo.install(tmp_path, monkeypatch)
    data = scenes(tmp_path, ["B2", "B3"], "scale: {min: 0, max: 65535}\n")
    answer = semikit("train", "seg", "--data", data, "--encoder", fake_torchgeo.RESNET, "--dry-run", *SMALL)
    assert answer.code == 0, answer.err
    assert "values of 0 to 65535 span 78 to 79.9 standard deviations" in " ".join((answer.out + answer.err).split())


def test_bands_in_several_orders(semikit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torchgeo.install(tmp_path, monkeypatch)
    data = scenes(tmp_path, ["B2", "B3"])
    georasters.save(tmp_path / "train/masks/b.tif", np.eye(64, dtype="uint8"))
    other = georasters.save(tmp_path / "train/images/b.tif", np.full((2, 64, 64), 900, "uint16"))
    with rasterio.open(other, "r+") as file:
        file.descriptions = ("B3", "B2")
    for encoder, code in ((fake_torchgeo.RESNET, 2), ("test_vit", 0)):
        flags = (*photos.FLAGS, *SMALL, "--encoder", encoder, "--weights", "pretrained" if code else "none")
        answer = semikit("train", "seg", "--data", data, "--dry-run", *flags)
        assert answer.code == code, answer.err
        told = " ".join((answer.out + answer.err).split())
        assert "the bands of the rasters differ (" in told
        assert "a.tif: B2, B3" in told
    data.write_text(f"{data.read_text()}bands: [B3, B2]\n")
    answer = semikit("train", "seg", "--data", data, "--dry-run", *SMALL, "--encoder", fake_torchgeo.RESNET)
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("more", ["", "bands: [1, 2, 3, 4]\n"])
def test_blue_green_red_is_said_unless_it_was_chosen(semikit: Call, tmp_path: Path, more: str) -> None:
    answer = semikit("data", "check", scenes(tmp_path, ["B02", "B03", "B04", "B08"], more))
    assert answer.code == 0, answer.err
    told = " ".join((answer.out + answer.err).split())
    assert ("bands: [3, 2, 1, 4] in the data YAML gives them in that order" in told) == (not more)
