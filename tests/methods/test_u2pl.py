"""U2PL: which places are negatives of which class, how places are picked, and what the bank keeps."""

from __future__ import annotations

import pytest
import torch

from semikit.methods.u2pl import U2PL, NegativeBank, Partition, U2PLConfig, distinct, with_replacement
from semikit.run.compose import asked
from semikit.run.config import resolve
from tests.helpers import tiny


def test_negatives_by_the_ranks_of_classes() -> None:
    """Wang et al. 2022, section 3.3, by hand, r_l = 2, r_h = 3 of four classes whose probabilities are 0.4 0.3 0.2 0.1:
    a labelled pixel of class 1 is a negative of class 0, a likely one it is not of; one of class 3 of 0 and 1; an
    unreliable pixel is one of class 2 (rank 2) whatever its pseudo-label is; a reliable or padded one of none.
    """
    likely = torch.tensor([0.4, 0.3, 0.2, 0.1]).view(1, 4, 1, 1).expand(2, 4, 1, 3)
    labels = torch.tensor([[[1, 3, 0]], [[2, 0, 0]]])
    known = torch.tensor([[[True, True, False]], [[False, False, True]]])
    unreliable = torch.tensor([[[False] * 3], [[True, True, False]]])
    config = U2PLConfig(low_rank=2, high_rank=3, anchor=0.25)
    parts = Partition.of(likely, labels, known, unreliable, 1, config)
    assert parts.negatives.int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert parts.members.int().tolist() == [[0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0], [0] * 6, [0, 1, 0, 0, 0, 0]]
    assert parts.anchors.sum(1).tolist() == [1, 1, 0, 0], "0.1 of class 3 is too little for an anchor"


@pytest.mark.parametrize(("classes", "first"), [(2, 1), (3, 1), (5, 2), (19, 3)])
def test_of_few_classes_half_are_unlikely(classes: int, first: int) -> None:
    probabilities = torch.arange(classes, 0, -1.0).view(1, classes, 1, 1)
    yes, no = torch.ones(1, 1, 1, dtype=torch.bool), torch.zeros(1, 1, 1, dtype=torch.bool)
    parts = Partition.of(probabilities, no.long(), no, yes, 0, U2PLConfig())
    assert parts.negatives.flatten().tolist() == [False] * first + [True] * (classes - first)


def test_places_are_picked_with_and_without_replacement() -> None:
    mask = torch.tensor([[0, 1, 0, 1, 1, 1, 0], [0, 0, 1, 0, 0, 0, 0], [0] * 7]).bool()
    found = with_replacement(mask, torch.tensor([[0.0, 0.3, 0.99]] * 3))
    assert found.places[:2].tolist() == [[1, 3, 5], [2, 2, 2]]
    assert found.own.tolist() == [[True] * 3, [True] * 3, [False] * 3]
    found = distinct(mask, torch.full((3,), 0.5), 3)
    # Of four places three, those numbered 0.5 · 4/3, 1.5 · 4/3 and 2.5 · 4/3, rounded down: 0, 2 and 3.
    assert found.places[0].tolist() == [1, 4, 5]
    assert found.count.tolist() == [3, 1, 0]
    assert found.own.tolist() == [[True] * 3, [True, False, False], [False] * 3]


def test_the_bank_keeps_the_last() -> None:
    bank = NegativeBank(2, 4, 2)
    for number in range(3):
        bank.write(torch.tensor([[[1.0, number]] * 2] * 2), torch.tensor([2, 1]))
    assert bank.filled.tolist() == [4, 3]
    assert bank.cursor.tolist() == [2, 3]
    rows = torch.nn.functional.normalize(torch.tensor([[1.0, 2], [1, 2], [1, 1], [1, 1]]), dim=1)
    torch.testing.assert_close(bank.rows[0], rows)
    torch.testing.assert_close(bank.rows[1, 3], torch.zeros(2))


def test_fewer_pixels_are_unreliable_as_the_run_goes_on() -> None:
    run_info, config = tiny.run_info(iterations=10), U2PLConfig(queries=4, bank=8)
    method = U2PL(tiny.network(), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, U2PL.requirements(config))
    shares = []
    for step in (0, 5, 9):
        result = method(labeled, unlabeled, method.pseudo_labels(unlabeled, step))
        shares.append(1 - result.logs["confident"].item())
    assert shares == pytest.approx([0.2, 0.1, 0.02], abs=0.005)
    assert result.logs["loss_c"] > 0


def test_images_are_mixed_as_published_and_the_bank_holds_a_step() -> None:
    views = resolve(asked("seg", dataset="shapes", method="u2pl")[0]).views
    assert (views.strong.jitter_probability, views.strong.blur_probability) == (0, 0)
    assert (views.mix.probability, views.mix.area) == (0.5, (0.5, 0.5))
    with pytest.raises(ValueError, match="bank 8 is less than queries 256"):
        U2PLConfig(bank=8)
