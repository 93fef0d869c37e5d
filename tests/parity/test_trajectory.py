"""Six whole iterations of a tiny model against LiheYoung/UniMatch-V2 (f6afb4d), unimatch_v2.py: losses, rates, EMA and
final weights (`a7_traj_seg.npz`, `a7_traj_seg_final.safetensors`), and logits under given channel masks
(`a4_comp_dropout_seg_tiny_forward.npz`). The initial weights are `a1_seg_tiny_weights.safetensors`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from semikit.core.batch import Labeled, RunInfo, Unlabeled
from semikit.core.losses import denominators
from semikit.core.mixing import mix_images, partners
from semikit.core.student_views import logits_of
from semikit.methods.unimatch_v2 import UniMatchV2, UniMatchV2Config
from semikit.models.segmenter import Segmenter, build_segmenter
from semikit.models.settings import ModelSettings
from semikit.models.weights.released import convert
from semikit.training.optimizer import build_optimizer, set_learning_rates
from semikit.training.settings import OptimizerSettings

DATA = Path(__file__).parent / "data"
STEPS = 6


def load(name: str) -> dict[str, Tensor]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files if arrays[key].dtype.kind != "U"}


@pytest.fixture
def network() -> Segmenter:
    settings = ModelSettings(
        encoder="dinov2-small",
        decoder="dpt",
        weights="none",
        encoder_args={"embed_dim": 32, "depth": 4, "num_heads": 2, "img_size": 70},
        encoder_layers=(0, 1, 2, 3),
        decoder_channels=16,
        decoder_widths=(8, 16, 32, 32),
    )
    made = build_segmenter(settings, 5)
    made.load_state_dict(convert(load_file(DATA / "a1_seg_tiny_weights.safetensors")))
    return made


def batch(stored: dict[str, Tensor], step: int) -> tuple[Labeled, Unlabeled]:
    part = {key.removeprefix(f"it{step}_"): value for key, value in stored.items() if key.startswith(f"it{step}_")}
    valid = part["mask_x"] != 255
    labels = torch.where(valid, part["mask_x"], 0).long()
    labeled = Labeled(part["img_x"].float(), labels, valid, torch.arange(4), denominators(valid, 4, "total"))
    boxes, partner = tuple(part[f"cutmix_box{v}"] == 1 for v in (1, 2)), partners(4, 4)
    views = [part[f"img_u_s{v}"].float() for v in (1, 2)]
    unlabeled = Unlabeled(
        weak=part["img_u_w"].float(),
        strong=tuple(mix_images(view, box, view, partner) for view, box in zip(views, boxes, strict=True)),
        valid=part["ignore_mask"] != 255,
        boxes=boxes,
        partner=partner,
        index=torch.arange(4),
        positions=range(4),
    )
    return labeled, unlabeled


def masks(stored: dict[str, Tensor], step: int) -> tuple[tuple[Tensor, ...], ...]:
    return tuple((stored[f"it{step}_drop_mask{v}"].float(),) * 4 for v in (1, 2))


@pytest.mark.parametrize("forward", ["separate", "fused"])
def test_six_iterations(network: Segmenter, forward: str) -> None:
    stored = load("a7_traj_seg")
    run_info = RunInfo(5, 4, 4, steps_per_epoch=STEPS, iterations=STEPS, group=4)
    config = UniMatchV2Config(threshold=float(stored["conf_thresh"]), forward=forward)
    method = UniMatchV2(network, config, run_info).train()
    settings = OptimizerSettings(encoder_lr=1e-4, lr=4e-3)
    optimizer = build_optimizer(network, settings)
    for step, row in enumerate(stored["rows"].tolist()):
        rate = set_learning_rates(optimizer, settings, step, STEPS)
        labeled, unlabeled = batch(stored, step)
        pseudo = method.pseudo_labels(unlabeled, step)
        assert [mask.shape for mask in pseudo.masks[0]] == [(4, 32)] * 4
        result = method(labeled, unlabeled, replace(pseudo, masks=masks(stored, step)))
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        method.after_step(step, torch.ones(()))
        logs = [result.logs[name].item() for name in ("loss", "loss_x", "loss_u", "confident")]
        assert logs == pytest.approx(row[:4], rel=1e-5), step
        assert [optimizer.param_groups[0]["lr"], rate] == pytest.approx(row[4:6], rel=1e-9)
    final = load_file(DATA / "a7_traj_seg_final.safetensors")
    for name in ("student", "teacher"):
        states = {key.removeprefix(f"{name}."): value for key, value in final.items() if key.startswith(name)}
        ours = getattr(method, name).state_dict()
        for key, value in convert(states).items():
            torch.testing.assert_close(
                ours[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
            )


def test_logits_under_given_masks(network: Segmenter) -> None:
    stored = load("a4_comp_dropout_seg_tiny_forward")
    images = list(stored["x0"].chunk(2))
    given = [(stored[f"mask{v}"],) * 4 for v in (1, 2)]
    with torch.no_grad():
        logits = torch.cat(logits_of(network, images, given, "encoder"))
        undropped = network(stored["x0"])
    torch.testing.assert_close(logits, stored["logits"], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(undropped, stored["logits"], atol=1e-3)
