"""The step of classification that is measured, and its plain forms: the same algorithm, the same numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.step import parts
from benchmarks.step.augment_speed import measure_augment
from benchmarks.step.class_current import CurrentClassStep
from benchmarks.step.class_reference import ClassReferenceStep, ShadowAverage, check_class_reference
from benchmarks.step.class_workload import ClassWorkload, build_class_workload, configure_classes
from benchmarks.step.pil_views import PilViews
from benchmarks.step.watch import Watch
from semikit.augment.randaugment import static_randaugment
from semikit.core import student_views as passes
from semikit.core.pseudo_labels import predict_logits
from semikit.errors import InputError
from semikit.methods import unimatch_v2
from semikit.run.recipes import merge
from semikit.tasks import _class_views
from tests.helpers.sync_counter import SyncCounter

CLASSES, STEPS = 4, 3
SMALL: dict[str, Any] = {
    "model": {"encoder_args": {"blocks": 1}},
    "train": {"batch": 2, "ratio": 3, "device": "cpu"},
}


def made(method: str = "fixmatch", threshold: float = 0.5, above: dict[str, Any] | None = None) -> ClassWorkload:
    """A small batch through the wide network, some of whose predictions are confident."""
    named = {"method": {"name": method, "threshold": threshold}}
    workload = build_class_workload(configure_classes(merge(merge(SMALL, named), above or {})), CLASSES)
    for network in (workload.network, workload.method.student, workload.method.teacher):
        network.classifier.weight.data.mul_(2)
    return workload


@pytest.mark.parametrize("pil", [True, False], ids=["reference", "contiguous"])
@pytest.mark.parametrize("method", ["fixmatch", "unimatch_v2"])
def test_the_forms_have_the_same_numbers(method: str, pil: bool) -> None:
    workload = made(method)
    watch = Watch(workload.device)
    current, other = CurrentClassStep(workload, watch), ClassReferenceStep(workload, watch, pil=pil)
    shares = []
    for step in range(STEPS):
        raw = workload.numbers(step)
        losses = [form(raw, step) for form in (current, other)]
        torch.testing.assert_close(losses[1], losses[0], rtol=2e-3, atol=0)
        shares.append(other.read[-1])
    assert any(0.01 < share < 0.99 for share in shares), f"the threshold has to divide the images: {shares}"
    first, second = workload.method.teacher.state_dict(), other.teacher.state_dict()
    for a, b in zip(first.values(), second.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_pil_makes_the_same_views() -> None:
    workload = made("unimatch_v2")
    raw = workload.numbers(5)
    labeled, unlabeled = workload.maker(raw, 5, workload.device)
    assert unlabeled is not None
    images, weak, strong = PilViews(workload)(raw, 5)
    pairs = [(images, labeled.images), (weak, unlabeled.weak), *zip(strong, unlabeled.strong, strict=True)]
    assert len(pairs) == 4
    for theirs, ours in pairs:
        assert torch.equal(theirs, ours)
        assert theirs.is_contiguous()


def test_nothing_waits_and_no_loop_over_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_class_views, "randaugment", static_randaugment)  # as on an accelerator
    totals = []
    for batch in (2, 4):
        workload = made(above={"train": {"batch": batch}})
        step, raw = CurrentClassStep(workload, Watch(workload.device)), workload.numbers(0)
        step(raw, 0)  # the first moves what lives on the device
        with SyncCounter() as counter:
            step(workload.numbers(1), 1)
        assert not counter.found
        totals.append(counter.total)
    assert totals[0] == totals[1]


def test_the_reference_reads_in_every_step() -> None:
    workload = made()
    step = ClassReferenceStep(workload, Watch(workload.device), pil=True)
    with SyncCounter() as counter:
        step(workload.numbers(0), 0)
    assert counter.found == {"_local_scalar_dense": 4}


@pytest.mark.parametrize("method", ["fixmatch", "unimatch_v2"])
def test_a_step_is_split_into_all_its_parts(method: str) -> None:
    workload = made(method)
    watch = Watch(workload.device)
    before = (passes.logits_of, workload.stepper.forward)
    loss = CurrentClassStep(workload, watch)(workload.numbers(0), 0)
    found = watch.read()
    expected = {parts.VIEWS, parts.FUSED, parts.LOSSES, parts.BACKWARD, parts.OPTIMIZER, parts.EMA, parts.DRAWS}
    assert set(found) == expected
    assert all(seconds > 0 for seconds in found.values())
    assert torch.isfinite(loss)
    assert vars(unimatch_v2)["predict_logits"] is predict_logits
    assert (passes.logits_of, workload.stepper.forward) == before
    assert "label" not in vars(workload.method)


def test_it_is_the_step_of_training() -> None:
    timed, plain = made(), made()
    step = CurrentClassStep(timed, Watch(timed.device))
    for number in range(2):
        loss = step(timed.numbers(number), number)
        views = plain.maker(plain.numbers(number), number, plain.device)
        assert loss == plain.stepper(*views, number)["loss"]
    for a, b in zip(timed.method.parameters(), plain.method.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.long
def test_the_wide_network_compiles_with_the_method_as_one_graph() -> None:
    plain, compiled = made("unimatch_v2"), made("unimatch_v2")
    compiled.stepper.forward = torch.compile(compiled.method, fullgraph=True, backend="aot_eager")
    for step in range(2):
        losses = [w.stepper(*w.maker(w.numbers(step), step, w.device), step)["loss"] for w in (plain, compiled)]
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("pil", [True, False], ids=["reference", "contiguous"])
def test_pil_works_beside_the_step(pil: bool) -> None:
    workload = made()
    watch = Watch(workload.device)
    ClassReferenceStep(workload, watch, pil=pil)(workload.numbers(0), 0)
    found = watch.read()
    assert (parts.LOADER in found) == pil
    assert found[parts.VIEWS] > 0


def test_a_precision_of_its_own() -> None:
    workload, seen = made(above={"train": {"precision": "bf16"}}), []
    for precision in ("fp32", "bf16"):
        form = ClassReferenceStep(workload, Watch(workload.device), precision, pil=True)
        form.student.classifier.register_forward_hook(lambda *given: seen.append(given[2].dtype))
        form(workload.numbers(0), 0)
    assert seen == [torch.float32, torch.bfloat16]


def test_the_shadow_is_the_average() -> None:
    workload = made()
    first, second = (ClassReferenceStep(workload, Watch(workload.device), pil=True) for _ in range(2))
    for parameter in first.student.parameters():
        parameter.data.add_(1.0)
    ShadowAverage(second.teacher)(first.student, 0.75)
    before, after = workload.network.state_dict(), second.teacher.state_dict()
    for name, _ in workload.network.named_parameters():
        torch.testing.assert_close(after[name], before[name] + 0.25)


def test_randaugment_beside_pil() -> None:
    ticks = iter(range(1000))
    config = configure_classes(SMALL)
    speed = measure_augment(config.views.strong, 8, 3, torch.device("cpu"), lambda: float(next(ticks)))  # type: ignore[attr-defined]
    assert (speed.batch, speed.semikit, speed.pil, speed.ratio) == (8, 8.0, 8.0, 1.0)


@pytest.mark.parametrize(
    ("above", "named"),
    [
        ({"method": {"alignment": "ema"}}, "method"),
        ({"optimizer": {"name": "adamw"}}, "optimizer.name"),
        ({"model": {"encoder": "resnet18"}}, "model.encoder"),
        ({"train": {"precision": "fp16"}}, "train.precision fp16"),
    ],
)
def test_what_the_plain_forms_do_not_do_is_refused(above: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=f"changed here: {named}. Leave that out"):
        check_class_reference(configure_classes(above))


def test_other_methods_and_streams_are_refused() -> None:
    with pytest.raises(InputError, match="that of fixmatch or unimatch_v2, not flexmatch"):
        configure_classes({"method": {"name": "flexmatch"}})
    with pytest.raises(InputError, match=r"views\.size=32: the images that are measured live on the device"):
        configure_classes({"views": {"size": 32}})
