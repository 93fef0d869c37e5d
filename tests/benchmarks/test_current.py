from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks.step import parts
from benchmarks.step.current import CurrentStep
from benchmarks.step.watch import Watch
from benchmarks.step.workload import Workload, build_workload, made_crops
from semikit.core import student_views as passes
from semikit.core.mixing import mix_images
from semikit.core.pseudo_labels import predict_logits
from semikit.methods import unimatch_v2
from semikit.run.config import Config
from semikit.tasks import _pixels

Configure = Callable[..., Config]
SHARED = {
    *(parts.VIEWS, parts.TEACHER, parts.LOSSES, parts.BACKWARD, parts.OPTIMIZER, parts.EMA),
    *(parts.MIXING, parts.DRAWS),
}


@pytest.mark.parametrize("task", ["seg", "cd"])
@pytest.mark.parametrize(
    ("forward", "students"),
    [("auto", {parts.FUSED}), ("separate", {parts.LABELED, parts.STRONG}), ("fused", {parts.FUSED})],
)
def test_a_step_is_split_into_all_its_parts(small: Configure, task: str, forward: str, students: set[str]) -> None:
    workload = build_workload(small({"method": {"forward": forward}}, task), 4)
    watch = Watch(workload.device)
    loss = CurrentStep(workload, watch)(made_crops(workload.config, 4, 0), 0)
    found = watch.read()
    assert set(found) == SHARED | students
    assert set(found) <= set(parts.ORDER)
    assert all(seconds > 0 for seconds in found.values())
    assert torch.isfinite(loss)


def test_the_product_is_itself_again_after_a_step(workload: Workload) -> None:
    before = (passes.logits_of, workload.stepper.forward)
    CurrentStep(workload, Watch(workload.device))(made_crops(workload.config, 4, 0), 0)
    assert vars(unimatch_v2)["predict_logits"] is predict_logits
    assert vars(_pixels)["mix_images"] is mix_images
    assert (passes.logits_of, workload.stepper.forward) == before
    assert "label" not in vars(workload.method)
    assert "_update" not in vars(workload.stepper)


@pytest.mark.parametrize("task", ["seg", "cd"])
def test_it_is_the_step_of_training(small: Configure, task: str) -> None:
    timed, plain = (build_workload(small(task=task), 4) for _ in range(2))
    step = CurrentStep(timed, Watch(timed.device))
    for number in range(2):
        raw = made_crops(plain.config, 4, number)
        assert step(raw, number) == plain.stepper(*plain.maker(raw, number, plain.device), number)["loss"]
    for a, b in zip(timed.method.parameters(), plain.method.parameters(), strict=True):
        assert torch.equal(a, b)
