"""The teacher's average: parameters, buffers, skipped steps, both ways of computing it."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from semikit.core import ema
from semikit.core.ema import ema_decay, update


class Small(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.a = nn.Parameter(torch.randn(3, 4, generator=generator))
        self.b = nn.Parameter(torch.randn(5, generator=generator).double())
        self.register_buffer("mean", torch.randn(2, generator=generator))
        self.register_buffer("count", torch.tensor(seed))


def state(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.996])
def test_between_its_ends(decay: float) -> None:
    teacher, student = Small(1), Small(2)
    before, aim = state(teacher), state(student)
    update(teacher, student, decay, torch.ones(()))
    for key in ("a", "b", "mean"):
        torch.testing.assert_close(state(teacher)[key], decay * before[key] + (1 - decay) * aim[key])
    assert teacher.count == 2
    assert all(torch.equal(value, aim[key]) for key, value in state(student).items()), "the student is only read"


def test_the_first_step_copies_exactly() -> None:
    teacher, student = Small(1), Small(2)
    update(teacher, student, ema_decay(0, 0.996), torch.ones(()))
    assert all(torch.equal(value, student.state_dict()[key]) for key, value in teacher.state_dict().items())


def test_a_skipped_step_leaves_the_teacher_untouched() -> None:
    teacher, student = Small(1), Small(2)
    before = state(teacher)
    student.mean.fill_(float("nan"))
    for decay in (0.0, 0.996):
        update(teacher, student, decay, torch.zeros(()))
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


@pytest.mark.parametrize("weight", [0.004, 1.0, 0.0])
def test_the_way_of_a_device_gives_the_same(weight: float) -> None:
    student, found = [torch.randn(6, 4), torch.randn(3)], []
    before = [torch.randn(6, 4), torch.randn(3)]
    for way in (ema._average, ema._descend):
        teacher = [tensor.clone() for tensor in before]
        way(teacher, student, torch.tensor(weight))
        found.append(teacher)
    torch.testing.assert_close(*found)
    assert weight or all(map(torch.equal, found[1], before))


def test_frozen_parameters_are_left_out() -> None:
    student = Small(2)
    student.a.requires_grad_(False)
    teacher = deepcopy(student)
    pointer, version = teacher.a.data_ptr(), teacher.a._version
    update(teacher, student, 0.5, torch.ones(()))
    assert (teacher.a.data_ptr(), teacher.a._version) == (pointer, version)
    assert teacher.b._version > 0


def test_a_student_that_is_its_own_teacher_stays_as_it_is() -> None:
    student = Small(2)
    before = state(student)
    update(student, student, 0.5, torch.ones(()))
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())


def test_without_ramp_the_decay_is_constant() -> None:
    assert [ema_decay(step, 0.9, ramp=False) for step in (0, 1, 50)] == [0.9] * 3
    assert [ema_decay(step, 0.9) for step in (0, 1, 50)] == [0.0, 0.5, 0.9]


def test_a_network_without_parameters() -> None:
    update(nn.Identity(), nn.Identity(), 0.5, torch.ones(()))
