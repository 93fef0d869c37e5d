"""The labelled-only baseline."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from semikit.core.losses import Ohem
from semikit.methods.supervised import Supervised, SupervisedConfig
from tests.helpers import tiny


def test_is_the_mean_cross_entropy_over_valid_positions() -> None:
    run_info = tiny.run_info()
    method = Supervised(tiny.network(), SupervisedConfig(), run_info)
    labeled, unlabeled = tiny.batch(run_info, Supervised.requirements(SupervisedConfig()))
    assert unlabeled is None
    loss = method(labeled, None, None).loss
    targets = torch.where(labeled.valid, labeled.labels, 255)
    torch.testing.assert_close(loss, F.cross_entropy(method.student(labeled.images), targets, ignore_index=255))


def test_ohem_of_everything_is_the_plain_loss() -> None:
    run_info = tiny.run_info()
    labeled, _ = tiny.batch(run_info, Supervised.requirements(SupervisedConfig()))
    losses = [
        Supervised(tiny.network(), SupervisedConfig(ohem=ohem), run_info)(labeled, None, None).loss
        for ohem in (None, Ohem(threshold=1.0, min_kept=1))
    ]
    torch.testing.assert_close(*losses)


def test_learns() -> None:
    run_info = tiny.run_info()
    method = Supervised(tiny.network(), SupervisedConfig(), run_info).train()
    labeled, _ = tiny.batch(run_info, Supervised.requirements(SupervisedConfig()))
    optimizer = torch.optim.Adam(method.student.parameters(), lr=0.01)
    first = method(labeled, None, None).loss.item()
    for step in range(30):
        optimizer.zero_grad()
        method(labeled, None, None).loss.backward()
        optimizer.step()
        method.after_step(step, torch.ones(()))
    assert method(labeled, None, None).loss.item() < 0.9 * first
