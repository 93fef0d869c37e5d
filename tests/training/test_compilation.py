"""What `train.compile` compiles: once, in the first step. Traced only: translation takes minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from semikit.core.task import Scores
from semikit.errors import ConfigError
from semikit.run import build
from semikit.run.config import resolve
from semikit.settings.messages import validate
from semikit.tasks import _class_views, _pixels
from semikit.training import compilation
from semikit.training.compilation import compiled, steps_apart
from semikit.training.reporter import Reporter
from semikit.training.settings import Compile, TrainSettings
from tests.helpers import icons, pairs, photos

VIT = {"encoder": "test_vit", "encoder_args": photos.ENCODER_ARGS, "weights": "none"}
PARTS = {"method": {"forward": "separate", "ramp": 0.5}, "train": {"accumulate": 2}}
CASES: dict[str, tuple[Any, str, dict[str, dict[str, Any]]]] = {
    "seg": (photos, "unimatch_v2", {"method": {"forward": "fused"}}),
    "seg-parts": (photos, "unimatch_v2", PARTS),
    "cd": (pairs, "fixmatch", {"method": {"forward": "fused"}}),
    "cls": (icons, "freematch", {"method": {"forward": "fused"}, "model": VIT}),
    "cls-joint": (icons, "unimatch_v2", {"method": {"forward": "joint", "teacher": "student"}}),
}
SHORT = ("cls",)


class Watch(Reporter):
    """How many frames were compiled until each evaluation."""

    def __init__(self, counter: CompileCounter) -> None:
        self.counter, self.frames, self.notices = counter, list[int](), list[str]()

    def evaluation(self, iteration: int, scores: Mapping[str, Scores], best: Mapping[str, Any]) -> None:
        self.frames.append(self.counter.frame_count)

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounter]:
    torch._dynamo.reset()
    made = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=made))
    yield made
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in CASES]
)
def test_nothing_is_compiled_after_the_first_step(name: str, tmp_path: Path, counter: CompileCounter) -> None:
    module, method, changes = CASES[name]
    raw = module.raw(module.write(tmp_path), method)
    raw["train"] |= {"compile": "default", "iterations": 6, "eval_every": 2, "epochs": None, "log_every": 1}
    for section, values in changes.items():
        raw[section] = {**raw[section], **values}
    watch = Watch(counter)
    run = build.build_run(resolve(raw), tmp_path / "run", watch)
    run.folder.mkdir()
    maker: Any = run.task.maker  # type: ignore[attr-defined]
    if raw["task"] == "cls":  # on a CPU they are not compiled by themselves
        maker.view = compiled(_class_views.view, "default")
    else:
        maker.strong = compiled(_pixels.strong, "default")
    run.trainer.fit(None)
    joint = name == "cls-joint"
    assert watch.frames == [watch.frames[0]] * 3
    views = 2 if raw["task"] == "cls" else 1  # weak and strong ones
    assert watch.frames[0] == views + (not joint) + 1
    told = [notice for notice in watch.notices if "torch.compile" in notice]
    assert len(told) == 1
    assert told[0].startswith("the first step took ")


@pytest.mark.parametrize(("module", "part"), [(photos, _pixels.strong), (icons, _class_views.view)])
def test_views_are_compiled_where_they_are_asked_to_be(
    module: Any, part: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, str]] = []
    monkeypatch.setattr(torch, "compile", lambda function, mode, dynamic: asked.append((function, mode)))
    config = resolve(module.raw(module.write(tmp_path)))
    for compile_views in (False, True):
        task = build.build_task(config)
        task.compile_views = compile_views
        task.network(config.model)
        assert asked == [(part, "default")] * compile_views


def test_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: (function, options))
    assert compiled(len, "off") is len
    assert compiled(len, "default") == (len, {"mode": "default", "dynamic": False})
    assert compiled(len, "reduce-overhead") == (len, {"mode": "reduce-overhead", "dynamic": False})


def test_graphs_know_where_a_step_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    marks: list[str] = []
    monkeypatch.setattr(compilation.torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append("step"))
    for mode in get_args(Compile):
        with steps_apart(lambda: pytest.MonkeyPatch.context(), mode)():
            pass
    assert marks == ["step", "step"]


@pytest.mark.parametrize(("given", "expected"), [(True, "default"), (False, "off"), ("max-autotune", "max-autotune")])
def test_switches_of_before(given: object, expected: str) -> None:
    train = validate(TrainSettings, {"iterations": 1, "compile": given}, "train")
    assert (train.compile, train.compiled) == (expected, expected != "off")


def test_unknown_modes() -> None:
    with pytest.raises(ConfigError, match=r"expected one of 'off', 'default', 'reduce-overhead', 'max-autotune'"):
        validate(TrainSettings, {"iterations": 1, "compile": "fast"}, "train")
