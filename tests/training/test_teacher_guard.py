"""What is said of a teacher that is of no use, and when the student takes its place."""

from __future__ import annotations

from typing import Any

from semikit.training.guards import TeacherGuard
from semikit.training.remedies import Remedies
from tests.helpers import tiny


def guard(teacher: str = "ema", acts: bool = False, method: str = "unimatch_v2", **settings: Any) -> TeacherGuard:
    return TeacherGuard(Remedies(tiny.method(method, teacher=teacher, **settings), acts), teacher == "auto")


def notices(guard: TeacherGuard, *pairs: tuple[float, float]) -> list[list[str]]:
    return [guard.evaluated(20, {"student": student, "teacher": teacher}, None, None) for student, teacher in pairs]


def test_a_teacher_that_keeps_up_is_not_mentioned() -> None:
    # What the authors' logs show for DINOv2: behind by 7 in the first epoch, ahead later.
    assert notices(guard(), (60.4, 53.5), (72.4, 75.1)) == [[], []]


def test_a_teacher_far_behind_is_told_and_replaced_the_second_time() -> None:
    watch = guard("auto")
    first, second, third = notices(watch, (84.5, 65.4), (84.6, 65.0), (84.7, 65.0))
    assert "19.1 points behind" in first[0]
    assert "the student labels" in second[0]
    assert watch.switched
    assert third == []


def test_without_leave_it_is_only_notices() -> None:
    watch = guard()
    _, second, third = notices(watch, (44.2, 26.1), (44.2, 26.1), (44.2, 26.1))
    assert third == []
    assert second[0].endswith(
        ", again. Next to try: method.ema_decay=0.9 or method.teacher=student. This run may go on with "
        "train.guard=act: the teacher follows faster (ema_decay 0.9)."
    )
    assert not watch.switched


def test_once_is_not_twice() -> None:
    watch = guard("auto")
    notices(watch, (50.0, 30.0), (60.0, 61.0), (70.0, 50.0))
    assert not watch.switched


def test_what_it_saw_is_saved() -> None:
    watch, again = guard("auto"), guard("auto")
    watch.evaluated(20, {"student": 80.0, "teacher": 60.0}, 0.7, None)
    again.load_state_dict(watch.state_dict())
    assert (again.behind, again.switched) == (1, False)
    watch.evaluated(20, {"student": 80.0, "teacher": 60.0}, 0.7, None)
    again.load_state_dict(watch.state_dict())
    assert again.switched
    assert again.method.student_labels


def test_where_the_student_labels_the_teacher_does_not_matter() -> None:
    watch = guard("student")
    assert notices(watch, (80.0, 10.0), (80.0, 10.0)) == [[], []]
    assert not watch.switched
