"""Targets of strong views, before and after a network has looked."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

from semikit.core.batch import Requirements
from semikit.core.consistency import ConsistencySettings, Emphasis, fill, mixed, predict_labels, prepare
from semikit.registry import METHODS


@pytest.mark.parametrize("normalise", ["total", "process"])
def test_valid_and_denominators_are_of_the_mixed_view(tiny: ModuleType, normalise: str) -> None:
    run_info = tiny.run_info(normalise=normalise)
    _, unlabeled = tiny.batch(run_info, Requirements())
    pseudo = prepare(unlabeled, run_info)
    for view, box in zip(pseudo.views, unlabeled.boxes, strict=True):
        assert torch.equal(view.valid, torch.where(box, unlabeled.valid[unlabeled.partner], unlabeled.valid))
        counts = view.valid.flatten(1).sum(1)
        total = [counts.sum()] * 4 if normalise == "total" else [2 * counts[:2].sum()] * 2 + [2 * counts[2:].sum()] * 2
        assert view.denominator.tolist() == [float(value) for value in total]
    assert torch.equal(pseudo.weak.valid, unlabeled.valid)


def test_labels_and_confidence_are_mixed_alike(tiny: ModuleType) -> None:
    run_info = tiny.run_info()
    _, unlabeled = tiny.batch(run_info, Requirements())
    labels, confidence = predict_labels(tiny.network(), unlabeled.weak)
    pseudo = fill(prepare(unlabeled, run_info), unlabeled, labels, confidence)
    for view, box in zip(pseudo.views, unlabeled.boxes, strict=True):
        assert torch.equal(view.labels, torch.where(box, labels[unlabeled.partner], labels))
        assert torch.equal(view.confidence, torch.where(box, confidence[unlabeled.partner], confidence))
    assert torch.equal(pseudo.weak.labels, labels)


def test_without_boxes_nothing_is_mixed(tiny: ModuleType) -> None:
    run_info = tiny.run_info()
    _, unlabeled = tiny.batch(run_info, Requirements(), pixels=False)
    values = torch.arange(4)
    assert mixed(values, values, unlabeled, 1) is values
    pseudo = fill(prepare(unlabeled, run_info), unlabeled, values, values / 4)
    assert all(torch.equal(view.labels, values) for view in pseudo.views)


def test_few_confident_positions_mean_a_small_loss(tiny: ModuleType) -> None:
    run_info = tiny.run_info()
    _, unlabeled = tiny.batch(run_info, Requirements())
    network = tiny.network()
    logits = network(unlabeled.strong[0])
    pseudo = fill(prepare(unlabeled, run_info), unlabeled, *predict_labels(network, unlabeled.weak))
    emphasis = Emphasis(ConsistencySettings(threshold=0.5), run_info)
    target = pseudo.views[0]
    half = replace(target, confidence=target.confidence.clone())
    half.confidence[2:] = 0.0
    kept = replace(target, valid=target.valid.clone())
    kept.valid[2:] = False
    torch.testing.assert_close(emphasis.loss(logits, half), emphasis.loss(logits, kept))
    assert emphasis.loss(logits, half) < emphasis.loss(logits, target)


@pytest.mark.parametrize("name", ["fixmatch", "unimatch_v1", "unimatch_v2"])
def test_the_student_labels_once_the_teacher_stays_behind(tiny: ModuleType, name: str) -> None:
    plugin = METHODS.get(name)
    run_info = tiny.run_info()

    def made(teacher: str) -> Any:
        return plugin(tiny.network(), plugin.Config(teacher=teacher), run_info)

    auto, always = made("auto"), made("ema")
    for method in (auto, always):
        assert method.labeler is method.teacher
        assert "behind" in method.after_evaluation({"student": 80.0, "teacher": 60.0}, 0.5)[0]
        assert method.labeler is method.teacher
        assert method.after_evaluation({"student": 80.0, "teacher": 60.0}, 0.5)
    assert auto.labeler is auto.student
    assert always.labeler is always.teacher
    resumed = made("auto")
    resumed.load_state_dict(auto.state_dict())
    assert resumed.labeler is resumed.student
    student = made("student")
    assert student.labeler is student.student
    assert student.after_evaluation({"student": 80.0, "teacher": 10.0}, 0.5) == []
