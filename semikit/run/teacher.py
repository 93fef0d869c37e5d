"""A finished run whose network gives the pseudo-labels of a new one (`--teacher`): distilling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, final

from torch import Tensor, nn

from semikit.augment.normalise import channel_statistics
from semikit.core.network import Network
from semikit.core.settings import GivenTeacher
from semikit.core.task import Task
from semikit.errors import ConfigError, InputError
from semikit.files import file_digest
from semikit.run.config import Config
from semikit.run.folder import existing_run
from semikit.run.load import load_network, refuse_other_images
from semikit.training.checkpoint import BEST


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


def given_teacher(config: Config, task: Task, student: Network) -> tuple[Config, Frozen | None]:
    """The network that `method.teacher` names, if it names one, and the configuration with the digest of its weights.

    Raises:
        InputError: there is no such run, it predicts something else or takes other images, or its weights are others
            than when the run began.
    """
    teacher = getattr(config.method, "teacher", None)
    if not isinstance(teacher, GivenTeacher):
        return config, None
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
    method: Any = config.method
    found = GivenTeacher(run=str(path), digest=digest)
    return replace(config, method=method.model_copy(update={"teacher": found})), Frozen(network, student)
