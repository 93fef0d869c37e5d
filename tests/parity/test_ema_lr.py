"""EMA decay, averaged parameters and buffers, and learning rates against stored values of LiheYoung/UniMatch-V2
(f6afb4d), unimatch_v2.py (`a5_ema_lr.json`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from semikit.core.ema import ema_decay, update
from semikit.core.schedules import learning_rate
from semikit.training.settings import OptimizerSettings

STORED = json.loads((Path(__file__).parent / "data" / "a5_ema_lr.json").read_text())


class Scalars(nn.Module):
    def __init__(self, parameter: float, buffer: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(parameter))
        self.register_buffer("b", torch.tensor(buffer))
        self.register_buffer("n", torch.tensor(0))


def test_decay() -> None:
    decays = [ema_decay(step, 0.996) for step in range(len(STORED["ema_gamma_iters_0_to_1000"]))]
    assert decays == pytest.approx(STORED["ema_gamma_iters_0_to_1000"], abs=1e-15)
    assert decays.index(0.996) == STORED["first_iter_at_cap"]


def test_eight_updates_of_a_scalar_model() -> None:
    start, rows = STORED["start"], STORED["scalar_model"]
    student = Scalars(start["student_p"], start["student_b"])
    teacher = Scalars(start["teacher_p"], start["teacher_b"])
    for step, gamma in enumerate(rows["gamma"]):
        with torch.no_grad():
            student.p.mul_(1.5).add_(0.25)
            student.b.mul_(1.2).sub_(1)
            student.n.add_(1)
        update(teacher, student, ema_decay(step, 0.996), torch.ones(()))
        assert ema_decay(step, 0.996) == gamma
        assert student.p.item() == pytest.approx(rows["student_p"][step])
        assert teacher.p.item() == pytest.approx(rows["teacher_p"][step], rel=1e-6)
        assert teacher.b.item() == pytest.approx(rows["teacher_b"][step], rel=1e-6)
        assert int(teacher.n) == rows["student_n"][step]  # copied; the reference truncates an average here


def test_learning_rates_lag_one_step() -> None:
    stored = STORED["lr"]
    settings = OptimizerSettings(schedule="poly", power=0.9)
    for step, encoder, head in stored["rows_[iter, backbone_lr, head_lr]"]:
        # the stored rate is set after iteration `step`, for the next one
        assert learning_rate(stored["lr"], step + 1, stored["total_iters"], settings) == pytest.approx(
            encoder, rel=1e-9
        )
        base = stored["lr"] * stored["lr_multi"]
        assert learning_rate(base, step + 1, stored["total_iters"], settings) == pytest.approx(head, rel=1e-9)
