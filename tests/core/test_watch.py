from __future__ import annotations

import pytest

from semikit.core.watch import TeacherWatch


def told(watch: TeacherWatch, *pairs: tuple[float, float], may_switch: bool = False) -> list[list[str]]:
    return [watch.evaluated(student, teacher, None, may_switch) for student, teacher in pairs]


def test_a_teacher_that_keeps_up_is_not_mentioned() -> None:
    # What the authors' logs show for DINOv2: behind by 7 in the first epoch, ahead later.
    assert told(TeacherWatch(), (60.4, 53.5), (72.4, 75.1)) == [[], []]


def test_a_teacher_far_behind_is_told_and_replaced_the_second_time() -> None:
    watch = TeacherWatch()
    first, second, third = told(watch, (84.5, 65.4), (84.6, 65.0), (84.7, 65.0), may_switch=True)
    assert "19.1 points behind" in first[0]
    assert "the student labels" in second[0]
    assert watch.switched
    assert third == []


def test_without_leave_it_is_only_told() -> None:
    watch = TeacherWatch()
    _, second = told(watch, (44.2, 26.1), (44.2, 26.1))
    assert "method.teacher=student or auto" in second[0]
    assert not watch.switched


def test_once_is_not_twice() -> None:
    watch = TeacherWatch()
    told(watch, (50.0, 30.0), (60.0, 61.0), (70.0, 50.0), may_switch=True)
    assert not watch.switched


@pytest.mark.parametrize(
    ("shares", "collapsed"), [((0.6, 0.8, 0.5), False), ((0.6, 0.8, 0.1), True), ((0.0, 0.0), False)]
)
def test_the_confident_share_collapses(shares: tuple[float, ...], collapsed: bool) -> None:
    watch = TeacherWatch()
    last = [watch.evaluated(50.0, 50.0, share, may_switch=False) for share in shares][-1]
    assert bool(last) == collapsed
    if collapsed:
        assert "fell to 10.0 %, from up to 80.0 %" in last[0]


def test_what_it_saw_is_saved() -> None:
    watch, again = TeacherWatch(), TeacherWatch()
    watch.evaluated(80.0, 60.0, 0.7, may_switch=True)
    again.load_state_dict(watch.state_dict())
    assert (again.behind, again.share, again.switched) == (1, 0.7, False)
    assert not list(watch.buffers()), "nothing that would move to the device"
