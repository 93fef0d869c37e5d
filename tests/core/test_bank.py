"""Memory of images: who is written where, and what is alike."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from semikit.core.feature_bank import ClassQueues, FeatureBank, FeatureQueue, places


def test_the_last_of_each_is_written() -> None:
    index = torch.tensor([3, 1, 3, 0, 1, 3])
    chosen = torch.tensor([True, True, True, False, True, False])
    assert places(index, chosen, 5).tolist() == [5, 5, 3, 5, 1, 5]


def bank(momentum: float = 0.0, across: bool = False) -> FeatureBank:
    return FeatureBank(4, 3, momentum, across, seed=1)


def features(count: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(0)), dim=1)


def test_what_is_written_is_found_again() -> None:
    memory, given = bank(), features(3)
    valid = torch.tensor([True, True, False])
    memory.write(torch.tensor([2, 0, 1]), given, torch.tensor([1, 0, 1]), valid)
    assert torch.equal(memory.rows[[2, 0]], given[:2])
    alike = memory.similarity(given, 0.1).exp()
    torch.testing.assert_close(alike.sum(1), torch.ones(3))
    assert not alike[:, [1, 3]].any(), "images that were not seen are like nobody"
    torch.testing.assert_close(alike[:, [0, 2]], (given @ given[[1, 0]].t() / 0.1).softmax(1))
    by_class = memory.by_class(alike, 2)
    torch.testing.assert_close(by_class, alike[:, [0, 2]])
    assert memory.by_image(by_class).shape == (3, 4)
    assert torch.equal(memory.by_image(by_class)[:, 2], by_class[:, 1])


def test_rows_are_averaged_and_keep_their_length() -> None:
    memory, given = bank(0.7), features(2)
    before, index, valid = memory.rows.clone(), torch.tensor([1, 3]), torch.ones(2, dtype=torch.bool)
    memory.write(index, given, torch.tensor([0, 1]), valid)
    torch.testing.assert_close(memory.rows[index], F.normalize(0.7 * before[index] + 0.3 * given, dim=1))
    torch.testing.assert_close(memory.rows.norm(dim=1), torch.ones(5))
    released = bank(0.7, across=True)
    released.write(index, given, torch.tensor([0, 1]), valid)
    torch.testing.assert_close(released.rows[index].norm(dim=0), torch.ones(3))
    assert torch.equal(memory.rows[[0, 2]], before[[0, 2]])


def test_the_gradient_is_that_of_the_rows_that_were_read() -> None:
    memory, given = bank(), features(2).requires_grad_()
    memory.seen.fill_(True)
    expected = torch.autograd.grad(memory.similarity(given, 0.5)[:, 0].sum(), given)[0]
    loss = memory.similarity(given, 0.5)[:, 0].sum()
    memory.write(torch.tensor([0, 1]), -given.detach(), torch.tensor([0, 1]), torch.ones(2, dtype=torch.bool))
    assert torch.equal(torch.autograd.grad(loss, given)[0], expected)


def test_an_empty_bank_is_no_nan() -> None:
    assert torch.isfinite(bank().similarity(features(2), 0.1)).all()


def test_a_queue_keeps_the_last_images() -> None:
    queue, given, classes = FeatureQueue(4, 3, 2), features(7), torch.eye(2)[[0, 1, 1, 0, 1, 0, 1]]
    valid = torch.tensor([True, True, True, True, False, True, True])
    queue.write(given[:3], classes[:3], valid[:3])
    assert not queue.full()
    torch.testing.assert_close(queue.average(given[:1], 1e-3), classes[:1])
    queue.write(given[3:5], classes[3:5], valid[3:5])
    assert queue.full()
    assert torch.equal(queue.rows, given[[4, 1, 2, 3]])
    assert queue.seen.tolist() == [False, True, True, True], "an image without a label is like nobody"
    queue.write(given, classes, valid)
    assert torch.equal(queue.rows, given[3:]), "of more images than it holds the last"


def test_queues_keep_the_last_images_of_each_class() -> None:
    queues, given = ClassQueues(3, 2, 3), features(7)
    chosen = torch.tensor([True, True, True, False, True, True, True])
    queues.write(given[:3], torch.tensor([1, 0, 1]), chosen[:3])
    torch.testing.assert_close(queues.means(), torch.stack([given[1], (given[0] + given[2]) / 2, torch.zeros(3)]))
    queues.write(given[3:], torch.tensor([0, 1, 1, 1]), chosen[3:])
    assert queues.written.tolist() == [1, 5, 0]
    torch.testing.assert_close(queues.means(), torch.stack([given[1], (given[5] + given[6]) / 2, torch.zeros(3)]))
