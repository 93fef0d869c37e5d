"""UniMatch V2: the variants of its family, its draws, its refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from semikit.core.batch import Prediction, Pseudo, StepResult
from semikit.errors import ConfigError
from semikit.methods.unimatch_v2 import UniMatchV2, UniMatchV2Config
from tests.helpers import tiny


def made(network: Any = None, group: int = 2, **settings: Any) -> tuple[UniMatchV2, Any, Any]:
    config = UniMatchV2Config(**{"threshold": 0.6, **settings})
    run_info = tiny.run_info(group=group)
    method = UniMatchV2(tiny.network() if network is None else network, config, run_info)
    return method.train(), *tiny.batch(run_info, UniMatchV2.requirements(config))


def step(method: UniMatchV2, labeled: Any, unlabeled: Any, number: int = 0) -> StepResult:
    return method(labeled, unlabeled, method.pseudo_labels(unlabeled, number))


@pytest.mark.parametrize("position", ["encoder", "decoder"])
@pytest.mark.parametrize("dropout", ["complementary", "independent", "none"])
def test_one_call_or_several_give_the_same_numbers(dropout: str, position: str) -> None:
    losses, gradients = [], []
    for forward in ("separate", "fused", "joint", "auto"):
        method, labeled, unlabeled = made(dropout={"kind": dropout, "position": position}, forward=forward)
        result = step(method, labeled, unlabeled)
        result.loss.backward()
        losses.append(result.loss.detach())
        gradients.append([p.grad for p in method.student.parameters()])
    for loss, gradient in zip(losses[1:], gradients[1:], strict=True):
        torch.testing.assert_close(loss, losses[0])
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-6)


def test_table_6_variants() -> None:
    losses = set()
    for settings in (
        {},
        {"streams": 1, "dropout": "independent"},
        {"dropout": "none"},
        {"dropout": "independent"},
    ):
        method, labeled, unlabeled = made(**settings)
        pseudo = method.pseudo_labels(unlabeled, 0)
        streams = settings.get("streams", 2)
        assert len(pseudo.views) == streams
        assert len(pseudo.masks) == (0 if settings.get("dropout") == "none" else streams)
        losses.add(round(method(labeled, unlabeled, pseudo).loss.item(), 6))
    assert len(losses) == 4


def test_masks_of_both_positions() -> None:
    network = tiny.network(last=8)
    method, _, unlabeled = made(network)
    first, second = method.pseudo_labels(unlabeled, 0).masks
    assert [tuple(mask.shape) for mask in first] == [(4, 6), (4, 8)]
    assert all(((a + b) == 2).all() for a, b in zip(first, second, strict=True))
    assert ((first[0] == 1).all(dim=1).view(2, 2).sum(dim=1) == 1).all(), "one of each group of two keeps all channels"
    method, _, unlabeled = made(network, dropout={"position": "decoder"})
    assert [tuple(mask.shape) for mask in method.pseudo_labels(unlabeled, 0).masks[0]] == [(4, 5)]


def test_dropout_acts_on_strong_views_only() -> None:
    method, labeled, unlabeled = made()
    pseudo = method.pseudo_labels(unlabeled, 0)
    zeros = tuple(tuple(torch.zeros_like(mask) for mask in view) for view in pseudo.masks)
    dropped = method(labeled, unlabeled, replace(pseudo, masks=zeros))
    plain = method(labeled, unlabeled, replace(pseudo, masks=()))
    assert torch.equal(dropped.logs["loss_x"], plain.logs["loss_x"])
    assert not torch.equal(dropped.logs["loss_u"], plain.logs["loss_u"])


def test_teacher_student_labels_with_the_student() -> None:
    by_teacher, _, unlabeled = made()
    by_student, _, _ = made(teacher="student")
    for method in (by_teacher, by_student):
        with torch.no_grad():
            method.student.head.weight.neg_()
    first, second = (method.pseudo_labels(unlabeled, 0).weak.labels for method in (by_teacher, by_student))
    expected = by_student.student.eval()(unlabeled.weak).argmax(1)
    assert torch.equal(second, expected)
    assert not torch.equal(first, expected)


def test_joint_pass_with_student_needs_the_whole_batch() -> None:
    assert UniMatchV2.needs_full_batch(UniMatchV2Config(forward="joint", teacher="student"))
    assert not UniMatchV2.needs_full_batch(UniMatchV2Config(forward="joint"))
    assert not UniMatchV2.needs_full_batch(UniMatchV2Config(teacher="student"))


def test_pseudo_labels_of_the_joint_pass_come_from_training_mode() -> None:
    network = tiny.network(batch_norm=True)
    settings = {"forward": "joint", "teacher": "student", "dropout": "none", "threshold": 0.0}
    method, labeled, unlabeled = made(network, **settings)
    images = torch.cat([labeled.images, unlabeled.weak, *unlabeled.strong])
    weak = network.train()(images)[4:8].argmax(1)
    pseudo = method.pseudo_labels(unlabeled, 0)
    assert pseudo.weak is None, "known only inside the pass"
    result = method(labeled, unlabeled, pseudo)
    assert result.logs["confident"] == 1
    boxless = replace(unlabeled, boxes=())
    ones = torch.ones_like(weak, dtype=torch.bool)
    fixed = method.rule.targets(Prediction(weak, ones.float()), boxless)
    expected = torch.stack(
        [
            method.unlabeled_loss(logits, target)
            for logits, target in zip(network(images)[8:].chunk(2), fixed.views, strict=True)
        ]
    ).mean()
    torch.testing.assert_close(method(labeled, boxless, pseudo).logs["loss_u"], expected.detach())


@pytest.mark.parametrize("forward", ["auto", "separate", "joint"])
def test_batch_norm_goes_with_all_but_fused(forward: str) -> None:
    method, labeled, unlabeled = made(tiny.network(batch_norm=True), forward=forward)
    assert torch.isfinite(step(method, labeled, unlabeled).loss)


def test_fused_with_batch_norm_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.forward is 'fused', but the network has batch norm.*forward=auto"):
        made(tiny.network(batch_norm=True), forward="fused")


def test_the_weight_of_the_unlabeled_loss() -> None:
    for weight in (0.0, 1.0, 4.0):
        for loss, factor in (("released", 1 / (1 + weight)), ("paper", 1.0)):
            method, labeled, unlabeled = made(weight=weight, loss=loss)
            result = step(method, labeled, unlabeled)
            expected = (result.logs["loss_x"] + weight * result.logs["loss_u"]) * factor
            torch.testing.assert_close(result.loss.detach(), expected)


@pytest.mark.parametrize(("ramp", "half"), [(0.4, 20), (40, 20), (2, 1)])
def test_the_ramp_of_the_weight(ramp: float, half: int) -> None:
    method, labeled, unlabeled = made(ramp=ramp, loss="paper")  # of 100 iterations
    for number, expected in ((0, 0.0), (half, 0.5), (2 * half, 1.0), (99, 1.0)):
        result = step(method, labeled, unlabeled, number)
        part = (result.loss.detach() - result.logs["loss_x"]) / result.logs["loss_u"]
        assert part.item() == pytest.approx(expected, abs=1e-5)


def test_threshold_0_takes_all_and_1_nearly_none() -> None:
    shares = []
    for threshold in (0.0, 0.5, 0.7, 0.9, 1.0):
        method, labeled, unlabeled = made(threshold=threshold)
        shares.append(step(method, labeled, unlabeled).logs["confident"].item())
    assert shares[0] == pytest.approx(1.0)
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < shares[2] < 1


def test_class_balance_moves_with_the_steps_and_is_saved() -> None:
    method, labeled, unlabeled = made(class_balance=0.5)
    plain, _, _ = made()
    first = step(method, labeled, unlabeled).loss.item()
    for number in range(1, 60):
        method.pseudo_labels(unlabeled, number)
    assert step(method, labeled, unlabeled).loss.item() != pytest.approx(first, rel=1e-3)
    assert "rule.balance.share" in method.state_dict()
    assert not any(key.startswith("rule") for key in plain.state_dict())


def test_follow_paper_fills_what_is_not_given() -> None:
    released, paper = UniMatchV2Config(), UniMatchV2Config(follow="paper")
    assert (released.dropout.undropped, released.dropout.sampling, released.loss) == (0.5, "bernoulli", "released")
    assert (paper.dropout.undropped, paper.dropout.sampling, paper.loss) == (0.0, "half", "paper")
    given = UniMatchV2Config(follow="paper", dropout={"undropped": 0.25}).dropout
    assert (given.undropped, given.sampling) == (0.25, "half")
    assert UniMatchV2Config(follow="paper", dropout="none").dropout.kind == "none"
    assert UniMatchV2Config.model_validate(paper.model_dump(mode="json")) == paper


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"streams": 1}, "needs streams 2; with streams 1 use 'independent' or 'none'"),
        ({"dropout": {"position": "decoder", "levels": [0]}}, "leave them at 'all'"),
        ({"threshold": 1.5}, "less than or equal to 1"),
        ({"dropout": {"rate": 0.0}}, "greater than 0"),
        ({"treshold": 0.9}, "Extra inputs"),
        ({"streams": 3}, "1 or 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        UniMatchV2Config(**settings)


def test_a_level_the_encoder_does_not_have_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"method\.dropout\.levels: 2 is no level of this encoder, which has 2; allowed are 0 to 1"
    ):
        made(dropout={"levels": [0, 2]})


def test_only_the_named_levels_are_dropped() -> None:
    method, _, unlabeled = made(dropout={"levels": [1]})
    pseudo: Pseudo = method.pseudo_labels(unlabeled, 0)
    for view in pseudo.masks:
        assert (view[0] == 1).all()
        assert not (view[1] == 1).all()
