"""CPS: two students that began otherwise, of which the first is evaluated and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from semikit.methods.cps import CPS
from semikit.run import build
from semikit.run.config import resolve
from semikit.run.facts import facts_of
from semikit.run.load import load_network
from semikit.training.checkpoint import LAST, read_checkpoint
from semikit.training.reporter import Reporter
from tests.helpers import pairs, photos, tiny
from tests.helpers.equality import differences
from tests.helpers.processes import Server
from tests.training.test_acting_runs import train


def test_each_student_learns_what_the_other_says() -> None:
    method: Any = tiny.method("cps")
    labeled, unlabeled = tiny.batch(method.run_info, CPS.requirements(method.config))
    pseudo = method.train().pseudo_labels(unlabeled, 0)
    said = [student(unlabeled.weak).argmax(1) for student in method.students]
    assert not torch.equal(*said)
    for target, other in zip(pseudo.views, reversed(said), strict=True):
        outside = ~unlabeled.boxes[0] & target.valid
        assert torch.equal(target.labels[outside], other[outside])
        assert target.weights[target.valid].all(), "no threshold"
    method(labeled, unlabeled, pseudo).loss.backward()
    for student in method.students:
        assert all(p.grad is not None and p.grad.any() for p in student.parameters())


@pytest.mark.long
def test_both_students_are_trained_and_saved_and_a_run_goes_on_alike(photo_data: Path, tmp_path: Path) -> None:
    raw = photos.raw(photo_data, "cps", train={"iterations": 4, "eval_every": 2})
    run, _ = train(raw, tmp_path / "whole")
    train(raw, tmp_path / "parts", stop=3)
    train(raw, tmp_path / "parts", resume=True)
    whole, parts = (read_checkpoint(tmp_path / name / "weights" / LAST) for name in ("whole", "parts"))
    for key in ("method", "optimizer"):
        assert not differences(whole[key], parts[key]), key
    new: Any = build.build_run(resolve(raw), tmp_path / "new", Reporter()).trainer.method
    for place, prefix in enumerate(("student.", "peers.0.")):
        before = {f"{prefix}{name}": value for name, value in new.students[place].state_dict().items()}
        assert before.keys() <= whole["method"].keys()
        assert any(not torch.equal(value, whole["method"][name]) for name, value in before.items())
    assert any(not torch.equal(*pair) for pair in zip(*(one.parameters() for one in new.students), strict=True))
    kept, _ = load_network(tmp_path / "whole" / "weights" / "best.safetensors")
    assert kept.state_dict().keys() == run.trainer.method.student.state_dict().keys()
    assert "2 networks are trained" in facts_of(run, 1)["method"]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shard", ["train.shard=false", "train.shard=true"])
def test_two_processes_learn_what_one_does(photo_data: Path, tmp_path: Path, server: Server, shard: str) -> None:
    sgd = ("optimizer.name=sgd", "optimizer.lr=0.01", "optimizer.encoder_lr=0.01", "train.group=2")
    asked = ["train", "seg", "--data", photo_data, *photos.FLAGS, "--labels", "4", "--method", "cps", "--batch", "4"]
    asked += ["--iterations", "3", "--eval-every", "3", *sgd]
    for ended in (
        server.run(*asked, "train.accumulate=2", "--out", tmp_path / "one"),
        *server.run_together(2, *asked, shard, "--out", tmp_path / "two"),
    ):
        assert ended.code == 0, ended.out
    one, two = (read_checkpoint(tmp_path / name / "weights" / LAST)["method"] for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=2e-4, atol=2e-5)


def test_change_is_learned_too(pair_data: Path, tmp_path: Path) -> None:
    run, _ = train(pairs.raw(pair_data, "cps", train={"iterations": 1, "eval_every": 1}), tmp_path / "run")
    assert run.trainer.step == 1
