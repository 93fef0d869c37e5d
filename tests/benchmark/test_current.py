from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from semikit.benchmark import parts
from semikit.benchmark.current import CurrentStep
from semikit.benchmark.watch import Watch
from semikit.benchmark.workload import Workload, build_workload, made_crops
from semikit.config import Config
from semikit.core import labeling, passes
from semikit.core.consistency import look

Configure = Callable[..., Config]
SHARED = {parts.TEACHER, parts.LOSSES, parts.BACKWARD, parts.OPTIMIZER, parts.EMA, parts.MIXING, parts.DRAWS}


@pytest.mark.parametrize(
    ("forward", "students"),
    [("auto", {parts.LABELED, parts.STRONG}), ("separate", {parts.LABELED, parts.STRONG}), ("fused", {parts.FUSED})],
)
def test_a_step_is_split_into_all_its_parts(small: Configure, forward: str, students: set[str]) -> None:
    workload = build_workload(small({"method": {"forward": forward}}), 4)
    watch = Watch(workload.device)
    labeled, unlabeled = workload.views(made_crops(workload.config, 4, 0), 0)
    loss = CurrentStep(workload, watch)(labeled, unlabeled, 0)
    found = watch.read()
    assert set(found) == SHARED | students
    assert set(found) <= set(parts.ORDER)
    assert all(seconds > 0 for seconds in found.values())
    assert torch.isfinite(loss)


def test_the_product_is_itself_again_after_a_step(workload: Workload) -> None:
    before = (passes.logits_of, workload.stepper.forward)
    labeled, unlabeled = workload.views(made_crops(workload.config, 4, 0), 0)
    CurrentStep(workload, Watch(workload.device))(labeled, unlabeled, 0)
    assert vars(labeling)["look"] is look
    assert (passes.logits_of, workload.stepper.forward) == before
    assert "label" not in vars(workload.method)
    assert "_update" not in vars(workload.stepper)


def test_it_is_the_step_of_training(small: Configure) -> None:
    timed, plain = (build_workload(small({"views": {"mix": {"probability": 0.0}}}), 4) for _ in range(2))
    step = CurrentStep(timed, Watch(timed.device))
    for number in range(2):
        labeled, unlabeled = plain.views(made_crops(plain.config, 4, number), number)
        assert step(labeled, unlabeled, number) == plain.stepper(labeled, unlabeled, number)["loss"]
    for a, b in zip(timed.method.parameters(), plain.method.parameters(), strict=True):
        assert torch.equal(a, b)
