"""UniMatch V1: what is pasted, what is dropped, who labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from semikit.core.batch import Requirements
from semikit.methods.unimatch_v1 import UniMatchV1, UniMatchV1Config
from tests.helpers import tiny


@pytest.fixture
def made() -> tuple:
    config = UniMatchV1Config(threshold=0.5)
    run_info = tiny.run_info()
    method = UniMatchV1(tiny.network(), config, run_info)
    return method.train(), *tiny.batch(run_info, UniMatchV1.requirements(config))


def test_asks_for_two_views_and_a_second_batch() -> None:
    assert UniMatchV1.requirements(UniMatchV1Config()) == Requirements(
        strong_views=2, unlabeled=True, partner_batch=True
    )
    assert UniMatchV1.needs_full_batch(UniMatchV1Config())


def test_pastes_labels_and_valid_of_the_second_batch(made: tuple) -> None:
    method, _, unlabeled = made
    pseudo = method.pseudo_labels(unlabeled, 0)
    labels = method.student.eval()(unlabeled.partner_batch.images).argmax(1)[unlabeled.partner]
    views = method.rule(method.student(unlabeled.weak), unlabeled, partners=pseudo.partners).views
    for view, box in zip(views, unlabeled.boxes, strict=True):
        assert torch.equal(view.labels[box], labels[box])
        expected = torch.where(box, unlabeled.partner_batch.valid[unlabeled.partner], unlabeled.valid)
        assert torch.equal(view.valid, expected)


def test_each_level_has_a_mask_of_its_own_and_no_image_is_kept(made: tuple) -> None:
    method, _, unlabeled = made
    (masks,) = method.pseudo_labels(unlabeled, 0).masks
    assert masks[0].shape == masks[1].shape == (4, 6)
    assert not torch.equal(*masks)
    assert set(torch.stack(masks).unique().tolist()) == {0.0, 2.0}


def test_the_dropped_stream_counts_half_of_the_unlabeled_loss(made: tuple) -> None:
    method, labeled, unlabeled = made
    pseudo = method.pseudo_labels(unlabeled, 0)
    ones = ((torch.ones(4, 6),) * 2,)
    undropped = replace(pseudo, masks=ones)
    everywhere = tuple(torch.ones_like(box) for box in unlabeled.boxes)
    nothing = replace(pseudo.partners, weights=torch.zeros_like(pseudo.partners.weights))
    pasted = replace(unlabeled, boxes=everywhere)
    result = method(labeled, pasted, replace(undropped, partners=nothing))
    logits = method.student(unlabeled.weak).detach()
    target = method.rule(logits, unlabeled, partners=nothing).weak
    torch.testing.assert_close(result.logs["loss_u"], 0.5 * method.unlabeled_loss(logits, target).detach())


def test_without_boxes_the_views_learn_the_weak_labels(made: tuple) -> None:
    method, labeled, unlabeled = made
    unlabeled = replace(
        unlabeled, boxes=(), partner_batch=replace(unlabeled.partner_batch, images=-unlabeled.partner_batch.images)
    )
    first = method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0)).loss
    unlabeled = replace(
        unlabeled, partner_batch=replace(unlabeled.partner_batch, images=unlabeled.partner_batch.images * 3)
    )
    second = method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0)).loss
    assert torch.equal(first, second)


def test_with_a_teacher_it_labels_all_and_the_batch_may_be_cut() -> None:
    """As in Table 5 of the V2 paper."""
    config = UniMatchV1Config(threshold=0.5, teacher="ema")
    assert not UniMatchV1.needs_full_batch(config)
    run_info = tiny.run_info()
    method = UniMatchV1(tiny.network(), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, UniMatchV1.requirements(config))
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(torch.randn_like(parameter))
    pseudo = method.pseudo_labels(unlabeled, 0)
    own = method.teacher(unlabeled.weak).argmax(1)
    pasted = method.teacher(unlabeled.partner_batch.images).argmax(1)[unlabeled.partner]
    assert torch.equal(pseudo.weak.labels, own)
    assert not torch.equal(own, method.student.eval()(unlabeled.weak).argmax(1)), "else it could be either"
    for view, box in zip(pseudo.views, unlabeled.boxes, strict=True):
        assert torch.equal(view.labels, torch.where(box, pasted, own))
    changed = replace(pseudo, weak=replace(pseudo.weak, weights=torch.zeros_like(pseudo.weak.weights)))
    assert method(labeled, unlabeled, changed).logs["confident"] == 0, "the forward takes the labels it is given"
