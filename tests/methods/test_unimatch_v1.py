"""UniMatch V1: what is pasted, what is dropped, who labels."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest
import torch

from semikit.core.batch import Needs
from semikit.methods.unimatch_v1 import UniMatchV1, UniMatchV1Config


@pytest.fixture
def made(tiny: ModuleType) -> tuple:
    config = UniMatchV1Config(threshold=0.5)
    facts = tiny.facts()
    method = UniMatchV1(tiny.network(), config, facts)
    return method.train(), *tiny.batch(facts, UniMatchV1.needs(config))


def test_asks_for_two_views_and_a_second_batch() -> None:
    assert UniMatchV1.needs(UniMatchV1Config()) == Needs(strong_views=2, unlabeled=True, second=True)
    assert UniMatchV1.whole_batch(UniMatchV1Config())


def test_pastes_labels_and_valid_of_the_second_batch(made: tuple) -> None:
    method, _, unlabeled = made
    pseudo = method.label(unlabeled, 0)
    labels = method.student.eval()(unlabeled.second.images).argmax(1)[unlabeled.partner]
    for view, box in zip(pseudo.views, unlabeled.boxes, strict=True):
        assert torch.equal(view.labels[box], labels[box])
        expected = torch.where(box, unlabeled.second.valid[unlabeled.partner], unlabeled.valid)
        assert torch.equal(view.valid, expected)


def test_each_level_has_a_mask_of_its_own_and_no_image_is_kept(made: tuple) -> None:
    method, _, unlabeled = made
    (masks,) = method.label(unlabeled, 0).masks
    assert masks[0].shape == masks[1].shape == (4, 6)
    assert not torch.equal(*masks)
    assert set(torch.stack(masks).unique().tolist()) == {0.0, 2.0}


def test_the_dropped_stream_counts_half_of_the_unlabeled_loss(made: tuple) -> None:
    method, labeled, unlabeled = made
    pseudo = method.label(unlabeled, 0)
    ones = ((torch.ones(4, 6),) * 2,)
    undropped = replace(pseudo, masks=ones)
    nothing_valid = tuple(replace(v, valid=torch.zeros_like(v.valid)) for v in pseudo.views)
    result = method(labeled, unlabeled, replace(undropped, views=nothing_valid))
    logits = method.student(unlabeled.weak).detach()
    target = replace(pseudo.weak, labels=logits.argmax(1), confidence=logits.softmax(1).amax(1))
    torch.testing.assert_close(result.logs["loss_u"], 0.5 * method.emphasis.loss(logits, target).detach())


def test_without_boxes_the_views_learn_the_weak_labels(made: tuple) -> None:
    method, labeled, unlabeled = made
    unlabeled = replace(unlabeled, boxes=(), second=replace(unlabeled.second, images=-unlabeled.second.images))
    first = method(labeled, unlabeled, method.label(unlabeled, 0)).loss
    unlabeled = replace(unlabeled, second=replace(unlabeled.second, images=unlabeled.second.images * 3))
    second = method(labeled, unlabeled, method.label(unlabeled, 0)).loss
    assert torch.equal(first, second)
