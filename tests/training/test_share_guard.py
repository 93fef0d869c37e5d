"""The confident share that never begins, or falls away."""

from __future__ import annotations

import pytest

from semikit.training.guards import ShareGuard


def notices(guard: ShareGuard, *shares: float | None) -> list[list[str]]:
    return [guard.evaluated(20 * k, {}, share, None) for k, share in enumerate(shares, 1)]


@pytest.mark.parametrize(("shares", "collapsed"), [((0.6, 0.8, 0.5), False), ((0.6, 0.8, 0.1), True)])
def test_it_falls_away(shares: tuple[float, ...], collapsed: bool) -> None:
    last = notices(ShareGuard(), *shares)[-1]
    assert bool(last) == collapsed
    if collapsed:
        assert "fell to 10.0 %, from up to 80.0 %" in last[0]


def test_what_never_began_is_said_once_and_at_the_end() -> None:
    guard = ShareGuard()
    first, *later = notices(guard, 0.0, 0.0001, 0.0004)
    assert "no unlabelled image has taught anything yet after 20 steps: the confident share is 0 %" in first[0]
    assert later == [[], []]
    assert "after 60 steps" in guard.ended(60)[0]


def test_what_began_late_is_no_fault_at_the_end() -> None:
    guard = ShareGuard()
    notices(guard, 0.0, 0.02, 0.0)
    assert guard.ended(60) == []


def test_a_method_without_pseudo_labels_is_not_asked() -> None:
    guard = ShareGuard()
    assert notices(guard, None, None) == [[], []]
    assert guard.ended(40) == []


def test_it_is_saved() -> None:
    guard, again = ShareGuard(), ShareGuard()
    notices(guard, 0.0, 0.8)
    again.load_state_dict(guard.state_dict())
    assert notices(again, 0.1) == notices(guard, 0.1) != [[]]
