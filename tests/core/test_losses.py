"""Cross-entropy over valid positions, its denominators, and what must never be NaN."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semikit.core.losses import Ohem, denominators, hard_positions, masked_cross_entropy, ohem_cross_entropy
from semikit.distributed import collectives as processes

GENERATOR = torch.Generator().manual_seed(0)


def problem(shape: tuple[int, ...], classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    logits = torch.randn(shape[0], classes, *shape[1:], generator=GENERATOR, dtype=torch.float64)
    labels = torch.randint(classes, shape, generator=GENERATOR)
    return logits.requires_grad_(), labels, torch.rand(shape, generator=GENERATOR) > 0.3


@pytest.mark.parametrize("shape", [(6,), (6, 5, 3)], ids=["images", "pixels"])
def test_total_is_the_mean_over_valid_positions(shape: tuple[int, ...]) -> None:
    logits, labels, valid = problem(shape)
    loss = masked_cross_entropy(logits, labels, valid, denominators(valid, 2, "total"))
    expected = F.cross_entropy(logits, labels.masked_fill(~valid, -100), ignore_index=-100)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))


def test_the_layout_of_the_logits_changes_nothing() -> None:
    logits, labels, valid = problem((6, 5, 3))
    last = logits.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert not last.is_contiguous()
    losses = [masked_cross_entropy(form, labels, valid, torch.full((6,), 7.0)) for form in (logits, last)]
    torch.testing.assert_close(*losses)
    gradients = [torch.autograd.grad(loss, form)[0] for loss, form in zip(losses, (logits, last), strict=True)]
    torch.testing.assert_close(*gradients)
    assert gradients[1].stride() == last.stride(), "no copy on the way back either"


@pytest.mark.parametrize("group", [1, 2, 4, 6, 9])
def test_process_is_the_mean_over_groups(group: int) -> None:
    logits, labels, valid = problem((6, 5, 3))
    loss = masked_cross_entropy(logits, labels, valid, denominators(valid, group, "process"))
    targets = labels.masked_fill(~valid, -100)
    parts = [F.cross_entropy(a, b) for a, b in zip(logits.split(group), targets.split(group), strict=True)]
    torch.testing.assert_close(loss, torch.stack(parts).mean())


def test_weights_multiply() -> None:
    logits, labels, valid = problem((6, 5, 3))
    denominator = torch.full((6,), 3.0)
    twice = masked_cross_entropy(logits, labels, valid * 2.0, denominator)
    torch.testing.assert_close(twice, 2 * masked_cross_entropy(logits, labels, valid, denominator))


@pytest.mark.parametrize("normalise", ["total", "process"])
@pytest.mark.parametrize("shape", [(4,), (4, 3, 2)], ids=["images", "pixels"])
def test_no_valid_position_gives_0_and_no_gradient(shape: tuple[int, ...], normalise: str) -> None:
    logits, labels, _ = problem(shape)
    nothing = torch.zeros(shape, dtype=torch.bool)
    for loss in (
        masked_cross_entropy(logits, labels, nothing, denominators(nothing, 2, normalise)),
        ohem_cross_entropy(logits, labels, nothing, denominators(nothing, 2, normalise), 2, Ohem(min_kept=3)),
    ):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss == 0
        assert not gradient.any()


def test_an_infinite_loss_where_masked_out_is_no_nan() -> None:
    logits = torch.tensor([[0.0, -torch.inf], [1.0, 2.0]], requires_grad=True)
    mask = torch.tensor([False, True])
    for weights in (mask, mask.float()):
        loss = masked_cross_entropy(logits, torch.tensor([1, 1]), weights, torch.ones(2))
        assert loss.item() == pytest.approx(F.cross_entropy(torch.tensor([[1.0, 2.0]]), torch.tensor([1])).item())


def test_a_group_without_valid_positions_counts_0() -> None:
    valid = torch.tensor([[True, True], [True, False], [False, False], [False, False]])
    assert denominators(valid, 2, "process").tolist() == [6.0, 6.0, 2.0, 2.0]
    assert denominators(valid, 2, "total").tolist() == [3.0] * 4


def test_counts_are_shared_between_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients are averaged over processes, so that (Σ_p S_p / d) / P must be Σ_p S_p / N."""
    monkeypatch.setattr(processes.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(processes.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(processes.dist, "all_reduce", lambda count: count.add_(7))  # the other process has 7
    valid = torch.tensor([[True, True], [True, False]])
    assert denominators(valid, 2, "total").tolist() == [5.0, 5.0]
    assert denominators(valid, 2, "process").tolist() == [3.0, 3.0]


def test_half_precision_is_widened() -> None:
    logits, labels, valid = problem((6, 5, 3))
    low = logits.detach().bfloat16()
    loss = masked_cross_entropy(low, labels, valid, denominators(valid, 2, "total"))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, masked_cross_entropy(low.float(), labels, valid, denominators(valid, 2, "total")))


def test_ohem_weighs_groups_by_their_valid_positions_with_total() -> None:
    logits, labels, valid = problem((4, 5, 3))
    valid[2:, :3] = False
    ohem = Ohem(threshold=0.1, min_kept=6)
    alone = []
    for part in (slice(0, 2), slice(2, 4)):
        cut = (logits[part], labels[part], valid[part])
        alone.append(ohem_cross_entropy(*cut, denominators(cut[2], 2, "process"), 2, ohem))
    shares = torch.stack([valid[:2].sum(), valid[2:].sum()]) / valid.sum()
    total = ohem_cross_entropy(logits, labels, valid, denominators(valid, 2, "total"), 2, ohem)
    torch.testing.assert_close(total, (torch.stack(alone) * shares).sum())
    process = ohem_cross_entropy(logits, labels, valid, denominators(valid, 2, "process"), 2, ohem)
    torch.testing.assert_close(process, torch.stack(alone).mean())


@pytest.mark.parametrize("kept", [1, 7, 30])
def test_at_least_min_kept_positions_are_hard(kept: int) -> None:
    logits, labels, valid = problem((4, 5, 3))
    hard = hard_positions(logits.detach(), labels, valid, Ohem(threshold=0.0, min_kept=kept))
    assert int(hard.sum()) == kept
    assert (hard <= valid).all()
    probability = logits.detach().softmax(1).gather(1, labels[:, None])[:, 0]
    assert probability[hard].max() <= probability[valid & ~hard].min()


def test_hard_positions_of_whole_images() -> None:
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0], [1.0, 1.0]])
    hard = hard_positions(logits, torch.tensor([0, 0, 0]), torch.ones(3, dtype=torch.bool), Ohem(min_kept=1))
    assert hard.tolist() == [False, True, True]
