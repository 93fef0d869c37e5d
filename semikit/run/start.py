"""A run that begins with what another has learned (`--from`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semikit.core.network import Network
from semikit.core.task import Task
from semikit.errors import ConfigError, InputError, some
from semikit.run.config import Config
from semikit.run.folder import existing_run
from semikit.run.load import load_network
from semikit.training.reporter import Reporter

_HEAD = "classifier."
_CHOSEN = ("encoder", "decoder", "in_channels", "ordered", "channel_attention")
"""Settings of the model that make another network of it, and that a user knows of."""


def begin_with(config: Config, network: Network, task: Task, reporter: Reporter) -> None:
    """Put the best weights of the run or file that `train.start_from` names into a new network. Where its classes are
    others the last layer stays as it was drawn, which is said.

    Raises:
        InputError: there is no such run, or its network is another one.
    """
    given = str(config.train.start_from)
    other, metadata = load_network(existing_run(given))
    if getattr(config.model, "lora", None) is not None:
        raise ConfigError(f"--from {given}: model.lora adapts pretrained weights alone. Leave one of the two out.")
    own = {"task": config.task, **task.metadata()}
    same = list(metadata["class_names"]) == list(own["class_names"])
    state = network.state_dict()
    found = {name: value for name, value in other.state_dict().items() if same or _HEAD not in name}
    wrong = _differences(metadata, own)
    compared = {name for name in (*state, *found) if same or _HEAD not in name}
    misfits = sorted(name for name in compared if _shape(state, name) != _shape(found, name))
    if wrong or misfits:
        raise InputError(
            f"--from {given}: its network is another one: {'; '.join(wrong) or f'it differs in {some(misfits)}'}. Ask "
            "for the same network, or leave out --from."
        )
    network.load_state_dict(found, strict=False)
    best = metadata.get("best", {})
    what = f"the {best['model']} of iteration {best['iteration']}" if "iteration" in best else "the weights"
    classes = f"{_counted(metadata['class_names'])} there, {_counted(own['class_names'])} here"
    head = "" if same else f"; its classes are others ({classes}), so the last layer begins anew"
    reporter.notice(f"begins with {what} of {given}{head}")


def _differences(metadata: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """What was chosen otherwise, a phrase each."""
    pairs = {"task": (metadata["task"], own["task"])}
    pairs |= {f"model.{name}": (metadata["model"].get(name), own["model"].get(name)) for name in _CHOSEN}
    pairs |= {f"{name} of the images": (_rounded(metadata[name]), _rounded(own[name])) for name in ("mean", "std")}
    return [f"{what} is {there} there, {here} here" for what, (there, here) in pairs.items() if there != here]


def _shape(state: Mapping[str, Any], name: str) -> Any:
    return state[name].shape if name in state else None


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)}: {some(names)}"
