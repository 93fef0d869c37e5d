"""Alignment, threshold and hard or soft labels in any mixture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from semikit.core.alignment import Alignment, AlignmentSettings, DebiasSettings
from semikit.core.batch import Prediction, Requirements, RunInfo, Unlabeled
from semikit.core.losses import UnlabeledLoss, masked_cross_entropy
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits, predicted, sharpened
from semikit.core.running_averages import class_mean_of
from semikit.core.settings import JointSettings, PseudoLabelSettings, UnlabeledSettings
from semikit.core.thresholds import FixedThreshold, FreeThreshold, SoftWeights, Threshold
from semikit.registry import METHODS
from semikit.training.guards import Guards
from tests.helpers import tiny


def given(pixels: bool = True) -> tuple[RunInfo, Unlabeled, Tensor]:
    run_info = tiny.run_info()
    _, unlabeled = tiny.batch(run_info, Requirements(strong_views=1), pixels=pixels)
    return run_info, unlabeled, tiny.network(pixels=pixels)(unlabeled.weak).detach()


def rule(run_info: RunInfo, threshold: Threshold | None = None, **settings: Any) -> PseudoLabelRule:
    return PseudoLabelRule(run_info, threshold or FixedThreshold(0.5), **settings)


def test_alone_it_is_the_plain_pseudo_label() -> None:
    run_info, unlabeled, logits = given()
    pseudo = rule(run_info)(logits, unlabeled)
    plain = predicted(logits)
    assert torch.equal(pseudo.weak.labels, plain.labels)
    assert torch.equal(pseudo.weak.weights, (plain.confidence >= 0.5) & unlabeled.valid)
    assert pseudo.weak.probabilities is None


@pytest.mark.parametrize("pixels", [True, False], ids=["pixels", "images"])
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("kind", ["none", "queue", "ema"])
@pytest.mark.parametrize("adaptive", [None, "free", "soft"])
def test_the_parts_compose(adaptive: str | None, kind: str, hard: bool, pixels: bool) -> None:
    run_info, unlabeled, logits = given(pixels)

    def threshold() -> Threshold | None:
        made = {"free": lambda: FreeThreshold(3, 0.5, None, None), "soft": lambda: SoftWeights(3, 0.5, 2.0)}
        return None if adaptive is None else made[adaptive]()

    alignment = None if kind == "none" else AlignmentSettings(kind=kind)
    pseudo = rule(run_info, threshold(), alignment=alignment, soft_labels=None if hard else 0.4)(logits, unlabeled)
    probabilities = logits.softmax(1)
    if alignment is not None:
        probabilities = Alignment(alignment, 3)(probabilities, unlabeled.valid)
    confidence, labels = probabilities.max(1)
    assert torch.equal(pseudo.weak.labels, labels)
    (view,) = pseudo.views
    box, partner = (unlabeled.boxes[0], unlabeled.partner) if pixels else (torch.zeros(4, dtype=torch.bool), None)
    if hard:
        assert view.probabilities is None
    else:
        soft = sharpened(probabilities, 0.4)
        wanted = torch.where(box.unsqueeze(1), soft[partner], soft) if pixels else soft
        torch.testing.assert_close(view.probabilities, wanted)
    weights = pseudo.weak.weights
    assert not weights[~unlabeled.valid].any()
    if adaptive is None:
        assert torch.equal(weights, (confidence >= 0.5) & unlabeled.valid)
    else:
        assert 0 < weights.mean() < 1
    assert torch.equal(view.weights, torch.where(box, weights[partner], weights) if pixels else weights)


def test_labels_may_stay_as_they_were() -> None:
    run_info, unlabeled, logits = given()
    alignment = AlignmentSettings(kind="ema", target=(0.01, 0.01, 0.98))
    changed, kept = (
        rule(run_info, SoftWeights(3, 0.5, 2.0), alignment=alignment, soft_labels=1.0, aligned_labels=aligned)(
            logits, unlabeled
        )
        for aligned in (True, False)
    )
    assert torch.equal(kept.weak.labels, logits.argmax(1))
    torch.testing.assert_close(kept.weak.probabilities, logits.softmax(1))
    assert torch.equal(kept.weak.weights, changed.weak.weights)
    assert not torch.equal(kept.weak.labels, changed.weak.labels)


def test_sharpening_is_a_temperature() -> None:
    logits = torch.randn(5, 7, 2, generator=torch.Generator().manual_seed(0)) * 3
    torch.testing.assert_close(sharpened(logits.softmax(1), 0.3), (logits / 0.3).softmax(1))
    assert torch.isfinite(sharpened((logits * 30).softmax(1), 0.02)).all()


@pytest.mark.parametrize("settings", [{}, {"forward": "joint"}, {"teacher": "student"}])
def test_labelled_predictions_have_to_be_seen(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="needs labelled predictions of the same pass; use forward 'joint'"):
        PseudoLabelSettings(alignment={"target": "labeled"}, **settings)
    assert JointSettings(alignment={"target": "labeled"}).joint


@pytest.mark.parametrize("name", ["fixmatch", "freematch", "softmatch", "unimatch_v2"])
@pytest.mark.parametrize("teacher", ["ema", "student"])
def test_state_is_saved_and_counted_once_a_step(name: str, teacher: str) -> None:
    plugin, run_info = METHODS.get(name), tiny.run_info()
    config = plugin.Config(teacher=teacher, forward="joint", alignment={"length": 3})
    method = plugin(tiny.network(), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, plugin.requirements(config))
    for number in range(2):
        method(labeled, unlabeled, method.pseudo_labels(unlabeled, number))
    state = method.state_dict()
    assert state["rule.alignment.predicted.place"].tolist() == [2]
    assert state["rule.alignment.predicted.rows"].sum(1).tolist() == pytest.approx([1, 1, 0])


@pytest.mark.parametrize("normalise", ["total", "process"])
def test_valid_and_denominators_are_of_the_mixed_view(normalise: str) -> None:
    run_info = tiny.run_info(normalise=normalise)
    _, unlabeled = tiny.batch(run_info, Requirements())
    pseudo = rule(run_info)(predict_logits(tiny.network(), unlabeled.weak), unlabeled)
    for view, box in zip(pseudo.views, unlabeled.boxes, strict=True):
        assert torch.equal(view.valid, torch.where(box, unlabeled.valid[unlabeled.partner], unlabeled.valid))
        counts = view.valid.flatten(1).sum(1)
        total = [counts.sum()] * 4 if normalise == "total" else [2 * counts[:2].sum()] * 2 + [2 * counts[2:].sum()] * 2
        assert view.denominator.tolist() == [float(value) for value in total]
    assert torch.equal(pseudo.weak.valid, unlabeled.valid)


def test_labels_and_weights_are_mixed_alike() -> None:
    run_info = tiny.run_info()
    _, unlabeled = tiny.batch(run_info, Requirements())
    pseudo = rule(run_info)(predict_logits(tiny.network(), unlabeled.weak), unlabeled)
    labels, weights = pseudo.weak.labels, pseudo.weak.weights
    for view, box in zip(pseudo.views, unlabeled.boxes, strict=True):
        assert torch.equal(view.labels, torch.where(box, labels[unlabeled.partner], labels))
        assert torch.equal(view.weights, torch.where(box, weights[unlabeled.partner], weights))


def test_without_boxes_nothing_is_mixed() -> None:
    run_info = tiny.run_info()
    _, unlabeled = tiny.batch(run_info, Requirements(), pixels=False)
    values = torch.arange(4)
    pseudo = rule(run_info).targets(Prediction(values, values / 4), unlabeled)
    assert all(torch.equal(view.labels, values) for view in pseudo.views)


def test_few_confident_positions_mean_a_small_loss() -> None:
    run_info = tiny.run_info()
    _, unlabeled = tiny.batch(run_info, Requirements())
    network = tiny.network()
    logits = network(unlabeled.strong[0])
    (target, _) = rule(run_info)(predict_logits(network, unlabeled.weak), unlabeled).views
    loss = UnlabeledLoss(UnlabeledSettings(), run_info)
    half = replace(target, weights=target.weights.clone())
    half.weights[2:] = False
    first = masked_cross_entropy(logits[:2], target.labels[:2], target.weights[:2], target.denominator[:2])
    torch.testing.assert_close(loss(logits, half), first)
    assert loss(logits, half) < loss(logits, target)


@pytest.mark.parametrize("name", ["fixmatch", "unimatch_v1", "unimatch_v2"])
def test_the_student_labels_once_the_teacher_stays_behind(name: str) -> None:
    plugin, run_info = METHODS.get(name), tiny.run_info()
    far = (20, {"student": 80.0, "teacher": 60.0}, 0.5, None)
    methods = {choice: plugin(tiny.network(), plugin.Config(teacher=choice), run_info) for choice in ("auto", "ema")}
    for method in methods.values():
        guards = Guards(method)
        for _ in range(2):
            assert method.label_source is method.teacher
            assert "behind" in guards.evaluated(*far)[0]
    assert methods["auto"].label_source is methods["auto"].student
    assert methods["ema"].label_source is methods["ema"].teacher


@pytest.mark.parametrize("pixels", [True, False], ids=["pixels", "images"])
def test_a_favoured_class_is_debiased_and_the_loss_gets_its_margin(pixels: bool) -> None:
    run_info, unlabeled, logits = given(pixels)
    favoured = logits + torch.tensor([3.0, 0.0, 0.0]).view(-1, *[1] * (logits.dim() - 2))
    debiased = rule(run_info, debias=DebiasSettings(strength=1.0, momentum=0.0))
    first, second = (debiased(favoured, unlabeled).weak for _ in range(2))
    assert torch.equal(first.labels, favoured.argmax(1)), "before anything was seen every class is as usual"
    usual = class_mean_of(favoured.softmax(1), unlabeled.valid).value
    taken = favoured - usual.log().view(-1, *[1] * (logits.dim() - 2))
    assert torch.equal(second.labels, taken.argmax(1))
    assert (second.labels == 0).sum() < (first.labels == 0).sum()
    view = debiased(favoured, unlabeled).views[0]
    torch.testing.assert_close(view.margin, usual.log().expand(len(logits), 3))
    loss = UnlabeledLoss(UnlabeledSettings(), run_info)
    shifted = favoured + usual.log().view(-1, *[1] * (logits.dim() - 2))
    torch.testing.assert_close(loss(favoured, view), loss(shifted, replace(view, margin=None)))
    assert rule(run_info, debias=DebiasSettings(margin=False))(favoured, unlabeled).weak.margin is None


@pytest.mark.parametrize(("given", "strength"), [(0.4, 0.4), (1, 1.0), ({"strength": 0.2}, 0.2), ("none", None)])
def test_debiasing_may_be_a_strength_alone(given: Any, strength: float | None) -> None:
    debias = PseudoLabelSettings(debias=given).debias
    assert (None if debias is None else debias.strength) == strength


def test_what_should_come_is_flattened_over_a_run() -> None:
    alignment = Alignment(AlignmentSettings(target=(0.8, 0.1, 0.1), progressive=0.0), 3, iterations=3)
    even, valid = torch.full((4, 3), 1 / 3), torch.ones(4, dtype=torch.bool)
    found = [alignment(even, valid)[0].tolist() for _ in range(4)]
    rooted = torch.tensor([0.8, 0.1, 0.1]).sqrt()
    assert found[0] == pytest.approx([0.8, 0.1, 0.1], rel=1e-3)
    assert found[1] == pytest.approx((rooted / rooted.sum()).tolist(), rel=1e-3)
    for last in found[2:]:
        assert last == pytest.approx([1 / 3] * 3, rel=1e-3)
