"""A network as it is given away: from an image as a service has it to logits or probabilities; ONNX files of such."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from semikit.augment.normalise import channel_statistics, normalize, to_float
from semikit.core.network import Features, Network
from semikit.errors import ConfigError, InputError, WeightsError
from semikit.settings.base import Settings

EXTRA = 'pip install "semikit[export]"'
KEY = "export"
"""The entry of the metadata that holds the `Interface`."""
INPUTS = {1: ("image",), 2: ("before", "after")}
"""What the inputs are called, by the number of dates."""

AXES = ("batch", "channels", "height", "width")

Arrays = Sequence[NDArray[Any]]


@final
class Interface(Settings):
    """What an exported network takes and gives."""

    input: Literal["float", "uint8", "normalised"] = "float"
    """float: values 0..1, normalised inside; uint8: 0..255, scaled and normalised inside; normalised: as trained."""
    softmax: bool = False
    """Whether probabilities come out, not logits."""
    fp16: bool = False
    """Whether weights and computation have 16 bits; inputs and outputs have 32."""
    size: tuple[int, int] | None = None
    """(H, W) of all images; null: any with sides that are a multiple of `multiple`."""
    multiple: int = Field(1, ge=1)
    """What the sides of images have to be a multiple of."""

    @property
    def output(self) -> str:
        """What the output is called."""
        return "probabilities" if self.softmax else "logits"

    def encoded(self, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Normalised images (..., C, H, W) as the exported network takes them; the inverse of what it begins with."""
        if self.input == "normalised":
            return images
        plain = images * std + mean
        return (plain * 255).round().clamp(0, 255).to(torch.uint8) if self.input == "uint8" else plain


@final
class Exportable(nn.Module):
    """A network behind its interface: an argument (B, C, H, W) for each date -> logits or probabilities (B, K, *S)."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, interface: Interface) -> None:
        super().__init__()
        mean, std = channel_statistics(network.mean, network.std)  # type: ignore[arg-type]
        self.network, self.interface = deepcopy(network).half() if interface.fp16 else network, interface
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, *dates: Tensor) -> Tensor:
        """Normalise where asked for, predict, softmax where asked for."""
        images = dates[0] if len(dates) == 1 else torch.stack(dates, 1)
        if self.interface.input == "uint8":
            images = to_float(images)
        if self.interface.input != "normalised":
            images = normalize(images, self.mean, self.std)
        logits: Tensor = self.network(images.half() if self.interface.fp16 else images).float()
        return logits.softmax(1) if self.interface.softmax else logits


def onnx_session(source: Path | bytes) -> Callable[[Arrays], NDArray[Any]]:
    """What runs the network of an ONNX file on the CPU: arrays in the order of its inputs -> its output.

    Raises:
        WeightsError: the file is damaged, or no ONNX file.
    """
    return _runner(_opened(source))


def read_onnx(path: Path) -> tuple[OnnxNetwork, dict[str, Any]]:
    """The network of a file of `semikit export`, and its metadata.

    Raises:
        InputError: onnxruntime is not installed.
        WeightsError: the file is damaged, or another program wrote it.
    """
    session = _opened(path)
    entries = session.get_modelmeta().custom_metadata_map
    try:
        raw = {key: json.loads(value) for key, value in entries.items()}
        return OnnxNetwork(_runner(session), raw, Interface.model_validate(raw[KEY])), raw
    except (LookupError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} does not say how it is used ({type(error).__name__}): files of `semikit export` do. Give one of "
            "them, or the run folder."
        ) from error


def _opened(source: Path | bytes) -> Any:
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    options.intra_op_num_threads = torch.get_num_threads()
    given = source if isinstance(source, bytes) else str(source)
    try:
        return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # what onnxruntime raises has no common class
        where = "the exported network" if isinstance(source, bytes) else f"{source} is damaged or no ONNX file: it"
        raise WeightsError(f"{where} cannot be opened by onnxruntime ({_first_line(error)}).") from error


def _runner(session: Any) -> Callable[[Arrays], NDArray[Any]]:
    names = [one.name for one in session.get_inputs()]

    def run(arrays: Arrays) -> NDArray[Any]:
        found: NDArray[Any] = session.run(None, dict(zip(names, arrays, strict=True)))[0]
        return found

    return run


def tidy_onnx(model: Any, metadata: Mapping[str, Any]) -> None:
    """Names for the sizes, the metadata, and nothing of where and how the graph was traced."""
    from semikit import __version__

    graph = model.graph
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.metadata_props[:]
    names = dict(zip((one.dim_param for one in graph.input[0].type.tensor_type.shape.dim), AXES, strict=False))
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = names.get(axis.dim_param, axis.dim_param)
    del model.metadata_props[:]
    model.producer_name, model.producer_version = "semikit", __version__
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)


def onnxruntime() -> Any:
    """The package.

    Raises:
        InputError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"ONNX files need onnxruntime, which is not installed ({error}). Install it: {EXTRA}"
        ) from None
    return onnxruntime


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@final
class OnnxNetwork(Network):
    """Images normalised as those of the run (B, *T, C, H, W) -> logits (B, K, *S), by onnxruntime on the CPU.

    What the exported network does itself, normalisation and softmax, is undone before and after it, so that it predicts
    as the network it was made of does.
    """

    def __init__(
        self, run: Callable[[Arrays], NDArray[Any]], metadata: Mapping[str, Any], interface: Interface
    ) -> None:
        super().__init__()
        self.run, self.interface = run, interface
        self.widths, self.embed_dim, self.num_classes = (), 0, len(metadata["class_names"])
        self.multiple = interface.multiple
        self.mean, self.std = tuple(metadata["mean"]), tuple(metadata["std"])

    def encode(self, images: Tensor) -> Features:
        """The images themselves: nothing lies between input and output.

        Raises:
            ConfigError: images that are larger than the size of the file.
        """
        return Features((images,), (images.shape[-2], images.shape[-1]))

    def embed(self, features: Features) -> Tensor:
        """The images."""
        return features.levels[0]

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        """The images of `size` -> logits; smaller ones than those of a fixed size are filled up on the right and below
        with the mean colour.

        Raises:
            ConfigError: larger ones than those of a fixed size.
        """
        height, width = self.interface.size or size
        if size[0] > height or size[1] > width:
            raise ConfigError(
                f"images of {size[0]}x{size[1]} pixels: this ONNX file takes {height}x{width}. Leave out --tile and "
                "the scales of --tta, or export without --size."
            )
        filled = nn.functional.pad(embedding.float().cpu(), (0, width - size[1], 0, height - size[0]))
        inputs = self.interface.encoded(filled, *channel_statistics(self.mean, self.std))
        dates = [inputs] if inputs.dim() == 4 else list(inputs.unbind(1))
        found = torch.from_numpy(self.run([np.ascontiguousarray(date.numpy()) for date in dates]))
        logits = found.clamp_min(torch.finfo(found.dtype).tiny).log() if self.interface.softmax else found
        whole = logits if logits.dim() == 2 else logits[..., : size[0], : size[1]]
        return whole.to(embedding.device)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """None: the file holds the weights."""
        return []
