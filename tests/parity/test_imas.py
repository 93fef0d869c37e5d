"""iMAS against stored values of ZhenZHAO/iMAS (96e57e0): the hardness of each image (`imas/utils/loss_helper.py`,
`compute_ulb_hardness_all`), its loss (`compute_unsupervised_loss_by_threshold`), and what is mixed with what
(`imas/dataset/cutmix_tensor.py`, `cut_mix_by_hardness`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semikit.core.batch import Target
from semikit.core.losses import UnlabeledLoss, denominators
from semikit.core.mixing import box_mask, mix_images, mix_maps
from semikit.core.pseudo_labels import predicted
from semikit.methods.imas import IMASConfig, agreement, opposite
from tests.helpers import tiny


@pytest.fixture(scope="module")
def stored() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "data/imas.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.mark.parametrize(("background", "expected"), [(None, "agreement"), (0, "without_background")])
def test_agreement_of_student_and_teacher(stored: dict[str, Tensor], background: int | None, expected: str) -> None:
    """An image of nothing but background counts for nothing without it."""
    everywhere = torch.ones_like(stored["labels"], dtype=torch.bool)
    found = agreement(predicted(stored["student"]), predicted(stored["teacher"]), everywhere, 4, 0.7, background)
    torch.testing.assert_close(found, stored[expected])
    assert (found == 0).sum() == (background is not None)


def test_the_loss_of_each_image_is_weighed(stored: dict[str, Tensor]) -> None:
    labels, everywhere = stored["labels"].long(), torch.ones_like(stored["labels"], dtype=torch.bool)
    weights = (stored["certain"] >= 0.7) * stored["agreement"][:, None, None]
    target = Target(labels, weights, everywhere, denominators(everywhere, 5, "total"))
    loss = UnlabeledLoss(IMASConfig(), tiny.run_info(4))(stored["predict"], target)
    torch.testing.assert_close(loss, stored["loss"])


def test_hard_images_are_mixed_with_easy_ones(stored: dict[str, Tensor]) -> None:
    partner = opposite(stored["agreement"], 5)
    box = box_mask(stored["boxes"], (10, 13))
    assert torch.equal(mix_images(stored["images"], box, stored["images"], partner), stored["mixed_images"])
    labels = stored["labels"]
    assert torch.equal(mix_maps(labels, box, labels, partner), stored["mixed_labels"])
