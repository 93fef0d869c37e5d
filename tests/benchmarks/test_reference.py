"""The reference is the same algorithm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.step import parts
from benchmarks.step.current import CurrentStep
from benchmarks.step.host_batch import host_batch
from benchmarks.step.plain_network import plain_form
from benchmarks.step.reference import ReferenceStep, check_reference
from benchmarks.step.watch import Watch
from benchmarks.step.workload import Workload, build_workload, made_crops
from semikit.errors import InputError
from semikit.run.config import Config
from semikit.training.optimizer import build_optimizer
from tests.helpers.sync_counter import SyncCounter

Configure = Callable[..., Config]
STEPS = 4


def test_both_forms_have_the_same_numbers(workload: Workload) -> None:
    watch = Watch(workload.device)
    current, reference = CurrentStep(workload, watch), ReferenceStep(workload, watch)
    shares = []
    for step in range(STEPS):
        raw = made_crops(workload.config, 4, step)
        losses = [form(raw, step) for form in (current, reference)]
        torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=1e-5)
        shares.append(reference.read[-1])
    assert all(0.01 < share < 0.99 for share in shares), f"the threshold has to divide the positions: {shares}"
    for mine, theirs in ((workload.method.student, reference.student), (workload.method.teacher, reference.teacher)):
        weights = zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
        assert all((a - b).abs().max() < 2e-4 for a, b in weights)


def test_groups_have_partners_of_their_own(small: Configure) -> None:
    above = {"train": {"batch": 4, "group": 2}, "method": {"threshold": 0.0}}
    workload = build_workload(small(above), 4)
    watch, raw = Watch(workload.device), made_crops(workload.config, 4, 1)
    losses = [form(raw, 1) for form in (CurrentStep(workload, watch), ReferenceStep(workload, watch))]
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=1e-5)


def test_the_same_gradients(workload: Workload) -> None:
    reference, method = ReferenceStep(workload, Watch(workload.device)), workload.method
    raw = made_crops(workload.config, 4, 0)
    reference(raw, 0)
    labeled, unlabeled = workload.maker(raw, 0, workload.device)
    method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0)).loss.backward()
    for (name, mine), theirs in zip(method.student.named_parameters(), reference.student.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        if mine.grad is not None:
            torch.testing.assert_close(theirs.grad, mine.grad, rtol=1e-3, atol=2e-5, msg=name)


def test_strong_views_are_mixed_alike(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    reference, raw = ReferenceStep(workload, Watch(workload.device)), made_crops(workload.config, 4, 1)
    original = reference._loss
    monkeypatch.setattr(reference, "_loss", lambda batch, *rest: (seen.append(batch), original(batch, *rest))[1])
    reference(raw, 1)
    (batch,) = seen
    _, unlabeled = workload.maker(raw, 1, workload.device)
    assert unlabeled is not None
    assert all(box.any() for box in unlabeled.boxes)
    unmixed = host_batch(workload, raw, 1)
    for view, images in enumerate(batch.strong):
        ours = unlabeled.strong[view]
        dates = [ours] if workload.dates == 1 else ours.unbind(1)
        for date, (theirs, mine) in enumerate(zip(images, dates, strict=True)):
            assert torch.equal(theirs, mine)
            assert not torch.equal(theirs, unmixed.strong[view][date])


def test_its_waits_are_those_of_the_public_code(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """34 and 43 with the dropout's three and, for two dates, a barrier, which one process does not have."""
    reference, raw = ReferenceStep(workload, Watch(workload.device), loader=False), made_crops(workload.config, 4, 0)
    given = host_batch(workload, raw, 0)
    monkeypatch.setattr("benchmarks.step.reference.host_batch", lambda *_: given)
    copies: Counter[str] = Counter()
    original = reference._moved
    monkeypatch.setattr(reference, "_moved", lambda tensor: (copies.update(["copy"]), original(tensor))[1])
    monkeypatch.setattr(reference.optimizer, "step", lambda: None)  # reads its own counts, which lie on the host
    with SyncCounter() as counter:
        reference(raw, 0)
    pairs = 8 if workload.dates == 1 else 10
    assert copies["copy"] == len(given.tensors) == (8 if workload.dates == 1 else 12)
    assert counter.found == {
        "index with a boolean": pairs,
        "index_put_ with a boolean": pairs,
        "_local_scalar_dense": 2 + 5,
    }


def test_semikit_waits_for_nothing_from_crops_to_average(workload: Workload) -> None:
    step = CurrentStep(workload, Watch(workload.device))
    step(made_crops(workload.config, 4, 0), 0)
    with SyncCounter() as counter:
        step(made_crops(workload.config, 4, 1), 1)
    assert not counter.found


def test_what_is_moved(workload: Workload) -> None:
    raw = made_crops(workload.config, 4, 0)
    batch, pixels = host_batch(workload, raw, 0), 2 * 42 * 42
    images = workload.dates * pixels * 3
    labeled, unlabeled = images * 4 + pixels * 8, 3 * images * 4 + pixels * 8 + 2 * pixels * 4
    assert sum(tensor.nbytes for tensor in batch.tensors) == labeled + unlabeled
    assert raw["unlabeled"][0].nbytes == images


def test_pil_works_beside_the_step(workload: Workload) -> None:
    watch = Watch(workload.device)
    ReferenceStep(workload, watch)(made_crops(workload.config, 4, 0), 0)
    assert watch.read()[parts.LOADER] > 0
    ReferenceStep(workload, watch, loader=False)(made_crops(workload.config, 4, 0), 0)
    assert parts.LOADER not in watch.read()


def test_its_precision_is_its_own(small: Configure) -> None:
    workload = build_workload(small({"train": {"precision": "bf16"}}), 4)
    watch, raw = Watch(workload.device), made_crops(workload.config, 4, 0)
    seen = []
    for precision in ("fp32", "bf16"):
        reference = ReferenceStep(workload, watch, precision)
        reference.student.classifier.register_forward_hook(lambda *given: seen.append(given[2].dtype))
        reference(raw, 0)
    assert seen == [torch.float32] * 2 + [torch.bfloat16] * 2


def test_the_plain_form_of_a_network_predicts_the_same(small: Configure) -> None:
    network = build_workload(small(), 4).network
    plain = plain_form(deepcopy(network))
    images = torch.randn(2, 3, 42, 42)
    torch.testing.assert_close(plain(images), network(images), rtol=1e-4, atol=1e-4)
    attention = [module.fused_attn for module in plain.modules() if hasattr(module, "fused_attn")]
    assert attention
    assert not any(attention)
    assert any(module.fused_attn for module in network.modules() if hasattr(module, "fused_attn"))


def test_its_optimizer_is_a_loop_over_the_same_groups(workload: Workload) -> None:
    reference = ReferenceStep(workload, Watch(workload.device))
    theirs, mine = reference.optimizer, build_optimizer(reference.student, workload.config.optimizer)
    assert not theirs.defaults["fused"]
    assert not theirs.defaults["foreach"]
    for a, b in zip(theirs.param_groups, mine.param_groups, strict=True):
        assert (a["lr"], a["weight_decay"], a["betas"], a["eps"]) == (b["lr"], b["weight_decay"], b["betas"], b["eps"])
        assert [id(p) for p in a["params"]] == [id(p) for p in b["params"]]


@pytest.mark.parametrize(
    ("above", "named"),
    [
        ({"method": {"dropout": {"rate": 0.3}}}, "method"),
        ({"method": {"teacher": "auto"}}, "method.teacher"),
        ({"optimizer": {"name": "sgd"}}, "optimizer.name"),
        ({"train": {"accumulate": 2}}, "train.accumulate"),
        ({"train": {"precision": "fp16"}}, "train.precision fp16"),
        ({"train": {"normalise": "process"}}, "train.normalise"),
    ],
)
def test_what_it_does_not_do_is_refused(small: Configure, above: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=f"changed here: {named}. Leave that out"):
        check_reference(small(above))


def test_threshold_and_forward_are_free(small: Configure) -> None:
    check_reference(small({"method": {"threshold": 0.2, "forward": "fused"}}))
    check_reference(small(task="cd"))


def test_other_decoders_keep_their_form(small: Configure) -> None:
    layer = nn.Conv2d(3, 2, 1)
    network = deepcopy(build_workload(small(), 4).network)
    network.classifier = layer
    assert plain_form(network).classifier is layer
