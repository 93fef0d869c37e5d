"""Several processes learn what one does: the same loss and gradients, the same weights after five steps of SGD."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.helpers.processes import Server

Found = dict[tuple[str, int, int], dict[str, Any]]

SGD = {"name": "sgd", "lr": 0.05, "encoder_lr": 0.05, "momentum": 0.9}
TRAIN = {"batch": 4, "group": 4, "iterations": 10, "eval_every": 10}
VIT = {"encoder": "test_vit", "weights": "none", "encoder_args": {"depth": 2, "embed_dim": 32, "num_heads": 2}}
SHARED: dict[str, tuple[tuple[int, int], ...]] = {
    "seg unimatch_v2": ((1, 4), (2, 2), (4, 1)),
    "seg hard examples": ((2, 1),),
    "seg class weights": ((2, 1),),
    "seg uneven groups, total": ((3, 2),),
    "seg uneven groups, process": ((3, 1),),
    "cd unimatch_v2": ((2, 1),),
    "cls unimatch_v2": ((2, 2),),
    "cls simmatch": ((2, 1),),
    "cls sums in bf16": ((2, 1),),
}
"""Processes and micro-batches; shares of one image and of less than a group are among them."""
MORE: dict[str, tuple[tuple[int, int], ...]] = {
    "seg unimatch_v2": ((1, 2), (2, 1)),
    "seg unimatch_v1": ((1, 2), (1, 4), (2, 1), (2, 2), (4, 1)),
    "seg freematch": ((2, 1), (4, 1)),
    "seg mean_teacher": ((2, 2),),
    "seg flexmatch": ((2, 1),),
    "seg corrmatch": ((2, 1),),
    "seg u2pl": ((2, 1),),
    "seg augseg": ((2, 1),),
    "seg allspark": ((2, 1),),
    "seg imas": ((2, 2),),
    "seg supervised": ((2, 2),),
    "seg hard examples": ((1, 2),),
    "seg uneven groups, total": ((2, 1), (3, 1)),
    "seg uneven groups, process": ((2, 1), (3, 2)),
    "cd unimatch_v2": ((1, 2), (1, 4), (2, 2), (4, 1)),
    "cls unimatch_v2": ((1, 2), (1, 4), (2, 1), (4, 1)),
    "cls flexmatch": ((2, 1), (4, 1)),
    "cls freematch": ((2, 1), (4, 1)),
    "cls simmatch": ((4, 1),),
    "cls softmatch": ((2, 1), (4, 1)),
    "cls dash": ((2, 1),),
    "cls comatch": ((2, 1), (4, 1)),
    "cls remixmatch": ((2, 1), (4, 1)),
}
"""The rest of the ways, for `make faults`."""


def configurations(small: dict[str, tuple[ModuleType, Path]]) -> dict[str, dict[str, Any]]:
    """The configuration of each case."""
    made: dict[str, dict[str, Any]] = {}
    for name in {**SHARED, **MORE}:
        task, _, method = name.partition(" ")
        method = method if method in OTHERS else "unimatch_v2"
        module, data = small[task]
        made[name] = module.raw(data, method, optimizer=SGD, train=TRAIN)
    for name in [name for name in made if name.startswith("cls")]:
        made[name]["model"] = VIT
    made["seg unimatch_v1"]["method"]["teacher"] = "ema"
    made["seg freematch"]["method"] |= {"forward": "separate", "teacher": "ema", "fairness": 0.5}
    made["seg allspark"]["method"]["warmup"] = 0  # in which each process has sources of its own
    made["cls freematch"]["method"] |= {"fairness": 0.5}
    made["cls remixmatch"]["train"] |= {"ratio": 2}
    made["seg hard examples"]["method"]["ohem"] = {"threshold": 0.4, "min_kept": 100}
    made["seg hard examples"]["train"] |= {"group": 2}
    made["seg class weights"]["train"] |= {"class_weights": "balanced"}
    made["cls sums in bf16"]["train"] |= {"reduce_dtype": "bf16"}
    for kind in ("total", "process"):
        made[f"seg uneven groups, {kind}"]["train"] |= {"batch": 6, "normalise": kind}
    return made


OTHERS = (
    "unimatch_v1",
    "freematch",
    "mean_teacher",
    "supervised",
    "flexmatch",
    "simmatch",
    "softmatch",
    "corrmatch",
    "u2pl",
    "augseg",
    "allspark",
    "imas",
    "dash",
    "comatch",
    "remixmatch",
)


@pytest.fixture(scope="module")
def run(
    small: dict[str, tuple[ModuleType, Path]], server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Found]:
    """What each case ends with, by name, processes and micro-batches; one program runs them all."""

    def run(grid: dict[str, tuple[tuple[int, int], ...]]) -> Found:
        folder = tmp_path_factory.mktemp("shared")
        made = configurations(small)
        keys = [(name, *place) for name, places in grid.items() for place in ((1, 1), *places)]
        cases = [
            {"raw": {**made[name], "train": {**made[name]["train"], "accumulate": parts}}, "processes": count}
            for name, count, parts in keys
        ]
        (folder / "cases.json").write_text(json.dumps(cases))
        ended = server.wait(server.start("-m", "tests.helpers.shared_steps", folder, folder / "cases.json"), 800)
        assert ended is not None, "hung"
        assert ended.code == 0, ended.out[-3000:]
        return {key: torch.load(folder / f"{number}.pt", weights_only=True) for number, key in enumerate(keys)}

    return run


@pytest.fixture(scope="module")
def found(run: Callable[..., Found]) -> Found:
    return run(SHARED)


@pytest.fixture(scope="module")
def more(run: Callable[..., Found]) -> Found:
    return run(MORE)


def differences(alone: dict[str, Any], shared: dict[str, Any]) -> tuple[float, float, float]:
    """Of the first loss, of the gradients as a part of the largest, and the largest of any weight."""
    loss = abs(float(alone["losses"][0]["loss"] - shared["losses"][0]["loss"]))
    pairs = list(zip(alone["gradients"], shared["gradients"], strict=True))
    gradient = max(float((a - b).abs().max()) for a, b in pairs) / max(float(a.abs().max()) for a, _ in pairs)
    weights = shared["weights"]
    kept = [(value.float() - weights[name].float()).abs().max() for name, value in alone["weights"].items()]
    return loss, gradient, float(max(kept))


def check(found: Found, name: str, place: tuple[int, int]) -> None:
    alone, shared = found[name, 1, 1], found[name, *place]
    assert alone["skipped"] == shared["skipped"] == 0
    if name != "seg supervised":
        assert alone["losses"][-1]["loss_u"] > 0, "nothing was learned from unlabelled images"
    print(name, place, *(f"{value:.1e}" for value in differences(alone, shared)))
    torch.testing.assert_close(shared["losses"][0], alone["losses"][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shared["gradients"], alone["gradients"], rtol=1e-4, atol=1e-6)
    rounding = 3e-4 if name == "seg u2pl" else 2e-5  # which may pick another pixel for its neighbour
    torch.testing.assert_close(shared["weights"], alone["weights"], rtol=1e-3, atol=rounding)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "place"),
    [(name, place) for name, places in SHARED.items() for place in places if name != "cls sums in bf16"],
)
def test_sharing_a_step_changes_nothing(found: Found, name: str, place: tuple[int, int]) -> None:
    check(found, name, place)


def test_gradients_may_be_summed_in_bf16(found: Found) -> None:
    alone, shared = found["cls sums in bf16", 1, 1], found["cls sums in bf16", 2, 1]
    assert all(torch.equal(g.bfloat16().float(), g) for g in shared["gradients"]), "what was sent has 8 bits"
    assert not all(torch.equal(g.bfloat16().float(), g) for g in alone["gradients"]), "one process sends nothing"
    loss, gradient, weights = differences(alone, shared)
    assert loss < 1e-6
    assert 1e-6 < gradient < 0.01
    assert weights < 0.05


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "place"), [(name, place) for name, places in MORE.items() for place in places])
def test_nor_does_any_other_way(more: Found, name: str, place: tuple[int, int]) -> None:
    check(more, name, place)
