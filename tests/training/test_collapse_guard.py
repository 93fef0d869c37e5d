"""What is counted of the classes, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from semikit.core.counts import class_counts
from semikit.core.losses import LABELED, PREDICTED
from semikit.training.guards import CollapseGuard
from semikit.training.meter import ClassSums
from semikit.training.remedies import Remedies
from tests.helpers import tiny
from tests.helpers.sync_counter import SyncCounter

NAMES = ("road", "tree", "car")


def sums(labeled: tuple[float, ...], predicted: tuple[float, ...], scale: float = 1e4) -> ClassSums:
    return ClassSums(NAMES, tuple(scale * x for x in labeled), tuple(scale * x for x in predicted))


def guard(num_classes: int = 3, acts: bool = False, method: str = "fixmatch", **settings: Any) -> CollapseGuard:
    return CollapseGuard(Remedies(tiny.method(method, num_classes, **settings), acts))


def notices(
    *pairs: tuple[tuple[float, ...], tuple[float, ...]], scale: float = 1e4, confident: float = 1.0
) -> list[list[str]]:
    watch = guard()
    return [watch.evaluated(20, {}, confident, sums(labeled, predicted, scale)) for labeled, predicted in pairs]


EVEN = (0.5, 0.3, 0.2)
ROAD = (1.0, 0.0, 0.0)


@pytest.mark.parametrize("shape", [(7,), (3, 5, 4), (2, 0, 4)])
def test_counts_are_those_of_a_loop(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(4, shape, generator=generator)
    weights = torch.rand(shape, generator=generator)
    mask = weights > 0.4
    expected = [sum(int(m) for c, m in zip(labels.flatten(), mask.flatten(), strict=True) if c == k) for k in range(4)]
    assert class_counts(labels, mask, 4).tolist() == expected
    by_weight = torch.stack([weights[labels == k].sum() for k in range(4)])
    torch.testing.assert_close(class_counts(labels, weights, 4), by_weight)
    torch.testing.assert_close(class_counts(labels[:1], mask[:1], 4) + class_counts(labels[1:], mask[1:], 4),
                               class_counts(labels, mask, 4))  # fmt: skip


def test_counting_does_not_wait_for_the_device() -> None:
    labels = torch.randint(4, (2, 8, 8))
    with SyncCounter() as counter:
        class_counts(labels, labels > 1, 4)
    assert counter.total > 2
    assert not counter.found


def test_one_class_that_takes_everything_is_told_once_with_the_numbers() -> None:
    first, second, third = notices((EVEN, (0.6, 0.3, 0.1)), (EVEN, (0.99, 0.005, 0.005)), (EVEN, (0.995, 0.003, 0.002)))
    assert first == third == []
    assert len(second) == 1
    assert (
        "99.0 % of the confident pseudo-labels (100.0 % of all) are 'road', which is 50.0 % of what is labelled"
        in second[0]
    )


def test_it_is_told_again_after_it_passed() -> None:
    good, bad = (EVEN, EVEN), (EVEN, (0.99, 0.005, 0.005))
    assert [len(found) for found in notices(good, bad, good, bad)] == [0, 1, 0, 1]


def test_at_the_beginning_it_may_pass() -> None:
    bad, good = (EVEN, (0.99, 0.005, 0.005)), (EVEN, EVEN)
    assert notices(bad, bad, good) == [[], [], []]
    assert [len(found) for found in notices(bad, bad, bad, bad)] == [0, 0, 1, 0]


@pytest.mark.parametrize(("labeled", "collapsed"), [((0.99, 0.005, 0.005), False), ((0.9, 0.05, 0.05), True)])
def test_a_large_background_is_no_collapse(labeled: tuple[float, ...], collapsed: bool) -> None:
    found = notices((labeled, EVEN), (labeled, (0.992, 0.004, 0.004)))
    assert bool(found[1]) == collapsed


@pytest.mark.parametrize(("confident", "collapsed"), [(0.04, False), (0.6, False), (0.65, True)])
def test_what_is_easy_is_confident_first(confident: float, collapsed: bool) -> None:
    """As in the demos: the background alone, until it takes its own share and a quarter of the rest."""
    found = notices(*[(EVEN, ROAD)] * 4, confident=confident)
    assert any("collapse into one" in line for lines in found for line in lines) == collapsed


def test_a_class_that_never_came_is_not_missed_while_little_is_confident() -> None:
    assert notices(*[(EVEN, (0.7, 0.3, 0.0))] * 5, confident=0.4) == [[]] * 5


def test_a_class_that_is_lost_is_named_the_second_time() -> None:
    lost = (0.7, 0.3, 0.0)
    first, second, third, fourth = notices((EVEN, EVEN), (EVEN, lost), (EVEN, lost), (EVEN, lost))
    assert first == second == fourth == []
    assert third[0].startswith("no longer among the confident pseudo-labels: 'car' (0 %, of what is labelled 20 %).")


def test_a_class_that_never_came_is_named_the_third_time() -> None:
    lost = (0.7, 0.0, 0.3)
    found = notices(*[(EVEN, lost)] * 5)
    assert [len(lines) for lines in found] == [0, 0, 1, 0, 0]
    assert found[2][0].startswith("still not among the confident pseudo-labels: 'tree'")


def test_a_class_that_is_not_labelled_is_not_missed() -> None:
    assert notices(*[((0.5, 0.5, 0.0), (0.5, 0.5, 0.0))] * 5) == [[]] * 5


def test_few_positions_say_nothing() -> None:
    """Of three images none may be of a class."""
    assert notices((EVEN, EVEN), *[(EVEN, ROAD)] * 4, scale=3) == [[]] * 5
    assert notices((EVEN, EVEN), *[(EVEN, ROAD)] * 4, scale=300)[1]


def test_nothing_confident_says_nothing_of_classes() -> None:
    assert notices(*[(EVEN, (0.0, 0.0, 0.0))] * 4) == [[]] * 4
    assert notices(*[(EVEN, (float("nan"),) * 3)] * 4) == [[]] * 4


def test_many_classes_are_counted_not_listed() -> None:
    watch = guard(100)
    names = [f"c{k}" for k in range(100)]
    even, half = [100.0] * 100, [200.0] * 50 + [0.0] * 50
    watch.evaluated(20, {}, 0.9, ClassSums(names, even, even))
    watch.evaluated(20, {}, 0.9, ClassSums(names, even, half))
    (line,) = watch.evaluated(20, {}, 0.9, ClassSums(names, even, half))
    assert "'c54'" in line
    assert "'c55'" not in line
    assert "and 45 more" in line


def test_what_it_saw_is_saved() -> None:
    lost = sums(EVEN, (0.7, 0.3, 0.0))
    watch, again = guard(), guard()
    watch.evaluated(20, {}, 0.9, sums(EVEN, EVEN))
    watch.evaluated(20, {}, 0.9, lost)
    again.load_state_dict(watch.state_dict())
    assert again.evaluated(20, {}, 0.9, lost) == watch.evaluated(20, {}, 0.9, lost) != []


def test_sums_of_logs() -> None:
    logs = {"loss": [3.0], LABELED: [2.0, 1.0, 1.0], PREDICTED: [6.0, 2.0, 0.0]}
    found = ClassSums.of(NAMES, logs)
    assert found == ClassSums(NAMES, (2.0, 1.0, 1.0), (6.0, 2.0, 0.0))
    each = dict(zip((f"pseudo/{name}" for name in NAMES), (0.75, 0.25, 0.0), strict=True))
    assert found.row() == {"classes_predicted": 2.0, "largest_class": 0.75, **each}
    assert ClassSums.of(NAMES, {"loss": [3.0]}) is None
    assert sums(EVEN, (0, 0, 0)).row() == dict.fromkeys(("classes_predicted", "largest_class", *each), 0.0)
