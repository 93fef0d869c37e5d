"""One case, a process of its own: `python -m tests.accelerator.case NAME PRECISION FOLDER` writes found.json there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from semikit.core.batch import packed, to_device
from semikit.run import build
from semikit.run.config import Config, resolve
from semikit.training.reporter import Reporter
from semikit.training.trainer import Trainer
from tests.helpers import icons, pairs, photos
from tests.helpers.fake_device import Recorder, fake_device

NETWORKS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "seg-vit": (photos, {"encoder": "dinov2-small"}, {"weak": {"crop": 28}}),
    "seg-resnet": (photos, {"encoder": "resnet50", "decoder": "deeplabv3plus"}, {"weak": {"crop": 32}}),
    "seg-base": (photos, {"encoder": "dinov2-base"}, {"weak": {"crop": 518}}),
    "cd-vit": (pairs, {"encoder": "dinov2-small"}, {"weak": {"crop": 28}}),
    "cls-wrn": (icons, {"encoder": "wrn-28-2"}, {"size": None}),
    "cls-vit": (icons, {"encoder": "dinov2-small"}, {"size": 14}),
}
"""The module that makes small data, the model, and the views."""
EXTRAS: dict[str, dict[str, dict[str, Any]]] = {
    "accumulate": {"train": {"accumulate": 2}},
    "ohem": {"method": {"ohem": {"threshold": 0.7, "min_kept": 200}}},
    "balance": {"method": {"class_balance": 0.5}},
    "lora": {"model": {"lora": {"rank": 4}}},
    "processes": {},
}


def configured(name: str, precision: str, folder: Path) -> Config:
    """A name is NETWORK METHOD and, perhaps, an extra."""
    network, method, *extras = name.split()
    module, model, views = NETWORKS[network]
    train = {"device": "cuda", "precision": precision, "batch": 8 if network == "seg-base" else 4, "group": 4}
    raw = {**module.raw(module.write(folder), method, views=views, train=train), "model": {"weights": "none", **model}}
    for section, values in (pair for extra in extras for pair in EXTRAS[extra].items()):
        raw[section] = {**raw[section], **values}
    return resolve(raw)


def counted(config: Config, folder: Path) -> dict[str, Any]:
    """What the second step does, and the last batch of an evaluation."""
    task = build.build_task(config)
    network = task.network(config.model)
    task.network = lambda settings: network  # built with values: timm reads some of them
    raws = list(task.batches(range(2), 0, False))
    with fake_device() as device:
        trainer = build.build_run(config, folder / "run", Reporter(), task).trainer
        trainer.method.train()
        for step, raw in enumerate(raws):
            with device.watching(strict=step > 0):
                views = task.views(packed(raw), step, trainer.inference.device)
                trainer.meter.add(trainer.stepper(*views, step), 0.0)
        found = {"copies": device.copies, "pageable": device.pageable, "operations": device.operations.total()}
        found |= {"flops": device.flops, "by_name": device.operations}
        _evaluate(trainer, device, "evaluation" if config.task != "cls" else "class_evaluation")
        return {**found, "evaluation": {"copies": device.copies, "pageable": device.pageable}}


def _evaluate(trainer: Trainer, device: Recorder, module: str) -> None:
    def scored(networks: Any, new_metrics: Any, where: torch.device, batches: Any, outputs: Any) -> None:
        metrics = new_metrics().to(where)
        for batch in batches:
            with device.watching():
                for arguments in outputs(networks["student"], batch):
                    metrics.update(**arguments)
        raise KeyboardInterrupt  # what follows once reads values

    trainer.method.eval()
    with mock.patch(f"semikit.inference.{module}.scored", scored), suppress(KeyboardInterrupt):
        trainer.task.evaluate({"student": trainer.method.student}, "val", trainer.inference)


FAULTS: dict[str, Callable[[Tensor], object]] = {
    "none": lambda there: there * 2 + to_device(torch.ones(2), "cuda"),
    "value": lambda there: there.sum().item(),
    "boolean index": lambda there: there[there > 0],
    "copy to the host": lambda there: there.cpu(),
    "copy that waits": lambda there: torch.ones(2).pin_memory().to("cuda"),
    "operand": lambda there: there * torch.tensor(2.0),
}


def refused() -> dict[str, str]:
    """What is said of each fault."""
    found = dict.fromkeys(FAULTS, "")
    with fake_device() as device:
        there = torch.ones(2, device="cuda")
        for name, fault in FAULTS.items():
            try:
                with device.watching():
                    fault(there)
            except AssertionError as error:
                found[name] = str(error)
    return found


def main(name: str, precision: str, folder: Path) -> dict[str, Any]:
    """What is written; `unusable` where this torch has no device without a device."""
    try:
        with fake_device():
            nn.Linear(2, 2).to("cuda")(torch.ones(1, 2, device="cuda")).sum().backward()
    except Exception as error:  # whatever another version of torch raises
        return {"unusable": f"torch {torch.__version__} has no fake device here: {error!r}"}
    if name == "faults":
        return refused()
    if name.endswith(" processes"):
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    return counted(configured(name, precision, folder), folder)


if __name__ == "__main__":
    (Path(sys.argv[3]) / "found.json").write_text(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
