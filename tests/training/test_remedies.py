"""What guards do when they are asked to act, what they name to try otherwise, and that a method can take it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import yaml

from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method
from semikit.core.thresholds import ClassThreshold, FixedThreshold
from semikit.registry import METHODS
from semikit.training.guards import Guards
from semikit.training.meter import ClassSums
from semikit.training.remedies import (
    CLASS_THRESHOLDS,
    FASTER_TEACHER,
    RAMP_AGAIN,
    STUDENT_LABELS,
    Remedies,
    Remedy,
)
from tests.helpers import tiny

FAR = {"student": 80.0, "teacher": 60.0}
NEAR = {"student": 80.0, "teacher": 79.0}
EVEN = (5000.0, 3000.0, 2000.0)
NAMES = ("road", "tree", "car")
LEARNING = [name for name in METHODS.names() if name != "supervised"]


def sums(*predicted: float) -> ClassSums:
    return ClassSums(NAMES, EVEN, predicted)


FINE, ALONE, LOST = sums(*EVEN), sums(9990, 5, 5), sums(7000, 3000, 0)


def acting(
    name: str = "unimatch_v2", teacher: str = "ema", iterations: int = 1000, **settings: Any
) -> tuple[Guards, Any]:
    method = tiny.method(name, teacher=teacher, iterations=iterations, **settings)
    return Guards(method, acts=True), method


OWN_LABELS = {
    name for name in LEARNING if METHODS.get(name).Config.model_fields["teacher"].annotation == Literal["student"]
}
"""Methods that have no other teacher than the student."""
ROUNDS = {"selftrain", "stpp"}
"""Methods whose labels come from runs before."""


def labelled_by(teacher: str, name: str) -> Method:
    if name not in ROUNDS:
        return tiny.method(name, teacher="student" if name in OWN_LABELS else teacher)
    method = tiny.method(name)
    method.given = (tiny.network(1),)
    return method


def evaluate(
    guards: Guards, *scores: dict[str, float], confident: float = 0.9, classes: ClassSums = FINE, first: int = 100
) -> list[list[str]]:
    return [guards.evaluated(first + 100 * n, found, confident, classes) for n, found in enumerate(scores)]


@pytest.mark.parametrize("name", LEARNING)
def test_which_methods_can_take_which_remedy(name: str) -> None:
    own_thresholds = {
        "adamatch",
        "allspark",
        "corrmatch",
        "cps",
        "cutmix_seg",
        "dash",
        "flexmatch",
        "freematch",
        "imas",
        "mean_teacher",
        "remixmatch",
        "softmatch",
        "u2pl",
        *ROUNDS,
    }
    method = labelled_by("ema", name)
    remedies = Remedies(method, acts=True)
    assert (remedies.open(CLASS_THRESHOLDS, 100) is None) == (name in own_thresholds)
    assert (remedies.open(STUDENT_LABELS, 100) is None) == (name in {"simmatch", "comatch", *OWN_LABELS, *ROUNDS})
    assert remedies.open(FASTER_TEACHER, 100) == pytest.approx(0.9)
    assert remedies.open(RAMP_AGAIN, 100) == (40 if name in ("mean_teacher", "pseudo_label") else 10)


@pytest.mark.parametrize("teacher", ["ema", "student"])
@pytest.mark.parametrize("name", LEARNING)
def test_what_is_named_to_try_can_be_set(name: str, teacher: str) -> None:
    """Each KEY=VALUE of every notice is a setting of the method, other than the one it has."""
    guards = Guards(labelled_by(teacher, name))
    found = [guards.evaluated(100 * n, FAR, share, None) for n, share in enumerate((0.0, 0.0, 0.9, 0.1), 1)]
    found += [guards.evaluated(500, FAR, 0.9, classes) for classes in (FINE, ALONE, FINE, LOST, LOST, LOST)]
    notices = [notice for notices in found for notice in notices]
    assert len(notices) > 3
    without = ("allspark", "mean_teacher", "cps", "remixmatch", "u2pl", *ROUNDS)  # a threshold
    assert name in without or all("Next to try: method." in notice for notice in notices)
    config = guards.remedies.method.config
    for key, value in re.findall(r"method\.(\w+)=([\w.]*\w)", " ".join(notices)):
        changed = type(config)(**{**config.model_dump(), key: yaml.safe_load(value)})
        assert getattr(changed, key) != getattr(config, key), (key, value)
    assert guards.done() == []


@pytest.mark.parametrize("name", LEARNING)
def test_a_guard_that_only_tells_changes_nothing(name: str) -> None:
    method = labelled_by("ema", name)
    guards = Guards(method)
    before, keys = method.ema_decay, list(method.state_dict())
    for classes in (FINE, ALONE, ALONE, LOST, LOST, LOST):
        guards.evaluated(100, FAR, 0.0, classes)
    assert (method.ema_decay, list(method.state_dict()), method.student_labels) == (before, keys, name in OWN_LABELS)
    assert guards.state_dict()["done"] == []


@pytest.mark.parametrize("acts", [True, False])
def test_after_the_last_step_settings_are_named_and_nothing_is_done(acts: bool) -> None:
    guards = Guards(tiny.method("unimatch_v2", iterations=300), acts)
    guards.evaluated(200, FAR, 0.9, FINE)
    found = guards.evaluated(300, FAR, 0.9, ALONE)
    found += Guards(tiny.method("unimatch_v2", iterations=300), acts).evaluated(300, FAR, 0.0, FINE)
    assert len(found) == 4
    for notice in found:
        assert "Next to try: method." in notice
        assert "train.guard" not in notice
    assert guards.done() == []


def test_without_a_confident_position_the_surest_of_each_class_begin() -> None:
    guards, method = acting(threshold=0.99)
    first, second, third = evaluate(guards, NEAR, NEAR, NEAR, confident=0.0)
    assert first[0].endswith(
        "If it is so at the next evaluation too, of each predicted class at least the surest 20 % count from then on "
        "(train.guard act)."
    )
    assert second == [
        "no unlabelled image has taught anything yet after 200 steps: the confident share is 0 %: from now on of each "
        "predicted class at least the surest 20 % count (train.guard act)."
    ]
    assert third[0].endswith("Next to try: method.threshold=0.79."), "nothing else can be done"
    threshold = method.rule.threshold
    assert isinstance(threshold, ClassThreshold)
    assert (threshold.threshold, threshold.quantile) == (0.99, 0.8)
    assert [(action.iteration, action.remedy, action.value) for action in guards.done()] == [
        (200, "class_quantile", 0.8)
    ]


def test_the_unlabelled_loss_really_begins() -> None:
    guards, method = acting(threshold=1.0)
    labeled, unlabeled = tiny.batch(method.run_info, method.requirements(method.config))

    def confident() -> float:
        found = method(labeled, unlabeled, method.pseudo_labels(unlabeled, 300))
        return float(found.logs["confident"])

    assert confident() == 0
    evaluate(guards, NEAR, NEAR, confident=0.0)
    assert 0.19 < confident() < 0.3


def test_one_evaluation_without_a_confident_position_is_none() -> None:
    guards, method = acting()
    guards.evaluated(100, NEAR, 0.0, FINE)
    guards.evaluated(200, NEAR, 0.5, FINE)
    guards.evaluated(300, NEAR, 0.0, FINE)
    assert isinstance(method.rule.threshold, FixedThreshold)


def test_a_teacher_that_is_the_network_as_it_began_follows_faster_first() -> None:
    """Or its errors would be learned: no threshold makes it better."""
    guards, method = acting(ema_decay=0.9999, ema_ramp=False)
    found = evaluate(guards, *[NEAR] * 4, confident=0.0)
    assert ["the teacher follows faster" in line for lines in found for line in lines] == [True, True, False, False]
    assert [(action.iteration, action.remedy, action.value) for action in guards.done()] == [
        (200, "ema_decay", 0.95),
        (400, "class_quantile", 0.8),
    ]
    assert isinstance(method.rule.threshold, ClassThreshold)
    told = Guards(tiny.method("fixmatch", ema_decay=0.9999, ema_ramp=False))
    (notice,) = told.evaluated(100, NEAR, 0.0, FINE)
    assert "Next to try: method.ema_decay=0.9 or method.class_quantile=0.8 or method.threshold=0.76." in notice


def test_a_method_with_thresholds_of_its_own_is_told_what_to_try() -> None:
    guards, _ = acting("flexmatch", teacher="student")
    first, second = evaluate(guards, NEAR, NEAR, confident=0.0)
    assert first[0].endswith("Next to try: method.threshold=0.76.")
    assert second == []
    assert guards.done() == []


def test_a_collapse_into_one_class_lets_the_others_count_and_the_loss_grow_anew() -> None:
    guards, method = acting()
    evaluate(guards, NEAR)
    (notice,) = guards.evaluated(200, NEAR, 0.9, ALONE)
    assert "the classes collapse into one" in notice
    assert notice.endswith(
        "From now on of each predicted class at least the surest 20 % count and the unlabelled loss grows from 0 over "
        "100 iterations (train.guard act)."
    )
    assert isinstance(method.rule.threshold, ClassThreshold)
    weights = []
    for step in (200, 225, 250, 300, 900):
        method.unlabeled_loss.begin(step)
        weights.append(float(method.unlabeled_loss.weight))
    assert weights == [0, 0.25, 0.5, 1, 1]


def test_what_did_not_help_is_told_some_evaluations_later() -> None:
    guards, _ = acting()
    evaluate(guards, NEAR)
    found = [guards.evaluated(100 * n, NEAR, 0.9, ALONE) for n in range(2, 7)]
    assert [len(notices) for notices in found] == [1, 0, 0, 1, 0]
    assert found[3][0].endswith("Next to try: method.class_balance=0.5. More labels help too.")
    assert [action.iteration for action in guards.done()] == [200, 200]


@pytest.mark.parametrize("before", [FINE, LOST])
def test_a_class_that_is_lost_or_never_came_gets_its_own_threshold(before: ClassSums) -> None:
    guards, method = acting("pseudo_label", teacher="student")
    found = [guards.evaluated(100 * n, NEAR, 0.9, classes) for n, classes in enumerate((before, LOST, LOST), 1)]
    assert found[:2] == [[], []]
    assert "the confident pseudo-labels: 'car' (0 %, of what is labelled 20 %)" in found[2][0]
    assert found[2][0].endswith("From now on of each predicted class at least the surest 20 % count (train.guard act).")
    assert isinstance(method.rule.threshold, ClassThreshold)
    assert method.unlabeled_loss.ramp_start == 0


def test_a_teacher_that_lags_follows_faster_then_the_student_labels() -> None:
    guards, method = acting(ema_decay=0.9999, ema_ramp=False)
    first, second = evaluate(guards, FAR, FAR)
    assert first[0].endswith("at the next evaluation too, the teacher follows faster (ema_decay 0.9) from then on "
                             "(train.guard act).")  # fmt: skip
    assert second[0].endswith("again: from now on the teacher follows faster (ema_decay 0.95) (train.guard act).")
    assert (method.ema_decay, method.student_labels) == (0.95, False)
    found = evaluate(guards, FAR, FAR, first=260)
    assert [bool(notices) for notices in found] == [True, True]
    assert found[1][0].endswith("again: from now on the student labels (train.guard act).")
    assert method.label_source is method.student
    assert evaluate(guards, FAR, first=500) == [[]]
    assert [(action.iteration, action.remedy) for action in guards.done()] == [
        (200, "ema_decay"),
        (360, "student_labels"),
    ]


def test_a_teacher_that_follows_faster_gets_time_to_come_up() -> None:
    guards, method = acting(ema_decay=0.999, iterations=2000)
    evaluate(guards, FAR, FAR, first=900)
    assert method.ema_decay == 0.99
    found = evaluate(guards, FAR, FAR, NEAR, FAR, first=1100)
    assert found[:3] == [[], [], []], "three hundred steps pass first"
    assert "20.0 points behind" in found[3][0]
    assert not method.student_labels


def test_auto_also_has_the_faster_teacher_first_where_guards_act() -> None:
    guards, method = acting(teacher="auto")
    evaluate(guards, FAR, FAR)
    assert (method.ema_decay, method.student_labels) == (0.95, False)
    tells = Guards(tiny.method("unimatch_v2", teacher="auto"))
    found = evaluate(tells, FAR, FAR)
    assert found[1][0].endswith("again: from now on the student labels (method.teacher auto).")
    assert [action.remedy for action in tells.done()] == ["student_labels"]


def test_where_the_student_cannot_take_over_it_is_told() -> None:
    guards, method = acting("simmatch", iterations=4000)
    found = evaluate(guards, FAR, FAR, first=1000)
    assert "follows faster" in found[1][0]
    later = evaluate(guards, FAR, FAR, first=3000)
    assert later[1][0].endswith("again. Next to try: method.teacher=student.")
    assert not method.student_labels


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("unimatch_v2", {"teacher": "student"}),
        ("simmatch", {"teacher": "student", "teacher_projection": "projection"}),
        ("comatch", {"teacher": "student", "teacher_projection": "projection"}),
        ("u2pl", {"teacher": "student", "teacher_representation": "representation"}),
    ],
)
def test_a_smaller_decay_moves_the_teacher_and_its_projection_faster(name: str, pairs: dict[str, str]) -> None:
    method = tiny.method(name, teacher="ema", ema_decay=0.99, ema_ramp=False)
    FASTER_TEACHER.apply(method, 10, 0.5)
    followers = [parameter for average in pairs for parameter in getattr(method, average).parameters()]
    before = [parameter.clone() for parameter in followers]
    with torch.no_grad():
        for parameter in (
            parameter for learned in pairs.values() for parameter in getattr(method, learned).parameters()
        ):
            parameter.add_(1)
    method.after_step(10, torch.ones(()))
    for parameter, old in zip(followers, before, strict=True):
        torch.testing.assert_close(parameter, old + 0.5)


@pytest.mark.parametrize("remedy", [CLASS_THRESHOLDS, RAMP_AGAIN, FASTER_TEACHER, STUDENT_LABELS], ids=lambda r: r.name)
def test_what_was_done_is_saved_and_done_again_once(remedy: Remedy) -> None:
    def state(method: Method) -> Any:
        loss: Any = method.unlabeled_loss
        assert isinstance(loss, UnlabeledLoss)
        values = (method.ema_decay, method.student_labels, loss.ramp_start, loss.ramp_iterations)
        return values, method.state_dict().keys()

    guards, method = acting()
    fresh = state(method)
    assert guards.remedies.do(300, remedy) is not None
    assert guards.remedies.do(400, remedy) is None
    again, other = acting()
    again.load_state_dict(guards.state_dict())
    assert state(other) == state(method) != fresh
    assert again.state_dict() == guards.state_dict()
    assert again.remedies.open(remedy, 400) is None


def test_a_checkpoint_of_before_is_read() -> None:
    guards, method = acting()
    guards.load_state_dict({"teacher": {"behind": 1, "switched": True}, "share": {"largest": 0.0}})
    assert method.student_labels
    assert guards.done() == []
    assert guards.evaluated(300, FAR, 0.0, FINE)[0].endswith("count (train.guard act).")


@pytest.mark.parametrize(
    "name",
    [
        "unimatch_v2",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("fixmatch", "pseudo_label", "unimatch_v1")),
    ],
)
def test_a_compiled_joint_pass_takes_the_thresholds_of_classes(name: str) -> None:
    """The rule lies inside what is compiled there; it is compiled anew once."""
    settings = {"forward": "joint"} if name != "unimatch_v1" else {}
    plain, traced = (acting(name, teacher="student", threshold=0.99, **settings)[1] for _ in range(2))
    compiled: Callable[..., Any] = torch.compile(traced, backend="eager", fullgraph=True)
    labeled, unlabeled = tiny.batch(plain.run_info, plain.requirements(plain.config))
    for step in range(4):
        if step == 2:
            for method in (plain, traced):
                CLASS_THRESHOLDS.apply(method, step, 0.5)
        expected = plain(labeled, unlabeled, plain.pseudo_labels(unlabeled, step))
        found = compiled(labeled, unlabeled, traced.pseudo_labels(unlabeled, step))
        assert torch.equal(found.loss, expected.loss)
    assert torch.equal(traced.rule.threshold.histogram, plain.rule.threshold.histogram)
    assert plain.rule.threshold.histogram.any()
