from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from semikit.core.batch import Labeled, Unlabeled
from semikit.core.method import Method
from semikit.registry import METHODS
from semikit.training.device import autocast, grad_scaler
from semikit.training.optimizer import build_optimizer
from semikit.training.settings import OptimizerSettings
from semikit.training.step import Stepper
from tests.helpers import tiny
from tests.helpers.equality import differences
from tests.helpers.sync_counter import SyncCounter

CPU = torch.device("cpu")


class Rig:
    """A stepper on the tiny network, with one batch."""

    def __init__(
        self, method: str = "unimatch_v2", accumulate: int = 1, precision: str = "fp32", **options: Any
    ) -> None:
        cls: type[Method] = METHODS.get(method)
        threshold = {"threshold": 0.5} if "threshold" in cls.Config.model_fields else {}
        config, run_info = cls.Config(**threshold, **options.pop("config", {})), tiny.run_info()
        requirements, self.needs_full_batch = cls.requirements(config), cls.needs_full_batch(config)
        made = {"batch_norm": options.pop("batch_norm", False), "pixels": not requirements.whole_images}
        network, *peers = tiny.networks(requirements, **made)
        self.method = cls(network, config, run_info, *peers).train()
        settings = OptimizerSettings(lr=0.01, encoder_lr=0.01, **options)
        self.optimizer = build_optimizer(self.method.student, settings, self.method.extra_parameters(), peers)
        forward = autocast(CPU, precision)
        scaler = grad_scaler(CPU, precision)
        self.stepper = Stepper(self.method, self.method, self.optimizer, forward, accumulate, scaler)
        self.labeled, self.unlabeled = tiny.batch(run_info, requirements, pixels=not requirements.whole_images)

    def step(self, number: int = 0) -> dict[str, torch.Tensor]:
        return self.stepper(self.labeled, self.unlabeled, number)

    def break_batch(self) -> tuple[Labeled, Unlabeled | None]:
        """The batch with a labelled pixel that is not a number."""
        images = self.labeled.images.clone()
        images[0, 0, 3, 3] = torch.nan
        return replace(self.labeled, images=images), self.unlabeled

    def state(self) -> dict[str, Any]:
        copied = torch.utils._pytree.tree_map(
            lambda x: x.clone() if isinstance(x, torch.Tensor) else x,
            {"method": dict(self.method.state_dict()), "optimizer": self.optimizer.state_dict()},
        )
        return dict(copied)


@pytest.mark.parametrize("method", ["supervised", "fixmatch", "unimatch_v2"])
@pytest.mark.parametrize("parts", [2, 4])
def test_micro_batches_give_the_gradients_of_the_whole_batch(method: str, parts: int) -> None:
    whole, cut = Rig(method), Rig(method, accumulate=parts)
    logs, logs_cut = whole.step(3), cut.step(3)
    for a, b in zip(whole.method.student.parameters(), cut.method.student.parameters(), strict=True):
        assert a.grad is not None
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(logs_cut, logs, rtol=1e-5, atol=1e-7)


def test_a_step_moves_student_and_teacher() -> None:
    rig = Rig()
    before = {key: value for key, value in rig.state()["method"].items() if key.startswith(("student.", "teacher."))}
    logs = rig.step()
    assert {"loss", "loss_x", "loss_u", "confident"} <= logs.keys()
    assert not any(torch.equal(value, rig.method.state_dict()[key]) for key, value in before.items())
    assert int(rig.stepper.skipped) == 0
    assert int(rig.stepper.first_skipped) == -1


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("taken", [0, 2])
def test_a_step_that_is_not_finite_leaves_everything(name: str, method: str, taken: int) -> None:
    rig = Rig(method, name=name, batch_norm=True)
    for number in range(taken):
        rig.step(number)
    before = rig.state()
    logs = rig.stepper(*rig.break_batch(), taken)
    assert not torch.isfinite(logs["loss"])
    after = rig.state()
    assert not differences(before["method"], after["method"]), "student, teacher, or a buffer of batch norm"
    for number, values in before["optimizer"]["state"].items():
        assert not differences(values, {key: after["optimizer"]["state"][number][key] for key in values})
    assert int(rig.stepper.skipped) == 1
    assert int(rig.stepper.first_skipped) == taken


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_skipped_step_changes_nothing_that_follows(name: str) -> None:
    clean, other = Rig(name=name, batch_norm=True), Rig(name=name, batch_norm=True)
    other.stepper(*other.break_batch(), 5)
    for number in range(3):
        clean.step(number)
        other.step(number)
    assert not differences(clean.state(), other.state())


def test_a_loss_that_is_finite_with_a_gradient_that_is_not() -> None:
    rig = Rig()
    parameter = next(iter(rig.method.student.parameters()))
    parameter.register_hook(lambda gradient: gradient * torch.inf)
    before = parameter.detach().clone()
    assert torch.isfinite(rig.step()["loss"])
    assert torch.equal(parameter, before)
    assert int(rig.stepper.skipped) == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("alignment", ["queue", "ema"])
def test_what_is_remembered_stays_finite_where_loss_and_gradient_are(alignment: str, precision: str) -> None:
    """A weak view that is not a number is masked by its threshold, but not in the averages alignment keeps."""
    rig = Rig("fixmatch", precision=precision, config={"alignment": alignment})
    rig.step(0)
    before = rig.state()
    assert rig.unlabeled is not None
    weak = rig.unlabeled.weak.clone()
    weak[0, 0, 3, 3] = torch.nan
    logs = rig.stepper(rig.labeled, replace(rig.unlabeled, weak=weak), 1)
    assert torch.isfinite(logs["loss"])
    assert not differences(before["method"], rig.state()["method"])
    assert int(rig.stepper.skipped) == 1
    assert torch.isfinite(rig.step(2)["confident"])


def test_skipped_steps_are_counted_and_the_first_is_remembered() -> None:
    rig = Rig()
    rig.step(0)
    for number in (1, 2):
        rig.stepper(*rig.break_batch(), number)
    rig.step(3)
    assert int(rig.stepper.skipped) == 2
    assert int(rig.stepper.first_skipped) == 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_weights_of_full_precision(precision: str) -> None:
    rig = Rig(precision=precision)
    before = rig.state()["method"]["student.first.weight"]
    for number in range(3):
        logs = rig.step(number)
    assert torch.isfinite(logs["loss"])
    weight = rig.method.student.state_dict()["first.weight"]
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, before)


def test_an_overflow_of_scaled_gradients_is_no_fault() -> None:
    rig = Rig(precision="fp16")
    rig.stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    before = rig.state()["method"]
    rig.step(0)
    assert int(rig.stepper.skipped) == 0
    assert rig.stepper.scaler.get_scale() < 2.0**127
    assert torch.equal(rig.method.state_dict()["student.first.weight"], before["student.first.weight"])
    assert torch.equal(rig.method.state_dict()["teacher.first.weight"], before["teacher.first.weight"])


def test_overflows_without_end_are_a_fault() -> None:
    rig = Rig(precision="fp16")
    with torch.no_grad():
        rig.method.student.first.weight.register_hook(lambda gradient: gradient * torch.nan)
    for step in range(42):
        rig.step(step)
    assert int(rig.stepper.skipped) == 2
    assert int(rig.stepper.first_skipped) == 40


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("method", METHODS.names())
def test_no_step_waits_for_the_device(method: str, accumulate: int, name: str) -> None:
    rig = Rig(method, accumulate=accumulate, name=name, batch_norm=True)
    if rig.needs_full_batch and accumulate > 1:
        pytest.skip("its batch is never cut")
    with SyncCounter() as counter:
        rig.step(0)
        rig.step(1)
    assert counter.total > 100
    assert not counter.found


def test_the_forward_given_is_the_one_that_is_called() -> None:
    rig = Rig()
    calls = []
    forward = rig.stepper.forward
    rig.stepper.forward = lambda *args: (calls.append(1), forward(*args))[1]
    rig.stepper.autocast = nullcontext
    rig.step()
    assert calls == [1]
