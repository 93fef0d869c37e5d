"""CoMatch: when its memory is used, and which images its graph brings together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from semikit.methods.comatch import CoMatch, CoMatchConfig
from tests.helpers import tiny


def made(**settings: Any) -> tuple:
    run_info, config = tiny.run_info(), CoMatchConfig(**{"threshold": 0.4, "width": 8, **settings})
    method = CoMatch(tiny.network(pixels=False), config, run_info).train()
    return method, *tiny.batch(run_info, CoMatch.requirements(config), pixels=False)


def test_the_memory_is_used_once_it_is_full() -> None:
    method, labeled, unlabeled = made(bank=16, smoothing=0.0, alignment="none", contrast_weight=0.0)
    plain = method.student(unlabeled.weak).softmax(1)
    found = []
    for _ in range(3):
        with torch.no_grad():
            views = [(method.student(images), torch.ones(4, 8)) for images in (labeled.images, unlabeled.weak)]
            found.append(method._smoothed(labeled, unlabeled, *views)[1])
    torch.testing.assert_close(found[0], plain)
    torch.testing.assert_close(found[1], plain)
    valid = torch.cat([labeled.valid, unlabeled.valid])
    of_all = torch.cat([F.one_hot(labeled.labels, 3), plain])[valid].mean(0)  # all features are the same here
    torch.testing.assert_close(found[2], of_all.expand(4, 3))


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_images_of_one_class_are_brought_together(threshold: float) -> None:
    method, *_ = made(graph_threshold=threshold)
    labels = torch.eye(3)[[0, 0, 1, 2]] * 0.9 + 0.1 / 3
    valid = torch.tensor([True, True, True, False])
    first = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    second = first.clone().requires_grad_()
    method._contrast(labels, valid, first, second).backward()
    assert second.grad is not None
    towards = -second.grad @ first.t()  # how far each second view moves towards each first one
    assert (towards[1, 0] > 0) == (towards[0, 1] > 0) == (threshold < 1)
    assert towards[2, 0] < 0
    assert not second.grad[3].any()


def test_the_projection_is_learned() -> None:
    method, labeled, unlabeled = made()
    result = method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0))
    result.loss.backward()
    assert result.logs["loss_ctr"] > 0
    assert all(parameter.grad.any() for parameter in method.extra_parameters())
