"""DASO: which labels are blended, and from when on."""

from __future__ import annotations

from typing import Any

import torch

from semikit.methods.daso import DASO, DASOConfig
from tests.helpers import tiny


def made(**settings: Any) -> tuple:
    run_info, config = tiny.run_info(), DASOConfig(**{"threshold": 0.4, "warmup": 0, **settings})
    method = DASO(tiny.network(pixels=False), config, run_info).train()
    return method, *tiny.batch(run_info, DASO.requirements(config), pixels=False)


def test_the_class_that_is_labelled_most_is_blended_most() -> None:
    method, _, unlabeled = made(flatten=2.0)
    method.shares.copy_(torch.tensor([0.64, 0.16, 0.0]))
    method.active.fill_(True)
    classes = torch.eye(3)[[0, 1, 2, 0]] * 0.7 + 0.1
    semantic = torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3)
    weak = method._blended(classes, semantic, unlabeled).weak
    assert weak.labels.tolist() == [2, 2, 2, 2], "all of it, half of it, none of it"
    torch.testing.assert_close(method.counts, torch.tensor([0.0, 0.0, float(unlabeled.valid.sum())]))
    method.shares.copy_(torch.tensor([0.64, 0.01, 0.0]))
    assert method._blended(classes, semantic, unlabeled).weak.labels.tolist() == [2, 1, 2, 2]


def test_labels_are_blended_after_the_warm_up_by_what_was_counted_before() -> None:
    method, labeled, unlabeled = made(warmup=4, count_every=2)
    shares, aligned = [], []
    for step in range(6):
        result = method(labeled, unlabeled, method.pseudo_labels(unlabeled, step))
        shares.append(float(method.shares.sum()))
        aligned.append(float(result.logs["loss_align"]) > 0)
    assert shares == [0, 0, 1, 1, 1, 1]
    assert aligned == [False] * 4 + [True] * 2
