"""Finished runs whose networks give the pseudo-labels of a new one: of another run (`--teacher`, distilling), or of the
rounds before in the sub-folders of a run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from semikit.augment.normalise import channel_statistics
from semikit.core.method import Round
from semikit.core.network import Network
from semikit.core.settings import GivenTeacher
from semikit.core.task import Task
from semikit.errors import ConfigError, InputError
from semikit.files import file_digest
from semikit.registry import METHODS
from semikit.run.config import Config
from semikit.run.folder import PLANNED, existing_run
from semikit.run.load import load_network, refuse_other_images
from semikit.training.checkpoint import BEST
from semikit.training.tracking import RESULTS

PICKED = "picked.csv"
"""File of a round that labelled images for the next one: their names, classes and confidence."""


def rounds_of(config: Config) -> Sequence[Round]:
    """The runs a configuration takes, the last one its own; none where it is one run.

    Raises:
        ConfigError: labels that a round gives would take the place of those of a table.
    """
    rounds: Sequence[Round] = METHODS.get(config.method_name).rounds(config.method)
    if rounds and rounds[-1].also and getattr(config.data, "also_labeled", None) is not None:
        raise ConfigError(
            f"data.also_labeled: {config.method_name} labels images itself, round by round, and learns no other table. "
            "Leave it out, or use fixmatch."
        )
    return rounds


def own_teachers(config: Config, folder: Path) -> list[Path]:
    """The runs whose networks label for a run in a folder, where it takes several; of a plan none."""
    rounds = () if folder == PLANNED else rounds_of(config)
    return [folder / name for name in rounds[-1].teachers] if rounds else []


def with_own_labels(config: Config, folder: Path) -> Config:
    """The configuration of a run in a folder with the labels that a round before gave, where it learns some; the folder
    may be moved, so its `config.yaml` does not name them.
    """
    rounds = rounds_of(config)
    if not rounds or not rounds[-1].also:
        return config
    return replace(config, data=config.data.model_copy(update={"also_labeled": folder / rounds[-1].also / PICKED}))


def own_rounds(config: Config, folder: Path) -> dict[str, Any]:
    """What the runs before a run's own came to, by sub-folder: the best value, the seconds they took."""
    found = {one.folder: json.loads((folder / one.folder / RESULTS).read_text()) for one in rounds_of(config)[:-1]}
    keys = ("method", "metric", "best", "iterations", "seconds")
    return {name: {key: results[key] for key in keys} for name, results in found.items()}


@final
class Frozen(nn.Module):
    """A trained network for images (B, *T, C, H, W) normalised as those of the student -> logits (B, K, *S)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Network, student: Network) -> None:
        super().__init__()
        self.network = network
        mean, std = channel_statistics(network.mean, network.std)  # type: ignore[arg-type]
        given_mean, given_std = channel_statistics(student.mean, student.std)  # type: ignore[arg-type]
        self.register_buffer("scale", given_std / std)
        self.register_buffer("shift", (given_mean - mean) / std)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Normalise as the network learned, predict."""
        logits: Tensor = self.network(images * self.scale + self.shift)
        return logits


def given_teachers(config: Config, task: Task, student: Network, own: Sequence[Path]) -> tuple[Config, list[Frozen]]:
    """The networks that `method.teacher` names, if it names any, else those of the `own` runs before this one; and the
    configuration with the digests of the weights that are named.

    Raises:
        InputError: there is no such run, it predicts something else or takes other images, or its weights are others
            than when the run began.
    """
    teacher: Any = getattr(config.method, "teacher", None)
    named = [teacher] if isinstance(teacher, GivenTeacher) else list(teacher) if isinstance(teacher, tuple) else []
    loaded = [_loaded(one, config, task, student) for one in named or [GivenTeacher(run=str(path)) for path in own]]
    frozen = [network for _, network in loaded]
    if not named:
        return config, frozen
    found: Any = tuple(known for known, _ in loaded) if isinstance(teacher, tuple) else loaded[0][0]
    return replace(config, method=config.method.model_copy(update={"teacher": found})), frozen


def _loaded(teacher: GivenTeacher, config: Config, task: Task, student: Network) -> tuple[GivenTeacher, Frozen]:
    """A given teacher with the digest of its weights, and its network."""
    path = existing_run(teacher.run).absolute()
    network, metadata = load_network(path)
    own = {"task": config.task, **task.metadata()}
    refuse_other_images("--teacher", path, (network, metadata), "this run", (student, own))
    side = own.get("crop") or 0
    if side % network.multiple:
        raise ConfigError(
            f"--teacher {path}: its network takes sides that are a multiple of {network.multiple}; the crops have "
            f"{side}. Use --crop {-(-side // network.multiple) * network.multiple}."
        )
    digest = file_digest(path / "weights" / BEST if path.is_dir() else path)
    if teacher.digest not in (None, digest):
        raise InputError(
            f"--teacher {path}: its weights are others than those this run began with. Restore them, or begin a new "
            "run without method.teacher.digest."
        )
    return GivenTeacher(run=str(path), digest=digest), Frozen(network, student)
