"""The confident share that never begins, or falls away."""

from __future__ import annotations

from typing import Any

import pytest

from semikit.training.guards import ShareGuard
from semikit.training.remedies import Remedies
from tests.helpers import tiny


def guard(acts: bool = False, method: str = "fixmatch", **settings: Any) -> ShareGuard:
    return ShareGuard(Remedies(tiny.method(method, **settings), acts))


def notices(watch: ShareGuard, *shares: float | None) -> list[list[str]]:
    return [watch.evaluated(20 * k, {}, share, None) for k, share in enumerate(shares, 1)]


@pytest.mark.parametrize(("shares", "collapsed"), [((0.6, 0.8, 0.5), False), ((0.6, 0.8, 0.1), True)])
def test_it_falls_away(shares: tuple[float, ...], collapsed: bool) -> None:
    last = notices(guard(), *shares)[-1]
    assert bool(last) == collapsed
    if collapsed:
        assert "fell to 10.0 %, from up to 80.0 %" in last[0]


def test_a_fall_is_told_once_until_it_is_over() -> None:
    assert [bool(told) for told in notices(guard(), 0.8, 0.1, 0.05, 0.7, 0.1)] == [False, True, False, False, True]


def test_what_never_began_is_said_once_and_at_the_end() -> None:
    watch = guard()
    first, *later = notices(watch, 0.0, 0.0001, 0.0004)
    assert "no unlabelled image has taught anything yet after 20 steps: the confident share is 0 %" in first[0]
    assert later == [[], []]
    following = "Next to try: method.class_quantile=0.8 or method.threshold=0.76."
    in_the_run = "This run may go on with train.guard=act: of each predicted class at least the surest 20 % count."
    assert first[0].endswith(f"the score will be that of labelled images alone. {following} {in_the_run}")
    assert "after 60 steps" in watch.ended(60)[0]
    assert watch.ended(60)[0].endswith(f"give more labels. {following}")


def test_what_began_late_is_no_fault_at_the_end() -> None:
    watch = guard()
    notices(watch, 0.0, 0.02, 0.0)
    assert watch.ended(60) == []


def test_a_method_without_pseudo_labels_is_not_asked() -> None:
    watch = guard()
    assert notices(watch, None, None) == [[], []]
    assert watch.ended(40) == []


def test_it_is_saved() -> None:
    watch, again = guard(), guard()
    notices(watch, 0.0, 0.8)
    again.load_state_dict(watch.state_dict())
    assert notices(again, 0.1) == notices(watch, 0.1) != [[]]
    again.load_state_dict(watch.state_dict())
    assert notices(again, 0.1) == [[]]
