"""Networks shared out over processes learn what one process learns, and their checkpoints are its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import keystr, tree_flatten_with_path

from semikit.errors import ConfigError
from semikit.training.fsdp import check_sharding
from tests.helpers import sharded
from tests.helpers.processes import Server

SHORT = ("seg", "seg bf16", "cls bank")
COARSE = {"seg adamw": 1e-4, "seg bf16": 2e-4, "seg bf16 sums": 2e-4}
"""Tolerance where small differences are divided by small numbers or rounded; elsewhere 1e-5."""
Trials = dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]


def trials(server: Server, world: int, names: list[str], folder: Path) -> Trials:
    """What one process without sharding found, and what each of `world` found, by case."""
    alone = {name: sharded.reference(sharded.CASES[name]) for name in names}
    for name, found in alone.items():
        torch.save(found, folder / f"{name}.pt")
    for ended in server.run_together(world, "-m", "tests.helpers.sharded", folder, ",".join(names)):
        assert ended.code == 0, ended.out[-4000:]
    shared = [torch.load(folder / f"{rank}.out", weights_only=False) for rank in range(world)]
    return {name: (alone[name], [found[name] for found in shared]) for name in names}


@pytest.fixture(scope="module")
def two(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    return trials(server, 2, list(SHORT), tmp_path_factory.mktemp("two"))


def same(found: Any, wanted: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Equal structure, equal plain values, tensors within float tolerance and in one layout."""
    a, b = (dict(tree_flatten_with_path(state)[0]) for state in (found, wanted))
    assert [keystr(path) for path in a] == [keystr(path) for path in b]
    for path, value in b.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(
                a[path], value, rtol=rtol, atol=atol, msg=lambda text, path=path: f"{path}: {text}"
            )
            assert a[path].stride() == value.stride(), keystr(path)
        else:
            assert a[path] == value, keystr(path)


def check(name: str, alone: dict[str, Any], shared: list[dict[str, Any]]) -> None:
    first, atol = shared[0], COARSE.get(name, 1e-5)
    torch.testing.assert_close(first["loss"], alone["loss"])
    same(first["state"], alone["state"], atol=atol)
    assert all(found["state"] == {} for found in shared[1:]), "only the first process holds what is written"
    assert {kind for found in shared for kind in found["buffers"]} <= {"Tensor"}
    # A step that is not finite in the last process is skipped in all, and the next is the same as without it.
    assert [found["skipped"] for found in shared] == [1] * len(shared)
    same(first["kept"], first["state"], rtol=0, atol=0)
    same(first["next"], alone["next"], atol=atol)
    # From the checkpoint of one process the sharded run goes on, and the other way round.
    same(first["resumed"], alone["next"], atol=atol)
    plain = sharded.rig(sharded.CASES[name], shard=False)
    plain.method.load_state_dict(first["state"]["method"])
    plain.optimizer.load_state_dict(first["state"]["optimizer"])
    sharded.step(sharded.CASES[name], plain, sharded.steps_of(sharded.CASES[name]))
    same(sharded.state_of(plain), first["next"], atol=atol)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SHORT)
def test_two_processes(two: Trials, name: str) -> None:
    check(name, *two[name])


def test_each_process_holds_its_part(two: Trials) -> None:
    for name, (_, shared) in two.items():
        method = sharded.method_of(sharded.CASES[name])
        learned = [*method.student.parameters(), *method.extra_parameters()]
        held = [found["held"] for found in shared]
        assert sum(held) == sum(p.numel() for p in learned if p.requires_grad), name
        assert min(held) > 0, name


def test_blocks_are_gathered_in_the_precision_of_the_run(two: Trials) -> None:
    for name, (_, shared) in two.items():
        wanted = torch.bfloat16 if "bf16" in name else torch.float32
        assert [found["gathered"] for found in shared] == [{wanted}] * 2, name
        for values in (shared[0]["state"]["method"], shared[0]["state"]["optimizer"]["state"]):
            found = {leaf.dtype for leaf in torch.utils._pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)}
            assert torch.bfloat16 not in found, "what is learned stays fp32"


def test_whole_networks_are_those_of_one_process(two: Trials) -> None:
    for name, (alone, shared) in two.items():
        method = sharded.method_of(sharded.CASES[name])
        method.load_state_dict(alone["state"]["method"])
        labeled, _ = sharded.batch_of(sharded.CASES[name], method, 0, 0, 1)
        method.eval()
        for kind in ("student", "teacher"):
            network = getattr(method, kind)
            with torch.no_grad():
                logits = network(labeled.images)
            for found in shared:
                torch.testing.assert_close(found["logits"][kind], logits, rtol=1e-3, atol=1e-3)
                same(found["exported"][kind], dict(network.exported()), atol=1e-4)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_other_methods_and_encoders_in_two_processes(server: Server, tmp_path: Path) -> None:
    rest = [name for name in sharded.CASES if name not in SHORT]
    for name, found in trials(server, 2, rest, tmp_path).items():
        check(name, *found)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_four_processes(server: Server, tmp_path: Path) -> None:
    for name, found in trials(server, 4, ["seg", "cls bank"], tmp_path).items():
        check(name, *found)


def test_one_process_has_nothing_to_share() -> None:
    with pytest.raises(ConfigError, match=r"there is one. Start more \(--gpus N\)"):
        check_sharding(1)
    check_sharding(2)
