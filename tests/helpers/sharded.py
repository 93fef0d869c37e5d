"""What each process of the trials of sharding runs.

`python -m tests.helpers.sharded FOLDER CASE,CASE`, with the environment of torchrun; writes FOLDER/RANK.out.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from semikit.core.batch import Labeled, RunInfo, Unlabeled
from semikit.core.losses import denominators
from semikit.core.method import Method
from semikit.core.mixing import partners
from semikit.core.network import Network
from semikit.models.classifier import ClassifierSettings, build_classifier
from semikit.models.segmenter import build_segmenter
from semikit.models.settings import ModelSettings
from semikit.models.siamese import build_siamese
from semikit.registry import METHODS
from semikit.training.device import autocast
from semikit.training.optimizer import build_optimizer
from semikit.training.settings import OptimizerSettings
from semikit.training.step import Stepper

BATCH, SIDE = 8, 28
CPU = torch.device("cpu")
VIT = {"depth": 2, "embed_dim": 32, "num_heads": 2}
SEG: dict[str, Any] = {
    "encoder": "vit_small_patch14_dinov2",
    "weights": "none",
    "encoder_args": VIT,
    "decoder_channels": 8,
    "decoder_widths": (8, 8, 8, 8),
}
ONE = {"encoder": "vit_small_patch14_dinov2", "encoder_args": VIT}
PYRAMID = {"encoder": "convnext_atto", "weights": "none", "encoder_args": {"depths": [1] * 4, "dims": [8, 16, 24, 32]}}

CASES: dict[str, dict[str, Any]] = {
    "seg": {"build": "seg", "model": {**SEG, "checkpointing": True}, "steps": 10},
    "seg parts": {"build": "seg", "model": SEG, "accumulate": 2, "optimizer": {"momentum": 0.9}},
    "seg adamw": {"build": "seg", "model": SEG, "optimizer": {"name": "adamw", "lr": 1e-3}},
    "seg bf16": {"build": "seg", "model": SEG, "precision": "bf16", "accumulate": 2},
    "seg bf16 sums": {
        **{"build": "seg", "model": {**SEG, "checkpointing": True}, "precision": "bf16", "reduce_dtype": "bf16"},
    },
    "seg kept": {"build": "seg", "model": {**SEG, "freeze": True}},
    "seg lora": {"build": "seg", "model": {**SEG, "lora": {"rank": 2}}},
    "seg own": {"build": "seg", "model": SEG, "method": "fixmatch"},
    "seg pyramid": {"build": "seg", "model": {**PYRAMID, "decoder_channels": 8, "decoder": "dpt"}, "side": 64},
    "cd": {"build": "cd", "model": SEG, "shape": (2, 3), "steps": 10},
    "cls": {"build": "cls", "model": ONE, "method": "freematch", "settings": {"fairness": 0.0}, "pixels": False},
    "cls mixed": {"build": "cls", "model": ONE, "method": "remixmatch", "pixels": False},
    "cls graph": {"build": "cls", "model": ONE, "method": "comatch", "settings": {"bank": 16}, "pixels": False},
    "cls past": {
        **{"build": "cls", "model": ONE, "method": "comatch", "pixels": False},
        **{"settings": {"bank": 16, "teacher": "ema"}},
    },
    "cls bank": {
        **{"build": "cls", "model": ONE, "method": "simmatch", "pixels": False},
        **{"settings": {"teacher": "ema"}, "steps": 10},
    },
}
"""Tasks, methods, optimisers and encoders; `steps`: how many are compared (else 2)."""

BUILDS: dict[str, Any] = {
    "seg": lambda model: build_segmenter(ModelSettings(**model), 3),
    "cd": lambda model: build_siamese(ModelSettings(**model), 3),
    "cls": lambda model: build_classifier(ClassifierSettings(**model), 3),
}


def network_of(case: dict[str, Any]) -> Network:
    torch.manual_seed(0)
    made: Network = BUILDS[case["build"]](case["model"])
    return made.to(memory_format=torch.channels_last)


def method_of(case: dict[str, Any]) -> Method:
    cls: type[Method] = METHODS.get(case.get("method", "unimatch_v2"))
    settings = dict(case.get("settings", {}))
    if "threshold" in cls.Config.model_fields:
        settings["threshold"] = 0.34
    return cls(network_of(case), cls.Config(**settings), RunInfo(3, 8, 16, 2, 100, group=2, seed=3)).train()


def rig(case: dict[str, Any], shard: bool) -> Stepper:
    method = method_of(case)
    sharding = None
    if shard:
        from semikit.training.fsdp import Sharding

        sharding = Sharding(method, CPU, case.get("precision", "fp32"), case.get("reduce_dtype", "fp32"))
    options = {"name": "sgd", "lr": 0.05, "momentum": 0.0, **case.get("optimizer", {})}
    settings = OptimizerSettings(encoder_lr=options["lr"], **options)
    optimizer = build_optimizer(method.student, settings, method.extra_parameters())
    forward = autocast(CPU, case.get("precision", "fp32"))
    return Stepper(method, method, optimizer, forward, case.get("accumulate", 1), None, sharding)


def batch_of(case: dict[str, Any], method: Method, step: int, rank: int, world: int) -> tuple[Labeled, Unlabeled]:
    """This process's share of the total batch of a step; losses are averaged over the processes afterwards."""
    rng = torch.Generator().manual_seed(step)
    side, pixels = case.get("side", SIDE), case.get("pixels", True)
    size, shape = (BATCH, *case.get("shape", (3,)), side, side), (BATCH, side, side) if pixels else (BATCH,)
    requirements = type(method).requirements(method.config)
    labels, valid = torch.randint(3, shape, generator=rng), torch.rand(shape, generator=rng) > 0.2
    labeled, weak = torch.randn(size, generator=rng), torch.randn(size, generator=rng)
    strong = [torch.randn(size, generator=rng) for _ in range(requirements.strong_views)]
    boxes = [torch.rand(shape, generator=rng) > 0.6 for _ in strong] if pixels else []
    own = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    positions, index = range(own.start, own.stop), torch.arange(BATCH)
    return (
        Labeled(labeled[own], labels[own], valid[own], index[own], denominators(valid[own], 2, "total")),
        Unlabeled(
            weak=weak[own],
            strong=tuple(view[own] for view in strong),
            valid=valid[own],
            boxes=tuple(box[own] for box in boxes),
            partner=partners(BATCH // world, 2),
            index=index[own],
            positions=positions,
            partner_batch=None,
        ),
    )


def step(case: dict[str, Any], stepper: Stepper, number: int, spoilt: bool = False) -> torch.Tensor:
    """The loss of a step over all processes; `spoilt`: with an image that is not a number in the last process."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    labeled, unlabeled = batch_of(case, stepper.method, number, rank, world)
    if spoilt and rank == world - 1:
        labeled = replace(labeled, images=labeled.images * torch.nan)
    torch.manual_seed(number)
    loss = stepper(labeled, unlabeled, number)["loss"].clone()
    if world > 1:
        dist.all_reduce(loss)
    return loss / world


def steps_of(case: dict[str, Any]) -> int:
    return int(case.get("steps", 2))


def state_of(stepper: Stepper) -> dict[str, Any]:
    """Copies of all that learning changes; empty in all processes but the first."""
    if stepper.sharding is None:
        state = {"method": dict(stepper.method.state_dict()), "optimizer": stepper.optimizer.state_dict()}
    else:
        state = stepper.sharding.state(stepper.optimizer)
    copied: dict[str, Any] = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, state)
    return copied


def reference(case: dict[str, Any]) -> dict[str, Any]:
    """The steps of a case in one process without sharding, and one more."""
    stepper = rig(case, shard=False)
    found: dict[str, Any] = {"loss": step(case, stepper, 0)}
    for number in range(1, steps_of(case)):
        step(case, stepper, number)
    found["state"] = state_of(stepper)
    step(case, stepper, steps_of(case))
    found["next"] = state_of(stepper)
    return found


def trial(case: dict[str, Any], rank: int, folder: Path) -> dict[str, Any]:
    """The same shared out; and what must hold of it on the way."""
    stepper = rig(case, shard=True)
    sharding = stepper.sharding
    assert sharding is not None
    found: dict[str, Any] = {"held": sum(shard.numel() for _, shard in sharding.pairs)}
    block = next(iter(stepper.method.student.blocks()))
    with _recorded(block) as found["gathered"]:
        found["loss"] = step(case, stepper, 0)
    for number in range(1, steps_of(case)):
        step(case, stepper, number)
    found["state"] = state_of(stepper)
    found["buffers"] = {type(buffer).__name__ for buffer in stepper.method.buffers()}
    networks = {"student": stepper.method.student, "teacher": stepper.method.teacher}
    labeled, _ = batch_of(case, stepper.method, 0, 0, 1)
    with sharding.whole(networks) as whole, torch.no_grad():
        for _ in range(rank + 1):  # each process as often as it likes
            found["logits"] = {name: network(labeled.images) for name, network in whole.items()}
        found["exported"] = {name: network.exported() for name, network in whole.items()}
    step(case, stepper, steps_of(case), spoilt=True)
    found["skipped"], found["kept"] = int(stepper.skipped), state_of(stepper)
    step(case, stepper, steps_of(case))
    found["next"] = state_of(stepper)
    other = rig(case, shard=True)
    assert other.sharding is not None
    other.sharding.load(other.optimizer, torch.load(folder / f"{case['name']}.pt")["state"])
    step(case, other, steps_of(case))
    found["resumed"] = state_of(other)
    return found


@contextmanager
def _recorded(block: nn.Module) -> Iterator[set[torch.dtype]]:
    """The types of a block's parameters where it is called."""
    found: set[torch.dtype] = set()
    hook = block.register_forward_pre_hook(lambda *_: found.update(p.dtype for p in block.parameters()))
    yield found
    hook.remove()


def main() -> None:
    warnings.simplefilter("error", UserWarning)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, folder, names = dist.get_rank(), Path(sys.argv[1]), sys.argv[2].split(",")
    torch.save({name: trial({**CASES[name], "name": name}, rank, folder) for name in names}, folder / f"{rank}.out")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
