"""What runs of the tests need not do again: draw its curves, find the unused parameters of the same network.

The tests of both (`training/test_tracking.py`, `models/test_unused.py`) call the functions themselves, and one run
folder, that of `cli/conftest.py`, has its curves.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from semikit import files
from semikit.models.unused import freeze_unused
from semikit.training import tracking

FOLDER = "SEMIKIT_TESTS_UNUSED"
"""The environment variable that names the folder where all processes of a session write down what they found."""
PLAIN = (bool, int, float, str, tuple, list, type(None))


def few_pixels(rows: Any, path: Path) -> None:
    """Curves in no time."""
    files.write_atomically(path, lambda place: Image.new("L", (1, 1)).save(place, format="PNG"))


def digest(network: nn.Module, shape: Sequence[int]) -> str:
    """Of everything that says which parameters get a gradient: modules, their plain attributes, parameters."""
    modules = [
        (
            name,
            type(module).__qualname__,
            {key: value for key, value in vars(module).items() if isinstance(value, PLAIN)},
        )
        for name, module in network.named_modules()
    ]
    parameters = [(name, tuple(value.shape), value.requires_grad) for name, value in network.named_parameters()]
    return hashlib.sha256(repr((modules, parameters, tuple(shape))).encode()).hexdigest()


def freeze_once(network: nn.Module, shape: Sequence[int]) -> list[str]:
    """`freeze_unused` that passes shapes through each kind of network once: a pass takes longer than a step here."""
    # Not by `semikit.files`: tests count and break what is written there.
    path = Path(os.environ[FOLDER], f"{digest(network, shape)}.json")
    if path.exists():
        names: list[str] = json.loads(path.read_text())
        for name in names:
            network.get_parameter(name).requires_grad_(False)
        return names
    names = freeze_unused(network, shape)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(names))
    temporary.rename(path)
    return names


def take() -> None:
    """Replace both in this process, also where they were imported by name."""
    tracking.draw_curves = few_pixels
    for name in ("semikit.models.unused", "semikit.tasks._pixel_task", "semikit.tasks.cls"):
        if name in sys.modules:
            setattr(sys.modules[name], freeze_unused.__name__, freeze_once)
