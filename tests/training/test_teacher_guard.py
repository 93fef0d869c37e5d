"""What is said of a teacher that is of no use, and when the student takes its place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from semikit.training.guards import TeacherGuard


def guard(may_switch: bool = False, student_labels: bool = False) -> TeacherGuard:
    method: Any = SimpleNamespace(student_labels=student_labels)
    return TeacherGuard(method, may_switch)


def notices(guard: TeacherGuard, *pairs: tuple[float, float]) -> list[list[str]]:
    return [guard.evaluated(20, {"student": student, "teacher": teacher}, None, None) for student, teacher in pairs]


def test_a_teacher_that_keeps_up_is_not_mentioned() -> None:
    # What the authors' logs show for DINOv2: behind by 7 in the first epoch, ahead later.
    assert notices(guard(), (60.4, 53.5), (72.4, 75.1)) == [[], []]


def test_a_teacher_far_behind_is_told_and_replaced_the_second_time() -> None:
    watch = guard(may_switch=True)
    first, second, third = notices(watch, (84.5, 65.4), (84.6, 65.0), (84.7, 65.0))
    assert "19.1 points behind" in first[0]
    assert "the student labels" in second[0]
    assert watch.switched
    assert third == []


def test_without_leave_it_is_only_notices() -> None:
    watch = guard()
    _, second = notices(watch, (44.2, 26.1), (44.2, 26.1))
    assert "method.teacher=student or auto" in second[0]
    assert not watch.switched


def test_once_is_not_twice() -> None:
    watch = guard(may_switch=True)
    notices(watch, (50.0, 30.0), (60.0, 61.0), (70.0, 50.0))
    assert not watch.switched


def test_what_it_saw_is_saved() -> None:
    watch, again = guard(may_switch=True), guard(may_switch=True)
    watch.evaluated(20, {"student": 80.0, "teacher": 60.0}, 0.7, None)
    again.load_state_dict(watch.state_dict())
    assert (again.behind, again.switched) == (1, False)
    watch.evaluated(20, {"student": 80.0, "teacher": 60.0}, 0.7, None)
    again.load_state_dict(watch.state_dict())
    assert again.switched
    assert again.method.student_labels


def test_where_the_student_labels_the_teacher_does_not_matter() -> None:
    watch = guard(student_labels=True)
    assert notices(watch, (80.0, 10.0), (80.0, 10.0)) == [[], []]
    assert not watch.switched
