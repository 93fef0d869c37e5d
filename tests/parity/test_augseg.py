"""AugSeg against stored values of ZhenZHAO/AugSeg (7ead870): the confidence of each image (`train_semi.py`), and what
`cut_mix_label_adaptive` of `augseg/dataset/augs_ALIA.py` makes of given boxes, partners and chances.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semikit.core.batch import Labeled, Pseudo, Target, Unlabeled
from semikit.core.mixing import box_mask
from semikit.methods.augseg import AugSeg, AugSegConfig, image_confidence
from tests.helpers import tiny


@pytest.fixture(scope="module")
def stored() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "data/augseg.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def test_the_confidence_of_an_image(stored: dict[str, Tensor]) -> None:
    logits = stored["logits"]
    found = image_confidence(logits, torch.ones_like(logits[:, 0], dtype=torch.bool))
    torch.testing.assert_close(found, stored["confidence"])


def test_labelled_images_are_injected_where_the_teacher_is_not_sure(stored: dict[str, Tensor]) -> None:
    method = AugSeg(tiny.network(num_classes=4), AugSegConfig(), tiny.run_info(4, group=5))
    size, count = (12, 17), 5
    everywhere, one = torch.ones(count, *size, dtype=torch.bool), torch.ones(count)
    # The released code takes labelled images by the same permutation as partners.
    labels = stored["labeled_labels"].long()[stored["perm"]]
    known = labels != 255
    labeled = Labeled(
        stored["labeled_images"][stored["perm"]], torch.where(known, labels, 0), known, torch.arange(count), one
    )
    images, partner = stored["images"], stored["perm"]
    unlabeled = Unlabeled(images, (images,), everywhere, (), partner, torch.arange(count), range(count))
    chosen = stored["chance"] > stored["confidence"]
    assert 0 < chosen.sum() < count
    draws = (box_mask(stored["injected"], size) & chosen[:, None, None], box_mask(stored["pasted"], size))
    target = Target(stored["labels"].long(), stored["certain"], everywhere, one)
    mixed, learned = method._mixed(labeled, unlabeled, Pseudo(views=(target,), draws=draws))
    assert torch.equal(mixed, stored["mixed_images"])
    expected = stored["mixed_labels"].long()
    assert torch.equal(learned.valid, expected != 255)
    assert not learned.valid.all()
    for found, wanted in ((learned.labels, expected), (learned.weights, stored["mixed_certain"])):
        assert torch.equal(found[learned.valid], wanted[learned.valid])
