"""Encoder weights: through timm, from a package or a file, or random."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import adapt_input_conv
from torch import Tensor, nn

from semikit.errors import WeightsError
from semikit.models.encoders.names import weight_url
from semikit.models.weights.file import plain_names, read_weights
from semikit.models.weights.hub import reach_hub, what_to_fetch
from semikit.models.weights.packages import packaged_weights
from semikit.models.weights.sensors import SensorWeights

_HEADS = ("head.", "fc.", "classifier.", "head_dist.", "fc_norm.", "attn_pool.", "mask_token")
_RENAMED = {".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}  # SwiGLU of the official DINOv2 giant


def create_backbone(
    name: str,
    weights: str,
    args: Mapping[str, Any],
    features: Mapping[str, Any],
    package: str = "",
    sensor: SensorWeights | None = None,
) -> Any:
    """A timm model with its weights; `features` are the arguments that turn it into a feature extractor, if any.
    `package` is the Python package its pretrained weights come with, if not from timm's hub; `sensor` says which
    channels are taken of weights of a satellite sensor.

    Raises:
        WeightsError: when the weights cannot be had or do not fit.
    """
    if weights == "none":
        return timm.create_model(name, pretrained=False, **args, **features)
    if weights == "pretrained" and not package and sensor is None:
        return _from_timm(name, {**args, **features})
    whole = timm.create_model(name, pretrained=False, **{**args, "num_classes": 0})
    overlay: dict[str, Any] = {"first_conv": None}
    if weights != "pretrained":
        state, source = read_weights(Path(weights)), weights
    elif sensor is not None:
        state, source = sensor.fetched(), sensor.name
    else:
        state, source = packaged_weights(package, name)
        # timm's own weights of these networks are normalised otherwise.
        overlay |= {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    if sensor is not None:
        state = _channels_taken(encoder_names(state), whole, sensor.channels)
    load_encoder(whole, state, source)
    if not features:
        whole.pretrained_cfg.update(overlay)
        return whole
    # timm wraps a model only after loading, and renames some parameters then
    overlay["state_dict"] = whole.state_dict()
    with _silent_builder():
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **args, **features)


@contextmanager
def _silent_builder() -> Iterator[None]:
    """Without timm's warning of layers that a feature extractor leaves out: `load_encoder` has compared them all."""
    logger = logging.getLogger("timm.models._builder")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def load_encoder(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load weights under timm's or the official names into a whole timm model.

    Classifiers are left out, prefixes dropped, a first convolution for three channels is adapted to the model's.

    Raises:
        WeightsError: naming the tensors that are missing, surplus or of another shape.
    """
    wanted = model.state_dict()
    found = _filtered(encoder_names(state), model)
    found = _final_norm(found, wanted)
    _adapt_channels(found, wanted, model)
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    surplus = [name for name in found if name not in wanted and not name.startswith(_HEADS)]
    shapes = [
        f"{name} {list(found[name].shape)} instead of {list(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    problems = (
        _list("missing", missing) + _list("not known to the encoder", surplus) + _list("of another shape", shapes)
    )
    if problems:
        raise WeightsError(
            f"{source} does not fit the encoder: {'; '.join(problems)}. Give the weights of this encoder."
        )
    model.load_state_dict({name: found[name] for name in wanted if name in found}, strict=False)


def encoder_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as timm has them: of a segmenter only the `backbone.`, DINOv2's own names for its gated layers, no mask
    token (never used without masked images).
    """
    state = plain_names(state)
    if any(name.startswith("backbone.") for name in state):
        state = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    if "register_tokens" not in state:  # with registers timm's own renaming needs it as a sign
        state.pop("mask_token", None)
    return {official_name(name): value for name, value in state.items()}


def official_name(name: str) -> str:
    """The timm name of a parameter of the official DINOv2."""
    for theirs, ours in _RENAMED.items():
        name = name.replace(theirs, ours)
    return name


def _from_timm(name: str, args: Mapping[str, Any]) -> Any:
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise WeightsError(f"timm has no pretrained weights for {name!r}: choose model.weights=none, or a file.")
    try:
        if config.hf_hub_id:
            reach_hub(config.hf_hub_id, ("model.safetensors",))
        return timm.create_model(name, pretrained=True, **args)
    except (TypeError, AssertionError):  # arguments, not weights
        raise
    except Exception as error:  # whatever a failed download raises differs between hubs and their versions
        tagged = f"{config.architecture}.{config.tag}" if config.tag else config.architecture
        other = f" (the same weights as first published: {config.url})" if config.url else ""
        raise WeightsError(what_to_fetch(name, weight_url(tagged) + other, f"{tagged}.safetensors", error)) from error


def _filtered(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The state after timm's own renaming for this family (first publications name things differently)."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or set(state) >= set(model.state_dict()):
        return state
    return dict(convert(state, model))


def _final_norm(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Call the last norm as the model does: `norm` or `fc_norm`, by a pooling that the file need not share."""
    for ours, theirs in (("norm.", "fc_norm."), ("fc_norm.", "norm.")):
        if f"{ours}weight" in wanted and f"{ours}weight" not in state and f"{theirs}weight" in state:
            return {ours + key.removeprefix(theirs) if key.startswith(theirs) else key: v for key, v in state.items()}
    return state


def _adapt_channels(state: dict[str, Tensor], wanted: Mapping[str, Tensor], model: nn.Module) -> None:
    """Turn a first convolution over RGB into one over the model's channels, as timm does for its own weights."""
    first = f"{getattr(model, 'pretrained_cfg', {}).get('first_conv')}.weight"
    if first in state and first in wanted and state[first].shape[1] == 3 != wanted[first].shape[1]:
        state[first] = adapt_input_conv(wanted[first].shape[1], state[first])


def _channels_taken(state: dict[str, Tensor], model: nn.Module, channels: Sequence[int]) -> dict[str, Tensor]:
    """Of the first convolution the weights of these channels."""
    first = f"{getattr(model, 'pretrained_cfg', {}).get('first_conv')}.weight"
    if first not in state or state[first].shape[1] <= max(channels):
        return state  # which `load_encoder` refuses
    return {**state, first: state[first][:, list(channels)]}


def _list(what: str, names: list[str]) -> list[str]:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what}: {', '.join(names[:3])}{more}"] if names else []
