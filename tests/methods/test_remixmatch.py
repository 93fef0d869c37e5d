"""ReMixMatch: how images are turned and mixed, and whose statistics batch norm follows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from semikit.errors import ConfigError
from semikit.methods.remixmatch import ReMixMatch, ReMixMatchConfig, quarter_turned
from tests.helpers import tiny


def made(**settings: Any) -> tuple:
    run_info, config = tiny.run_info(), ReMixMatchConfig(**settings)
    method = ReMixMatch(tiny.network(pixels=False, batch_norm=True), config, run_info).train()
    return method, *tiny.batch(run_info, ReMixMatch.requirements(config), pixels=False)


def test_images_are_turned_by_quarters() -> None:
    images, turns = torch.rand(4, 3, 5, 5), torch.arange(4)
    for image, count, found in zip(images, turns.tolist(), quarter_turned(images, turns), strict=True):
        assert torch.equal(found, image.rot90(count, (-2, -1)))
    with pytest.raises(ConfigError, match=r"5 x 6 pixels.*views\.size=SIDE"):
        quarter_turned(torch.rand(4, 3, 5, 6), turns)


def test_running_statistics_follow_the_mixed_labelled_images_alone() -> None:
    method, labeled, unlabeled = made(mixup=0)
    method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0))
    expected = method.student.first(labeled.images).mean((0, 2, 3))
    torch.testing.assert_close(method.student.norm.running_mean, 0.1 * expected)
    assert method.student.norm.num_batches_tracked == 1


def test_unlabelled_labels_count_more_and_more_but_rotations_from_the_start() -> None:
    method, labeled, unlabeled = made(ramp=0.1)
    first, half = (method(labeled, unlabeled, method.pseudo_labels(unlabeled, step)).logs for step in (0, 5))
    assert first["loss_unmixed"] == 0
    assert half["loss_unmixed"] > 0
    torch.testing.assert_close(first["loss"], first["loss_x"] + first["loss_rotation"])
    assert made(rotation_weight=0)[0].extra_parameters() == []


def test_every_image_is_the_larger_part_of_what_it_is_mixed_into() -> None:
    method, _, unlabeled = made()
    keys, shares, turns = method.pseudo_labels(unlabeled, 3).draws
    assert shares.min() >= 0.5
    assert shares.max() < 1
    assert keys.shape == shares.shape == (4, len(unlabeled.index))
    assert set(turns.tolist()) <= {0, 1, 2, 3}
