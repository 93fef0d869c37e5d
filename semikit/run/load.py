"""A path becomes a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semikit.core.network import Network
from semikit.errors import WeightsError
from semikit.models.encoders.lora import merged
from semikit.models.settings import EncoderSettings
from semikit.models.weights.metadata import checked
from semikit.models.weights.released import load_released
from semikit.registry import TASKS
from semikit.training.checkpoint import BEST, contents_of, read_best, read_checkpoint


def load_network(path: Path) -> tuple[Network, dict[str, Any]]:
    """A trained network in eval mode and what its file tells: from a run folder (its best), a weights file written by
    semikit, a checkpoint `last.ckpt`, or a released checkpoint (change detection where it has two classes).

    Raises:
        WeightsError: when there is nothing to load, or it cannot be read.
    """
    if path.is_dir():
        path = path / "weights" / BEST
        if not path.is_file():
            raise WeightsError(f"no trained weights at {path}: the run has not been evaluated yet, or this is no run.")
    if path.suffix == ".ckpt":
        return _from_checkpoint(path)
    if path.suffix != ".safetensors":
        found = load_released(path)
        # Both tasks have the same tensors; of two classes only networks of change detection were released.
        task = TASKS.get("cd" if found.num_classes == 2 else "seg")
        return task.released(found, path.stem)  # type: ignore[no-any-return]
    state, raw = read_best(path)
    metadata = checked(raw, path)
    with contents_of(path):
        network: Network = TASKS.get(metadata["task"]).rebuild(metadata)
        network.load_state_dict(state)
    return network.eval(), metadata


def _from_checkpoint(path: Path) -> tuple[Network, dict[str, Any]]:
    """The better of student and teacher at the time the checkpoint was written."""
    state = read_checkpoint(path)
    metadata = checked(state["metadata"], path)
    with contents_of(path):
        network: Network = TASKS.get(metadata["task"]).rebuild(metadata)
        prefix = f"{state['best'].get('model', 'teacher')}."
        weights = {k.removeprefix(prefix): v for k, v in state["method"].items() if k.startswith(prefix)}
        model: EncoderSettings = TASKS.get(metadata["task"]).Model.model_validate(state["config"]["model"])
        network.load_state_dict(weights if model.lora is None else merged(weights, model.lora))
    return network.eval(), metadata
