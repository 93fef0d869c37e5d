"""`method.batch_norm: weak`: strong views are learned from, and leave the running statistics alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from semikit.core.method import Method
from semikit.errors import ConfigError
from semikit.registry import METHODS
from tests.helpers import tiny

NAMES = ("fixmatch", "freematch", "softmatch", "mean_teacher", "unimatch_v1", "unimatch_v2")


def method(name: str, statistics: str, **settings: Any) -> Method:
    plugin: Any = METHODS.get(name)
    defaults = {"teacher": "ema"} if name != "unimatch_v1" else {}
    forward = {} if name in ("mean_teacher", "unimatch_v1") else {"forward": "separate"}
    config = plugin.Config(**{**defaults, **forward, "batch_norm": statistics, **settings})
    made: Method = plugin(tiny.network(batch_norm=True), config, tiny.run_info())
    return made.train()


def step(learned: Method, call: Callable[..., Any] | None = None) -> torch.Tensor:
    labeled, unlabeled = tiny.batch(learned.run_info, learned.requirements(learned.config))
    pseudo = learned.pseudo_labels(unlabeled, 0)
    loss: torch.Tensor = (learned if call is None else call)(labeled, unlabeled, pseudo).loss
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("name", NAMES)
def test_the_step_is_the_same_and_statistics_are_those_of_weak_views(name: str) -> None:
    every, weak = method(name, "all"), method(name, "weak")
    assert torch.equal(step(every), step(weak))
    for one, other in zip(every.student.parameters(), weak.student.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert every.student.norm.num_batches_tracked == 2
    assert weak.student.norm.num_batches_tracked == 1
    expected = tiny.network(batch_norm=True)
    labeled, unlabeled = tiny.batch(weak.run_info, weak.requirements(weak.config))
    images = [labeled.images] if name != "unimatch_v1" else [labeled.images, unlabeled.weak]
    expected(torch.cat(images))
    torch.testing.assert_close(weak.student.norm.running_mean, expected.norm.running_mean)
    torch.testing.assert_close(weak.student.norm.running_var, expected.norm.running_var)


def test_a_compiled_step_leaves_them_alone_too() -> None:
    plain, traced = method("unimatch_v2", "weak"), method("unimatch_v2", "weak")
    compiled = torch.compile(traced, backend="eager", fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(step(traced, compiled), step(plain))
    assert traced.student.norm.num_batches_tracked == plain.student.norm.num_batches_tracked == 2
    torch.testing.assert_close(traced.student.norm.running_var, plain.student.norm.running_var)


@pytest.mark.parametrize("name", ["unimatch_v2", "simmatch"])
def test_one_pass_for_all_views_is_refused(name: str) -> None:
    settings = {"forward": "joint", "teacher": "student"} if name != "simmatch" else {"forward": "joint"}
    with pytest.raises(ConfigError, match=r"method\.batch_norm is 'weak'"):
        method(name, "weak", **settings)
