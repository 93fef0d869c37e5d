from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from semikit.errors import WeightsError
from semikit.models.segmenter import build_segmenter
from semikit.models.siamese import build_siamese, siamese_state
from semikit.models.weights.released import convert, is_released, load_released
from tests.helpers.released import official


def test_student_and_teacher(tmp_path: Path) -> None:
    content = {
        "model": {f"module.{key}": value for key, value in official("small", 21, 0.0).items()},
        "model_ema": {f"module.{key}": value for key, value in official("small", 21, 1.0).items()},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 5e-6, "params": [0]}]},
        "epoch": 59,
        "previous_best": np.float64(79.25),
    }
    torch.save(content, tmp_path / "best.pth")
    released = load_released(tmp_path / "best.pth")
    assert (released.encoder, released.num_classes, released.epoch) == ("dinov2-small", 21, 59)
    assert released.previous_best == 79.25
    assert type(released.previous_best) is float
    assert released.teacher is not None
    network = build_segmenter(released.settings, released.num_classes)
    for state, value in ((released.student, 0.0), (released.teacher, 1.0)):
        network.load_state_dict(state, strict=True)
        assert all((parameter == value).all() for parameter in network.parameters())


def test_change_detection(tmp_path: Path) -> None:
    """What the authors' change detection saves: other names for the best value, the same for the tensors."""
    content = {
        "model": {f"module.{key}": value for key, value in official("small", 2, 0.25).items()},
        "model_ema": {f"module.{key}": value for key, value in official("small", 2, 0.75).items()},
        "epoch": 41,
        "previous_best_iou": np.float64(83.5),
        "previous_best_acc": np.float64(99.1),
        "previous_best_ema_iou": np.float64(83.25),
    }
    torch.save(content, tmp_path / "best.pth")
    released = load_released(tmp_path / "best.pth")
    assert (released.num_classes, released.epoch, released.previous_best) == (2, 41, 83.5)
    assert released.teacher is not None
    network = build_siamese(released.settings, released.num_classes)
    for state, value in ((released.student, 0.25), (released.teacher, 0.75)):
        network.load_state_dict(siamese_state(state), strict=True)
        assert all((parameter == value).all() for parameter in network.parameters())


def test_student_alone(tmp_path: Path) -> None:
    torch.save(official("small", 2, 0.5), tmp_path / "levir.pth")
    released = load_released(tmp_path / "levir.pth")
    assert released.teacher is None
    assert (released.num_classes, released.epoch, released.previous_best) == (2, None, None)


def test_giant_with_gated_layers(tmp_path: Path) -> None:
    torch.save({"model": official("giant", 2, 0.5, gated=True)}, tmp_path / "g.pth")
    released = load_released(tmp_path / "g.pth")
    assert released.encoder == "dinov2-giant"
    assert "encoder.backbone.blocks.39.mlp.fc1.weight" in released.student


def test_giant_without_gated_layers(tmp_path: Path) -> None:
    torch.save({"model": official("giant", 2, 0.5)}, tmp_path / "g.pth")
    with pytest.raises(WeightsError, match="a giant encoder without gated layers is no DINOv2"):
        load_released(tmp_path / "g.pth")


def test_other_files(tmp_path: Path) -> None:
    torch.save({"model": {"conv1.weight": torch.zeros(3)}}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"no released UniMatch V2 checkpoint: backbone.cls_token"):
        load_released(tmp_path / "w.pth")
    odd = {"backbone.cls_token": torch.zeros(1, 1, 32), "head.scratch.output_conv.2.bias": torch.zeros(5)}
    assert is_released(odd)
    torch.save(odd, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"32 wide and 0 deep is none of dinov2-small"):
        load_released(tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"'head.extra.weight' is no tensor of a released"):
        convert({"head.extra.weight": torch.zeros(1)})
