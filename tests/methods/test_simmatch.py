"""SimMatch: what it learns beside the student, and when its bank is used."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from semikit.methods.simmatch import SimMatch, SimMatchConfig
from semikit.training.optimizer import build_optimizer
from semikit.training.settings import OptimizerSettings
from tests.helpers import tiny


def made(**settings: Any) -> tuple:
    run_info, config = tiny.run_info(), SimMatchConfig(threshold=0.4, width=8, **settings)
    method = SimMatch(tiny.network(pixels=False), config, run_info).train()
    return method, *tiny.batch(run_info, SimMatch.requirements(config), pixels=False)


@pytest.mark.parametrize("teacher", ["student", "ema"])
def test_the_bank_is_filled_in_the_first_epoch_and_used_from_the_second(teacher: str) -> None:
    method, labeled, unlabeled = made(teacher=teacher)
    assert method.run_info.steps_per_epoch == 2
    losses = [method(labeled, unlabeled, method.pseudo_labels(unlabeled, step)).logs["loss_in"] for step in range(3)]
    assert losses[:2] == [0, 0]
    assert losses[2] > 0
    seen = method.bank.seen[:-1]
    assert torch.equal(seen, labeled.valid)
    assert torch.equal(method.bank.labels[:-1][seen], labeled.labels[labeled.valid])


@pytest.mark.parametrize("teacher", ["student", "ema"])
def test_the_projection_is_learned_and_averaged(teacher: str) -> None:
    method, labeled, unlabeled = made(teacher=teacher, ema_decay=0.75)
    settings = OptimizerSettings(name="sgd", lr=0.1, encoder_lr=0.1)
    optimizer = build_optimizer(method.student, settings, method.extra_parameters())
    assert {id(p) for p in method.projection.parameters()} <= {id(p) for p in optimizer.param_groups[-1]["params"]}
    before = [p.clone() for p in method.projection.parameters()]
    for step in range(3):
        optimizer.zero_grad()
        method(labeled, unlabeled, method.pseudo_labels(unlabeled, step)).loss.backward()
    optimizer.step()
    method.after_step(3, torch.ones(()))
    after = list(method.projection.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
    if teacher == "student":
        assert method.teacher_projection is None
        return
    for kept, new, old in zip(method.teacher_projection.parameters(), after, before, strict=True):
        torch.testing.assert_close(kept, 0.75 * old + 0.25 * new)
        assert kept.grad is None


def test_its_draws_are_those_of_the_seed() -> None:
    torch.manual_seed(1)
    first = made()[0]
    torch.manual_seed(2)
    expected, second = torch.rand(3), None
    torch.manual_seed(2)
    second = made()[0]
    assert torch.equal(torch.rand(3), expected), "the caller's generator is left alone"
    for a, b in ((first.bank.rows, second.bank.rows), (first.projection[0].weight, second.projection[0].weight)):
        assert torch.equal(a, b)


def test_like_images_smooth_the_label() -> None:
    method, labeled, unlabeled = made(alignment="none", smoothing=0.0)
    for step in range(3):
        pseudo = method.pseudo_labels(unlabeled, step)
        method(labeled, unlabeled, pseudo)
    classes = method.bank.labels[:-1][method.bank.seen[:-1]].unique()
    with torch.no_grad():
        target, _ = method._smoothed(
            unlabeled,
            method.student(unlabeled.weak),
            method.projection(method.student.embed(method.student.encode(unlabeled.weak))),
            (method.student(labeled.images), labeled),
        )
    assert set(target.weak.labels.tolist()) <= set(classes.tolist()), "only classes of remembered images"
    torch.testing.assert_close(target.weak.probabilities.sum(1), torch.ones(4))
