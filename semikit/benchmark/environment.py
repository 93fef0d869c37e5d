"""Where a measurement was made: what a report has to say beside its numbers."""

from __future__ import annotations

import platform
from datetime import date
from pathlib import Path

import torch

from semikit import __version__
from semikit.run.config import Config
from semikit.training.device import choose_device, describe_device

_CPU_INFO = Path("/proc/cpuinfo")


def environment(config: Config) -> dict[str, str]:
    """Versions, device, processor, precision and date, as text."""
    train = config.train
    return {
        "semikit": f"semikit {__version__}",
        "torch": f"torch {torch.__version__}",
        "python": f"Python {platform.python_version()}",
        "device": describe_device(choose_device(train.device)),
        "processor": processor(),
        "precision": f"{train.precision}{', compiled' if train.compile else ''}",
        "network": f"{config.model.encoder}, {train.batch}+{train.batch * train.ratio} images",
        "date": date.today().isoformat(),
    }


def processor() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
