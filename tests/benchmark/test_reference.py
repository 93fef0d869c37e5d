"""The naive form is the same algorithm."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from semikit.benchmark.current import CurrentStep
from semikit.benchmark.naive import NaiveStep, check_naive, plain_form
from semikit.benchmark.steps import own_copies
from semikit.benchmark.watch import Watch
from semikit.benchmark.workload import Workload, made_crops
from semikit.config import Config
from semikit.errors import InputError
from semikit.training.optimizer import build_optimizer

Configure = Callable[..., Config]
STEPS = 4


def test_naive_and_current_steps_have_the_same_numbers(workload: Workload) -> None:
    watch = Watch(workload.device)
    current, naive = CurrentStep(workload, watch), NaiveStep(workload, watch)
    shares = []
    for step in range(STEPS):
        labeled, unlabeled = workload.views(made_crops(workload.config, 4, step), step)
        losses = [form(labeled, own_copies(unlabeled), step) for form in (current, naive)]
        torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=1e-5)
        shares.append(naive.read[-1])
    assert all(0.01 < share < 0.99 for share in shares), "the threshold has to divide the positions"
    for mine, theirs in ((workload.method.student, naive.student), (workload.method.teacher, naive.teacher)):
        weights = zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
        assert all((a - b).abs().max() < 2e-4 for a, b in weights)


def test_the_same_gradients(workload: Workload) -> None:
    naive, method = NaiveStep(workload, Watch(workload.device)), workload.method
    labeled, unlabeled = workload.views(made_crops(workload.config, 4, 0), 0)
    mixed = own_copies(unlabeled)
    naive(labeled, mixed, 0)
    # The naive form has mixed its copies in place; with them semikit's own method sees the same images.
    method(labeled, mixed, method.label(mixed, 0)).loss.backward()
    for (name, mine), theirs in zip(method.student.named_parameters(), naive.student.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        if mine.grad is not None:
            torch.testing.assert_close(theirs.grad, mine.grad, rtol=1e-3, atol=2e-5, msg=name)


def test_strong_views_are_mixed_alike(workload: Workload) -> None:
    _, unlabeled = workload.views(made_crops(workload.config, 4, 1), 1)
    assert all(box.any() for box in unlabeled.boxes)
    labeled, _ = workload.views(made_crops(workload.config, 4, 1), 1)
    copies = own_copies(unlabeled)
    NaiveStep(workload, Watch(workload.device))(labeled, copies, 1)
    for before, after, box in zip(unlabeled.strong, copies.strong, unlabeled.boxes, strict=True):
        expected = torch.where(box[:, None], before.flip(0), before)
        assert torch.equal(after, expected)
        assert not torch.equal(after, before)


def test_the_plain_form_of_a_network_predicts_the_same(workload: Workload) -> None:
    plain = plain_form(deepcopy(workload.network))
    images = torch.randn(2, 3, 42, 42)
    torch.testing.assert_close(plain(images), workload.network(images), rtol=1e-4, atol=1e-4)
    attention = [module.fused_attn for module in plain.modules() if hasattr(module, "fused_attn")]
    assert attention
    assert not any(attention)
    assert any(module.fused_attn for module in workload.network.modules() if hasattr(module, "fused_attn"))


def test_its_optimizer_is_a_loop_over_the_same_groups(workload: Workload) -> None:
    naive = NaiveStep(workload, Watch(workload.device))
    theirs, mine = naive.optimizer, build_optimizer(naive.student, workload.config.optimizer)
    assert not theirs.defaults["fused"]
    assert not theirs.defaults["foreach"]
    for a, b in zip(theirs.param_groups, mine.param_groups, strict=True):
        assert (a["lr"], a["weight_decay"], a["betas"], a["eps"]) == (b["lr"], b["weight_decay"], b["betas"], b["eps"])
        assert [id(p) for p in a["params"]] == [id(p) for p in b["params"]]


@pytest.mark.parametrize(
    ("above", "named"),
    [
        ({"method": {"rate": 0.3}}, "method"),
        ({"optimizer": {"name": "sgd"}}, "optimizer.name"),
        ({"train": {"accumulate": 2}}, "train.accumulate"),
        ({"train": {"precision": "fp16"}}, "train.precision fp16"),
    ],
)
def test_what_it_does_not_do_is_refused(small: Configure, above: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=f"changed here: {named}. Leave that out"):
        check_naive(small(above))


def test_threshold_and_forward_are_free(small: Configure) -> None:
    check_naive(small({"method": {"threshold": 0.2, "forward": "fused"}}))


def test_other_decoders_keep_their_form(workload: Workload) -> None:
    layer = nn.Conv2d(3, 2, 1)
    made = replace(workload, network=deepcopy(workload.network))
    made.network.classifier = layer
    assert plain_form(made.network).classifier is layer
