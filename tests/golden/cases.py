"""The configurations whose losses are kept, and the steps that give them."""

from __future__ import annotations

import math
import platform
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from semikit.run import build
from semikit.run.config import resolve
from semikit.training.reporter import Reporter

STEPS = 5
VALUES = Path(__file__).parent / "losses.json"
Small = dict[str, tuple[ModuleType, Path]]
"""Of each task the module that makes small data, and the YAML of what it made."""

_SCALE, _THRESHOLD = {"seg": 12, "cd": 12}, {"seg": 0.6, "cd": 0.55}
_HARD = {"ohem": {"threshold": 0.3, "min_kept": 200}}
_JOINT = {"teacher": "student", "forward": "joint"}
_ALIGNED = {"alignment": {"kind": "ema", "target": "labeled"}}
_TWICE = {"train": {"batch": 4, "accumulate": 2}}
_SHORT = {"train": {"batch": 8, "group": 8}}
"""Three steps an epoch, so that SimMatch's bank is in use."""

CASES: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    "seg-supervised": ("seg", "supervised", {}),
    "seg-supervised-ohem": ("seg", "supervised", {"method": _HARD}),
    "seg-fixmatch": ("seg", "fixmatch", {}),
    "seg-fixmatch-fused": ("seg", "fixmatch", {"method": {"forward": "fused"}}),
    "seg-freematch": ("seg", "freematch", {"method": {"momentum": 0.5}}),
    "seg-softmatch-separate": ("seg", "softmatch", {"method": {"teacher": "ema", "forward": "separate"}}),
    "seg-unimatch_v1": ("seg", "unimatch_v1", {}),
    "seg-unimatch_v1-ema-accumulate": ("seg", "unimatch_v1", {"method": {"teacher": "ema"}, **_TWICE}),
    "seg-unimatch_v2": ("seg", "unimatch_v2", {}),
    "seg-unimatch_v2-student": ("seg", "unimatch_v2", {"method": {"teacher": "student"}}),
    "seg-unimatch_v2-paper": ("seg", "unimatch_v2", {"method": {"follow": "paper"}}),
    "seg-unimatch_v2-fused": ("seg", "unimatch_v2", {"method": {"forward": "fused"}}),
    "seg-unimatch_v2-decoder": ("seg", "unimatch_v2", {"method": {"dropout": {"position": "decoder"}, "ramp": 4.0}}),
    "seg-unimatch_v2-one-stream": ("seg", "unimatch_v2", {"method": {"streams": 1, "dropout": "independent"}}),
    "seg-unimatch_v2-ohem-accumulate": ("seg", "unimatch_v2", {"method": _HARD, **_TWICE}),
    "seg-unimatch_v2-lora": ("seg", "unimatch_v2", {"model": {"lora": {"rank": 2}}}),
    "seg-unimatch_v2-balance-process": (
        "seg", "unimatch_v2",
        {"method": {"class_balance": 0.5}, "train": {"batch": 4, "normalise": "process"}},
    ),
    "cd-supervised": ("cd", "supervised", {}),
    "cd-fixmatch": ("cd", "fixmatch", {}),
    "cd-unimatch_v1": ("cd", "unimatch_v1", {}),
    "cd-unimatch_v2": ("cd", "unimatch_v2", {}),
    "cls-fixmatch-joint": ("cls", "fixmatch", {"method": {**_JOINT, **_ALIGNED}}),
    "cls-fixmatch-soft": ("cls", "fixmatch", {"method": {"soft_labels": 0.5}}),
    "cls-flexmatch": ("cls", "flexmatch", {}),
    "cls-freematch": ("cls", "freematch", {"method": {"momentum": 0.5, "quantile": 0.8}}),
    "cls-softmatch": ("cls", "softmatch", {"method": {"momentum": 0.5}}),
    "cls-simmatch": ("cls", "simmatch", _SHORT),
    "cls-simmatch-ema": ("cls", "simmatch", {"method": {"teacher": "ema", "soft_labels": None}, **_SHORT}),
    "cls-mean_teacher": ("cls", "mean_teacher", {}),
    "cls-pseudo_label": ("cls", "pseudo_label", {"method": {"ramp": 3.0}}),
    "cls-unimatch_v2-joint": ("cls", "unimatch_v2", {"method": {**_JOINT, "alignment": "queue"}}),
}  # fmt: skip
"""Name -> task, method, and what differs from the small configuration of the task."""


def environment() -> dict[str, str]:
    """Where losses are equal bit for bit: the version of torch and the processor its kernels are chosen for."""
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "processor": f"{platform.machine()} {_model()}",
    }


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    told = dict(line.split(":", 1) for line in lines if line.startswith(("vendor_id", "cpu family", "model\t")))
    return " ".join(f"{key.strip()}={value.strip()}" for key, value in told.items())


def _make_confident(method: Any, scale: int) -> None:
    """Enlarge the classifiers, so that confidence spreads around the threshold from the first step on."""
    for network in (method.student, method.teacher):
        last = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)][-1]
        with torch.no_grad():
            last.weight.mul_(scale)


def losses(name: str, small: Small, folder: Path) -> list[dict[str, float]]:
    """The scalar logs of the first steps of a case."""
    task, method, changes = CASES[name]
    module, yaml = small[task]
    raw = module.raw(yaml, method)
    if "threshold" in raw["method"]:
        raw["method"]["threshold"] = _THRESHOLD.get(task, 0.4)
    for section, values in changes.items():
        raw[section] = {**raw[section], **values}
    trainer = build.build_run(resolve(raw), folder, Reporter()).trainer
    _make_confident(trainer.method, _SCALE.get(task, 1))
    trainer.method.train()
    batches = iter(trainer.task.batches(range(STEPS), 0, False))
    found = []
    for step in range(STEPS):
        labeled, unlabeled = trainer.task.views(next(batches), step, torch.device("cpu"))
        logs = trainer.stepper(labeled, unlabeled, step)
        found.append({key: float(value) for key, value in logs.items() if value.dim() == 0})
        assert math.isfinite(found[-1]["loss"])
    return found
