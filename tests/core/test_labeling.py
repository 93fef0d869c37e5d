"""Alignment, threshold and hard or soft labels in any mixture."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from semikit.core.alignment import Alignment
from semikit.core.batch import Requirements, RunInfo, Unlabeled
from semikit.core.consistency import prepare
from semikit.core.labeling import JointSettings, Labeling, LabelingSettings
from semikit.core.pseudo_labels import pseudo_label, sharpened
from semikit.core.thresholds import FreeThreshold, SoftWeights, Threshold
from semikit.registry import METHODS


def given(tiny: ModuleType, pixels: bool = True) -> tuple[RunInfo, Unlabeled, Tensor]:
    run_info = tiny.run_info()
    _, unlabeled = tiny.batch(run_info, Requirements(strong_views=1), pixels=pixels)
    return run_info, unlabeled, tiny.network(pixels=pixels)(unlabeled.weak).detach()


def labeling(run_info: RunInfo, threshold: Threshold | None = None, **settings: Any) -> Labeling:
    return Labeling(LabelingSettings(**settings), run_info, threshold)


def test_alone_it_is_the_plain_pseudo_label(tiny: ModuleType) -> None:
    run_info, unlabeled, logits = given(tiny)
    pseudo = labeling(run_info)(prepare(unlabeled, run_info), unlabeled, logits)
    labels, confidence = pseudo_label(logits)
    assert torch.equal(pseudo.weak.labels, labels)
    assert torch.equal(pseudo.weak.confidence, confidence)
    assert pseudo.weak.weights is None
    assert pseudo.weak.probabilities is None


@pytest.mark.parametrize("pixels", [True, False], ids=["pixels", "images"])
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("kind", ["none", "queue", "ema"])
@pytest.mark.parametrize("adaptive", [None, "free", "soft"])
def test_the_parts_compose(tiny: ModuleType, adaptive: str | None, kind: str, hard: bool, pixels: bool) -> None:
    run_info, unlabeled, logits = given(tiny, pixels)

    def threshold() -> Threshold | None:
        made = {"free": lambda: FreeThreshold(3, 0.5, None, None), "soft": lambda: SoftWeights(3, 0.5, 2.0)}
        return None if adaptive is None else made[adaptive]()

    made = labeling(run_info, threshold(), alignment=kind, hard=hard, temperature=0.4)
    pseudo = made(prepare(unlabeled, run_info), unlabeled, logits)
    probabilities = logits.softmax(1)
    if kind != "none":
        probabilities = Alignment(kind, 3, 32, 0.999, "uniform")(probabilities, unlabeled.valid)
    confidence, labels = probabilities.max(1)
    assert torch.equal(pseudo.weak.labels, labels)
    torch.testing.assert_close(pseudo.weak.confidence, confidence)
    (view,) = pseudo.views
    box, partner = (unlabeled.boxes[0], unlabeled.partner) if pixels else (torch.zeros(4, dtype=torch.bool), None)
    if hard:
        assert view.probabilities is None
    else:
        soft = sharpened(probabilities, 0.4)
        wanted = torch.where(box.unsqueeze(1), soft[partner], soft) if pixels else soft
        torch.testing.assert_close(view.probabilities, wanted)
    if adaptive is None:
        assert view.weights is None
        return
    weights = pseudo.weak.weights
    assert not weights[~unlabeled.valid].any()
    assert 0 < weights.mean() < 1
    assert torch.equal(view.weights, torch.where(box, weights[partner], weights) if pixels else weights)


def test_labels_may_stay_as_they_were(tiny: ModuleType) -> None:
    run_info, unlabeled, logits = given(tiny)
    config = LabelingSettings(alignment="ema", hard=False, temperature=1.0, alignment_target=[0.01, 0.01, 0.98])
    changed, kept = (Labeling(config, run_info, SoftWeights(3, 0.5, 2.0), aligned) for aligned in (True, False))
    changed, kept = (made(prepare(unlabeled, run_info), unlabeled, logits) for made in (changed, kept))
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
        LabelingSettings(alignment_target="labeled", **settings)
    assert JointSettings(alignment_target="labeled").joint


@pytest.mark.parametrize("name", ["fixmatch", "freematch", "softmatch", "unimatch_v2"])
@pytest.mark.parametrize("teacher", ["ema", "student"])
def test_state_is_saved_and_counted_once_a_step(tiny: ModuleType, name: str, teacher: str) -> None:
    plugin, run_info = METHODS.get(name), tiny.run_info()
    config = plugin.Config(teacher=teacher, forward="joint", alignment="queue", alignment_length=3)
    method = plugin(tiny.network(), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, plugin.requirements(config))
    for number in range(2):
        method(labeled, unlabeled, method.label(unlabeled, number))
    state = method.state_dict()
    assert state["labeling.alignment.predicted.place"].tolist() == [2]
    assert state["labeling.alignment.predicted.rows"].sum(1).tolist() == pytest.approx([1, 1, 0])
