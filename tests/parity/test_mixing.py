"""CutMix of images, pseudo-labels, confidence and padding against stored values of LiheYoung/UniMatch-V2 (f6afb4d),
unimatch_v2.py: `a3_v2_seg_case1.npz` (boxes, padding) and `a3_v2_seg_case2_noboxes_noignore.npz` (neither)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semikit.core.mixing import mix_images, mix_maps, partners

DATA = Path(__file__).parent / "data"
CASES = ["a3_v2_seg_case1.npz", "a3_v2_seg_case2_noboxes_noignore.npz"]


@pytest.fixture(params=CASES)
def stored(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    with np.load(DATA / request.param) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files if arrays[name].ndim}


def test_images(stored: dict[str, Tensor]) -> None:
    partner = partners(4, 4)
    views = []
    for view in (1, 2):
        images, boxes = stored[f"in_img_u_s{view}"], stored[f"in_cutmix_box{view}"] == 1
        views.append(mix_images(images, boxes, images, partner))
    assert torch.equal(torch.cat(views), stored["out_img_cutmixed_cat"])


@pytest.mark.parametrize("view", [1, 2])
def test_labels_confidence_and_valid(stored: dict[str, Tensor], view: int) -> None:
    boxes, partner = stored[f"in_cutmix_box{view}"] == 1, partners(4, 4)
    labels, confidence = stored["out_mask_u_w"], stored["out_conf_u_w"]
    valid = stored["in_ignore_mask"] != 255
    assert torch.equal(mix_maps(labels, boxes, labels, partner), stored[f"out_mask_u_w_cutmixed{view}"])
    assert torch.equal(mix_maps(confidence, boxes, confidence, partner), stored[f"out_conf_u_w_cutmixed{view}"])
    assert torch.equal(mix_maps(valid, boxes, valid, partner), stored[f"out_ignore_mask_cutmixed{view}"] != 255)


def test_the_first_case_has_boxes_and_padding() -> None:
    with np.load(DATA / CASES[0]) as arrays:
        assert all((arrays[f"in_cutmix_box{view}"] == 1).any() for view in (1, 2))
        assert (arrays["in_ignore_mask"] == 255).any()
