"""FlexMatch: its memory is of images, or of the last steps' pixels."""

from __future__ import annotations

import torch

from semikit.core.batch import Requirements
from semikit.methods.flexmatch import FlexMatchConfig, plugin
from tests.helpers import tiny


def test_the_label_of_each_image_is_remembered_by_its_number() -> None:
    run_info, config = tiny.run_info(), FlexMatchConfig(threshold=0.5)
    method = plugin(tiny.network(pixels=False), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, plugin.requirements(config), pixels=False)
    unlabeled.index.copy_(torch.tensor([7, 2, 5, 0]))
    method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0))
    confidence, labels = method.student(unlabeled.weak).softmax(1).max(1)
    sure = (confidence >= 0.5) & unlabeled.valid
    assert 0 < sure.sum() <= 4
    expected = torch.full((8,), -1)
    expected[unlabeled.index[sure]] = labels[sure]
    assert torch.equal(method.rule.threshold.selected[:-1], expected)


def test_asks_for_numbered_images_and_the_published_form() -> None:
    config = FlexMatchConfig()
    assert plugin.requirements(config) == Requirements(strong_views=1, every_image=True)
    assert (config.threshold, config.loss, config.forward, config.teacher) == (0.95, "paper", "joint", "student")
    assert (config.ema_decay, config.ema_ramp, config.warmup) == (0.999, False, True)
