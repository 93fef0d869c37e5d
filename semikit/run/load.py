"""A path becomes a trained network, and a network a model that predicts paths, PIL images and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from semikit.core.network import Network
from semikit.core.task import Inference
from semikit.errors import InputError, WeightsError, some
from semikit.inference.exported import read_onnx
from semikit.inference.in_memory import Prediction
from semikit.inference.windows import orientation_of
from semikit.models.encoders.lora import merged
from semikit.models.settings import EncoderSettings
from semikit.models.weights.metadata import checked
from semikit.models.weights.released import load_released
from semikit.registry import TASKS
from semikit.run.folder import existing_run
from semikit.settings.yaml_text import in_one_line
from semikit.training.checkpoint import BEST, LAST, contents_of, read_best, read_checkpoint
from semikit.training.device import choose_device, inference_on


def load_network(path: Path) -> tuple[Network, dict[str, Any]]:
    """A trained network in eval mode and what its file tells: from a run folder (its best), a weights file written by
    semikit, a checkpoint `last.ckpt`, an ONNX file of `semikit export`, or a released checkpoint (change detection
    where it has two classes).

    Raises:
        WeightsError: when there is nothing to load, or it cannot be read.
    """
    if path.is_dir():
        several = sorted(path.glob("seed-*/weights"))
        path = path / "weights" / BEST
        if not path.is_file() and several:
            seeds = some([str(weights.parent) for weights in several])
            raise WeightsError(f"{path.parents[1]} holds runs of several seeds; give one of them: {seeds}.")
        if not path.is_file():
            raise WeightsError(f"no trained weights at {path}: the run has not been evaluated yet, or this is no run.")
    if path.suffix == ".ckpt":
        return _from_checkpoint(path)
    if path.suffix == ".onnx":
        exported, raw = read_onnx(path)
        return exported.eval(), checked(raw, path)
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


Loaded = tuple[Network, Mapping[str, Any]]
"""A network and what its file tells."""

_FITTING = {
    "task": "task",
    "class_names": "classes",
    "bands": "bands",
    "scale": "range of values",
    "size": "crop",
    "side": "side of the images",
}
"""What networks have to have in common to see and say the same of an image, as weights files and people call it."""


def load_ensemble(paths: Sequence[Path]) -> tuple[list[Network], dict[str, Any]]:
    """As `load_network`, several networks that are averaged; what the file of the first tells.

    Raises:
        WeightsError: when there is nothing to load, or it cannot be read.
        InputError: another one than the first predicts another task or classes, or takes other images.
    """
    first, metadata = load_network(paths[0])
    networks = [first]
    for path in paths[1:]:
        network, other = load_network(path)
        refuse_other_images("--ensemble", path, (network, other), str(paths[0]), (first, metadata))
        networks.append(network)
    return networks, metadata


def refuse_other_images(flag: str, path: Path, one: Loaded, name: str, other: Loaded) -> None:
    """Raise where a network given with a flag predicts something else than another one, or takes other images."""
    (network, metadata), (first, known) = one, other
    found = {what: (metadata.get(key), known.get(key)) for key, what in _FITTING.items()}
    found["orientation of photos"] = orientation_of(metadata), orientation_of(known)
    found["channels"] = len(network.mean), len(first.mean)  # type: ignore[arg-type]
    for what, (its, first_one) in found.items():
        if its != first_one:
            raise InputError(
                f"{flag} {path}: its {what}: {in_one_line(its)}; of {name}: {in_one_line(first_one)}. Task, classes "
                "and the images that networks take have to be the same: give runs of the same data."
            )


def _from_checkpoint(path: Path, which: str | None = None) -> tuple[Network, dict[str, Any]]:
    """Student or teacher of a checkpoint: unless said, the better one at the time it was written."""
    state = read_checkpoint(path)
    metadata = checked(state["metadata"], path)
    with contents_of(path):
        network: Network = TASKS.get(metadata["task"]).rebuild(metadata)
        prefix = f"{which or state['best'].get('model', 'teacher')}."
        weights = {k.removeprefix(prefix): v for k, v in state["method"].items() if k.startswith(prefix)}
        model: EncoderSettings = TASKS.get(metadata["task"]).Model.model_validate(state["config"]["model"])
        network.load_state_dict(weights if model.lora is None else merged(weights, model.lora))
    if "threshold" in state["best"]:
        metadata["best"] = {"threshold": state["best"]["threshold"]}
    return network.eval(), metadata


def student_and_teacher(run: Path) -> list[Network]:
    """Both networks of the last checkpoint of a run folder; none where there is none."""
    path = run / "weights" / LAST
    return [_from_checkpoint(path, which)[0] for which in ("student", "teacher")] if path.is_file() else []


@final
class Model(nn.Module):
    """A trained network that predicts paths, PIL images and arrays. `class_names` are in the order of their numbers."""

    def __init__(self, network: Network, metadata: Mapping[str, Any], inference: Inference) -> None:
        super().__init__()
        self.network = network
        self.metadata = dict(metadata)
        self.inference = inference
        self.class_names = tuple(metadata["class_names"])

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W), of two dates (B, 2, C, H, W), -> logits (B, K, *S)."""
        logits: Tensor = self.network(images)
        return logits

    def predict(self, image: Any, second: Any = None) -> Prediction | list[Prediction]:
        """What the model says of an image; change detection takes two, the earlier first.

        An image is a path, a PIL image or an array (H, W, C) uint8. A list of them (two lists for two dates) gives a
        list.

        Raises:
            InputError: one date too many or too few, lists of unequal length or none, an array of another shape.
            DataError: a file that cannot be read or does not fit the model.
        """
        dates = (image,) if second is None else (image, second)
        if not isinstance(image, list):
            return self._predict(dates)
        if not image:
            raise InputError("no image was given: an empty list.")
        if any(not isinstance(date, list) or len(date) != len(image) for date in dates):
            raise InputError("lists of two dates have to have equal lengths, one image of the later for each earlier.")
        return [self._predict(pair) for pair in zip(*dates, strict=True)]

    def _predict(self, dates: Sequence[Any]) -> Prediction:
        task = TASKS.get(self.metadata["task"])
        count, what = task.dates
        if len(dates) != count:
            raise InputError(f"a model of {self.metadata['task']} predicts {what}; it was given {len(dates)}.")
        found: Prediction = task.predict_in_memory(self.network, self.metadata, dates, self.inference)
        return found


def load(path: str | PathLike[str], device: str = "auto", precision: str = "fp32") -> Model:
    """A trained model from a run folder (its best network), a weights file, or the authors' checkpoint.

    Raises:
        WeightsError: there is nothing to load, or it cannot be read.
    """
    network, metadata = load_network(existing_run(path))
    return Model(network, metadata, inference_on(choose_device(device), precision)).eval()
