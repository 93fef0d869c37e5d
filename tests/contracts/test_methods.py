"""What every method promises, checked on every method that can be named, for pixels and for whole images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from semikit.core import channel_dropout
from semikit.core.batch import Labeled, Requirements, RunInfo, Unlabeled, take
from semikit.core.losses import LABELED, PREDICTED, denominators
from semikit.core.method import Method
from semikit.registry import METHODS
from tests.helpers import tiny
from tests.helpers.sync_counter import SyncCounter

NAMES = METHODS.names()
METHODS_PAGE = (Path(__file__).parents[2] / "docs/methods.md").read_text(encoding="utf-8")
SMALL = {"threshold": 0.6, "regions": 4, "queries": 8, "negatives": 4, "bank": 16, "width": 8}
"""What a tiny batch is learned with."""
COMPILED = ("cps", "freematch", "simmatch", "unimatch_v1", "unimatch_v2")
"""Methods that are compiled in `make test`; the others in `make faults`, for some take many seconds."""


@dataclass
class Made:
    """A method with a batch for it."""

    method: Method
    run_info: RunInfo
    requirements: Requirements
    needs_full_batch: bool
    labeled: Labeled
    unlabeled: Unlabeled | None

    def step(self, step: int = 0) -> Any:
        return self.method(self.labeled, self.unlabeled, self.method.pseudo_labels(self.unlabeled, step))


Make = Callable[..., Made]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(name: str) -> Make:
    def make(
        settings: dict[str, Any] | None = None,
        classes: int = 3,
        pixels: bool | None = None,
        all_invalid: bool = False,
        **run_info: Any,
    ) -> Made:
        cls: type[Method] = METHODS.get(name)
        small = {key: value for key, value in SMALL.items() if key in cls.Config.model_fields}
        if "ohem" in (settings or {}) and cls.Config.model_fields["ohem"].annotation is type(None):
            pytest.skip("does not look for hard examples")
        config = cls.Config(**(small | (settings or {})))
        known, requirements = tiny.run_info(classes, **run_info), cls.requirements(config)
        if (pixels and requirements.whole_images) or (pixels is False and requirements.pixels):
            pytest.skip("learns classes of whole images only, or of pixels only")
        pixels = not requirements.whole_images if pixels is None else pixels
        network, *peers = tiny.networks(requirements, num_classes=classes, pixels=pixels)
        method = cls(network, config, known, *peers)
        labeled, unlabeled = tiny.batch(known, requirements, pixels=pixels, all_invalid=all_invalid)
        return Made(method.train(), known, requirements, cls.needs_full_batch(config), labeled, unlabeled)

    return make


def gradients(module: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]


@pytest.mark.parametrize("pixels", [True, False], ids=["pixels", "images"])
@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_the_loss_is_finite_and_reaches_the_student_only(make: Make, classes: int, pixels: bool) -> None:
    made = make(classes=classes, pixels=pixels)
    result = made.step()
    assert result.loss.shape == ()
    assert torch.isfinite(result.loss)
    assert result.loss > 0
    result.loss.backward()
    assert all(gradient is not None and gradient.any() for gradient in gradients(made.method.student))
    assert all(gradient is None for gradient in gradients(made.method.teacher))


def test_logs_are_detached_numbers(make: Make) -> None:
    made = make()
    result = made.step()
    assert {"loss", "loss_x"} <= result.logs.keys()
    for name, value in result.logs.items():
        assert value.shape == ((3,) if name in (LABELED, PREDICTED) else ())
        assert not value.requires_grad
    assert made.unlabeled is None or {LABELED, PREDICTED} <= result.logs.keys()
    assert result.logs["loss"] == result.loss.detach()


@pytest.mark.parametrize("pixels", [True, False], ids=["pixels", "images"])
@pytest.mark.parametrize("normalise", ["total", "process"])
def test_a_batch_without_a_valid_position_has_loss_and_gradient_0(make: Make, normalise: str, pixels: bool) -> None:
    made = make(all_invalid=True, normalise=normalise, pixels=pixels)
    result = made.step()
    result.loss.backward()
    assert result.loss.item() == 0
    assert not any(value.any() for value in result.logs.values())
    assert all(gradient is None or not gradient.any() for gradient in gradients(made.method.student))


@pytest.mark.parametrize("normalise", ["total", "process"])
def test_micro_batches_add_up(make: Make, normalise: str) -> None:
    known = type(make().method.config).model_fields
    made = make({"debias": 0.5} if normalise == "process" and "debias" in known else {}, normalise=normalise)
    if made.needs_full_batch:
        pytest.skip("its pseudo-labels come out of the whole batch's pass")
    pseudo = made.method.pseudo_labels(made.unlabeled, 5)
    whole = made.method(made.labeled, made.unlabeled, pseudo)
    whole.loss.backward()
    expected = gradients(made.method.student)
    made.method.zero_grad()
    parts = [slice(0, 1), slice(1, 4)]
    results = [made.method(*(take(item, part) for item in (made.labeled, made.unlabeled, pseudo))) for part in parts]
    for result in results:
        result.loss.backward()
    for key, value in whole.logs.items():
        torch.testing.assert_close(sum(result.logs[key] for result in results), value)
    torch.testing.assert_close(gradients(made.method.student), expected)


def test_ohem_adds_up_over_micro_batches_of_whole_groups(make: Make) -> None:
    made = make({"ohem": {"threshold": 0.3, "min_kept": 20}})
    if made.needs_full_batch:
        pytest.skip("its pseudo-labels come out of the whole batch's pass")
    pseudo = made.method.pseudo_labels(made.unlabeled, 0)
    items = (made.labeled, made.unlabeled, pseudo)
    parts = [made.method(*(take(item, part) for item in items)) for part in (slice(0, 2), slice(2, 4))]
    whole = made.method(*items)
    torch.testing.assert_close(sum(part.loss for part in parts), whole.loss)
    plain = make()
    assert plain.step().logs["loss_x"] < whole.logs["loss_x"], "hard positions have the larger loss"


@pytest.mark.parametrize("ramp", [True, False])
def test_the_teacher_follows_the_student(make: Make, ramp: bool) -> None:
    made = make({"ema_decay": 0.75, "ema_ramp": ramp})
    method, one = made.method, torch.ones(())
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(1)
    method.after_step(0, torch.zeros(()))
    assert all(torch.equal(p, old) for p, old in zip(method.teacher.parameters(), before, strict=True))
    method.after_step(0, one)
    moved = 1.0 if ramp else 0.25
    for parameter, old in zip(method.teacher.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, old + moved)
    assert not any(parameter.requires_grad for parameter in method.teacher.parameters())


def test_the_teacher_stays_in_eval_mode(make: Make) -> None:
    method = make().method
    method.train()
    assert method.student.training
    assert not any(module.training for module in method.teacher.modules())
    method.eval()
    assert not method.student.training


def test_labelling_leaves_the_students_mode_and_weights_alone(make: Make) -> None:
    made = make()
    modes = [module.training for module in made.method.modules()]
    before = {key: value.clone() for key, value in made.method.student.state_dict().items()}
    made.method.pseudo_labels(made.unlabeled, 0)
    assert [module.training for module in made.method.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in made.method.student.state_dict().items())


def test_draws_depend_on_the_step_alone(make: Make) -> None:
    made = make()
    first, again, other = (made.method.pseudo_labels(made.unlabeled, step) for step in (4, 4, 5))
    drawn, the_same, others = ([] if one is None else [*chain(*one.masks), *one.draws] for one in (first, again, other))
    if not drawn:
        pytest.skip("draws nothing")
    torch.testing.assert_close(drawn, the_same, rtol=0, atol=0)
    assert any(not torch.equal(a, b) for a, b in zip(drawn, others, strict=True))


def test_sharing_the_step_between_processes_changes_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make()
    if made.needs_full_batch or made.unlabeled is None:
        pytest.skip("has nothing to share")
    whole = made.method.pseudo_labels(made.unlabeled, 2)
    monkeypatch.setattr(channel_dropout, "over_all_processes", lambda own: 2 * own)
    shares = []
    for rank in (0, 1):
        part = slice(2 * rank, 2 * rank + 2)
        share = replace(take(made.unlabeled, part), partner=made.unlabeled.partner[part] - 2 * rank)
        shares.append(made.method.pseudo_labels(share, 2))
    for rank, share in enumerate(shares):
        expected = take(whole, slice(2 * rank, 2 * rank + 2))
        torch.testing.assert_close((share.masks, share.draws), (expected.masks, expected.draws), rtol=0, atol=0)
        for view, target in zip(share.views, expected.views, strict=True):
            assert torch.equal(view.labels, target.labels)
            assert torch.equal(view.valid, target.valid)


def test_state_round_trip(make: Make) -> None:
    made = make()
    result = made.step()
    result.loss.backward()
    with torch.no_grad():
        for parameter in made.method.student.parameters():
            parameter.sub_(0.1 * parameter.grad)
    made.method.after_step(0, torch.ones(()))
    made.method.after_step(1, torch.ones(()))
    other = make()
    missing = other.method.load_state_dict(made.method.state_dict())
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    assert other.step(7).loss.item() == made.step(7).loss.item()


@pytest.mark.parametrize("settings", [{}, {"ohem": {"threshold": 0.7, "min_kept": 30}}], ids=["plain", "ohem"])
@pytest.mark.parametrize("normalise", ["total", "process"])
@pytest.mark.parametrize("more", [False, True])
def test_no_step_waits_for_the_device(make: Make, settings: dict[str, Any], normalise: str, more: bool) -> None:
    known = type(make().method.config).model_fields
    extra = {"class_balance": 0.5, "ramp": 0.5} if more and "threshold" in known else {}
    extra |= {"class_quantile": 0.8} if more and "class_quantile" in known else {}
    extra |= {"debias": 0.4} if more and "debias" in known else {}
    made = make({**settings, **extra}, normalise=normalise)
    with SyncCounter() as counter:
        denominators(made.labeled.valid, made.run_info.group, made.run_info.normalise)
        result = made.step(3)
        result.loss.backward()
        made.method.after_step(3, torch.isfinite(result.loss.detach()).float())
    assert counter.total > 50
    assert not counter.found


def test_the_balance_of_classes_counts_in_the_loss(make: Make) -> None:
    known = type(make().method.config).model_fields
    if "class_balance" not in known:
        pytest.skip("has no unlabelled loss")
    settings = {"ramp": 0.0} | ({"threshold": 0.0} if "threshold" in known else {})
    plain, balanced = make(settings), make({**settings, "class_balance": 1.0})
    parts: Any = balanced.method
    parts.rule.balance.share.copy_(torch.tensor([0.8, 0.1, 0.1]))
    before, after = (made.step(5).logs["loss_u"].item() for made in (plain, balanced))
    assert before > 0
    assert after != pytest.approx(before, rel=1e-3)


@pytest.mark.parametrize(
    "name", [name if name in COMPILED else pytest.param(name, marks=pytest.mark.long) for name in NAMES], indirect=True
)
def test_a_compiled_step_is_one_graph_and_the_same_step(make: Make, name: str) -> None:
    """Traced, but not translated to machine code."""
    pixels = METHODS.get(name).requirements(METHODS.get(name).Config()).pixels
    plain, traced = make(pixels=pixels), make(pixels=pixels)
    compiled = torch.compile(traced.method, backend="eager", fullgraph=True)
    for number in range(3):
        expected = plain.step(number)
        result = compiled(traced.labeled, traced.unlabeled, traced.method.pseudo_labels(traced.unlabeled, number))
        assert torch.equal(result.loss, expected.loss)
        result.loss.backward()
    state = traced.method.state_dict()
    for key, value in plain.method.state_dict().items():
        assert torch.equal(state[key], value), key


def test_unlabeled_images_are_not_asked_for_in_vain(make: Make) -> None:
    made = make()
    if not made.requirements.unlabeled:
        assert made.requirements.strong_views == 0
        assert not made.requirements.partner_batch
        assert made.method.pseudo_labels(None, 0) is None


def test_method_and_settings_say_what_they_are(name: str) -> None:
    source = METHODS.get(name).Config
    assert METHODS.summary(name).endswith("."), "the first line of the module is shown by `semikit list methods`"
    assert source.__doc__
    facts, needs = METHODS.facts(name), METHODS.get(name).requirements(source())
    assert facts["Tasks"] == ("cls" if needs.whole_images else "seg, cd" if needs.pixels else "seg, cd, cls")
    assert facts["For"], "when it helps"
    assert facts["Cost"], "a step beside FixMatch's, by benchmarks/methods.py"
    assert name == "supervised" or f"{facts['Paper']}]" in METHODS_PAGE or facts["Paper"].startswith("ICML")
