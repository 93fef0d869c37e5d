"""A trained network as a file that other programs run: ONNX, or torch.export. What is written was compared first."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semikit.augment.normalise import channel_statistics, normalize
from semikit.core.network import Network
from semikit.errors import ConfigError, InputError, RunError, SemikitError
from semikit.files import OUTPUT, make_folder, write_atomically
from semikit.inference.class_choice import AUTO, threshold_of
from semikit.inference.exported import (
    AXES,
    EXTRA,
    INPUTS,
    KEY,
    Arrays,
    Exportable,
    Interface,
    OnnxNetwork,
    onnx_session,
    onnxruntime,
    tidy_onnx,
)
from semikit.inference.windows import resized
from semikit.models.encoders.same_padding import pads_by_size, traceable
from semikit.registry import TASKS
from semikit.run import build
from semikit.run.annotation_tools import X_ANYLABELING, check_x_anylabeling, write_x_anylabeling
from semikit.run.begun import read_begun
from semikit.run.config import resolve
from semikit.run.load import load_network
from semikit.settings.base import Settings
from semikit.training.checkpoint import BEST

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
TORCH_METADATA = "semikit.json"
"""The extra file of a .pt2 that holds what the metadata of an ONNX file do."""
_LARGEST = 2_000_000_000
"""Bytes of an ONNX file, which are those of a protocol buffer."""
_STEP = 32
"""Sides of networks that take any number of pixels are traced as multiples of this: sizes inside are then plain
products, where those of any number are expressions that grow with every layer, up to minutes. The graph holds for
others too, which is tried.
"""
_IMAGES = 3

Run = Callable[[Arrays], NDArray[Any]]


@final
class ExportSettings(Settings):
    """What `semikit export` writes."""

    format: Literal["onnx", "torch"] = "onnx"
    """onnx, or torch: a program of torch.export."""
    input: Literal["float", "uint8", "normalised"] = "float"
    """See `Interface`."""
    softmax: bool = False
    """Probabilities come out, not logits."""
    fp16: bool = False
    """Weights and computation of 16 bits."""
    size: int | None = None
    """Side of all images, pixels; null: any, where the network allows."""
    tool: Literal["x-anylabeling"] | None = None
    """An annotation program, for which the file that it loads is written too."""


@final
@dataclass(frozen=True)
class Exported:
    """What came of an export: the file, what it takes and gives, how far it is from the network it was made of."""

    path: Path
    interface: Interface
    metadata: Mapping[str, Any]
    difference: float
    """Largest difference to torch; of fp16 of the probabilities, else of the output."""
    equal: float
    """Share of equal labels, 0..1."""
    real: bool
    """Whether it was compared on images of the run, not on made ones."""
    notices: tuple[str, ...] = ()


def export_network(path: Path, out: Path | None, settings: ExportSettings) -> Exported:
    """Write the network of a run, weights file or checkpoint for other programs.

    Raises:
        InputError: options that do not fit, a package that is not installed.
        RunError: torch cannot export the network, what it exports predicts otherwise, or the disk is full.
    """
    if settings.format == "onnx":
        _need_packages()
    network, metadata = load_network(path)
    if isinstance(network, OnnxNetwork):
        raise InputError(f"{path} is exported already. Give the run folder or its weights file.")
    if settings.tool is not None:
        check_x_anylabeling(metadata, settings.format, settings.input)
    target = _target(path, out, settings.format)
    sides = _sides(network, metadata, settings)
    images = _own_images(path, metadata, network)
    maker = _Maker(network, metadata, settings, sides, images)
    content, exported = maker.made(target)
    write_atomically(target, lambda temporary: _write(temporary, content), remedy=OUTPUT)
    if settings.tool is None:
        return exported
    beside = write_x_anylabeling(target, metadata)
    return replace(exported, notices=(*exported.notices, f"{beside} is what {X_ANYLABELING} loads as a custom model"))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _need_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"ONNX files are written with onnx and onnxscript ({error}). Install them: {EXTRA}") from None
    onnxruntime()


def _target(path: Path, out: Path | None, format: str) -> Path:
    """Where the file goes: beside the weights unless said otherwise."""
    suffix = SUFFIXES[format]
    if out is None:
        return (path / "weights" / BEST if path.is_dir() else path).with_suffix(suffix)
    if out.suffix.lower() != suffix:
        raise InputError(f"-o {out}: a file of --format {format} ends in {suffix}. Use {out.with_suffix(suffix)}.")
    if out.is_dir():
        raise InputError(f"-o {out}: there is a folder of that name. Choose another -o.")
    make_folder(out.parent)
    return out


def _sides(network: Network, metadata: Mapping[str, Any], settings: ExportSettings) -> tuple[int, int]:
    """(H, W) of the images that the network is exported with."""
    multiple = network.multiple
    if "crop" not in metadata:
        side = metadata["size"]
        if settings.size is not None:
            raise InputError("--size: a network of whole images takes them as they are scored. Leave it out.")
        return (side, side) if side is not None else tuple(metadata["side"])
    side = settings.size or -(-metadata["crop"] // multiple) * multiple
    if side % multiple:
        near = " or ".join(str(one) for one in (side // multiple * multiple, -(-side // multiple) * multiple) if one)
        raise ConfigError(f"--size {side} is not a multiple of the patch, {multiple}. Use {near}.")
    return side, side


def _own_images(path: Path, metadata: Mapping[str, Any], network: Network) -> list[NDArray[np.uint8]]:
    """Up to three validation images (*T, H, W, C) of the run; none where the data are not there."""
    folder = path if path.is_dir() else path.parent.parent
    if not (folder / "config.yaml").is_file():
        return []
    try:
        source = cast(Any, build.build_task(resolve(read_begun(folder)))).learned.val
        indices = range(min(_IMAGES, len(source)))
        found = [source.image(index, _corner(source.extent(index)))[0] for index in indices]
    except SemikitError:  # moved or taken away: they are not needed
        return []
    return [image for image in found if image.shape[-1] == len(network.mean)]  # type: ignore[arg-type]


def _corner(extent: tuple[int, int] | None) -> Any:
    from semikit.raster.region import Region

    return None if extent is None else Region(0, 0, min(extent[0], 1024), min(extent[1], 1024))


@final
@dataclass(frozen=True)
class _Maker:
    """Exports one network."""

    network: Network
    metadata: Mapping[str, Any]
    settings: ExportSettings
    sides: tuple[int, int]
    images: Sequence[NDArray[np.uint8]]

    def made(self, path: Path) -> tuple[bytes, Exported]:
        """The content of the file, compared; of any size where the network allows, else of one."""
        notices: list[str] = []
        for multiple in self._multiples():
            try:
                return self._attempt(path, None, multiple, tuple(notices))
            except Exception as error:  # what torch's exporter raises has no common class
                what = "of any size" if multiple == self.network.multiple else f"with sides a multiple of {multiple}"
                notices.append(f"images {what} could not be exported ({_first_line(error)})")
        height, width = self.sides
        notices.append(f"all images have {height}x{width} pixels")
        if "crop" in self.metadata:
            notices.append(f"`semikit predict` gives it windows of {height} pixels, also of photos")
        try:
            return self._attempt(path, self.sides, self.network.multiple, tuple(notices))
        except SemikitError:
            raise
        except Exception as error:
            raise RunError(
                f"torch cannot export this network to {self.settings.format} ({type(error).__name__}: "
                f"{_first_line(error)}). Nothing was written."
            ) from error

    def _multiples(self) -> tuple[int, ...]:
        """What the sides may have to be a multiple of, one after the other; none where all images have one size.

        The export of a pyramid of windows to any size does not come to an end.
        """
        if self.settings.size is not None or "crop" not in self.metadata:
            return ()
        if self.network.multiple == 1:
            return (_STEP,) if self.settings.format == "torch" and pads_by_size(self.network) else (1, _STEP)
        reductions = set(getattr(getattr(self.network, "encoder", None), "reductions", ()))
        return (self.network.multiple,) if len(reductions) == 1 else ()

    def _attempt(
        self, path: Path, size: tuple[int, int] | None, multiple: int, notices: tuple[str, ...]
    ) -> tuple[bytes, Exported]:
        if size is None and multiple > self.network.multiple:
            notices = (*notices, f"`semikit predict` brings whole images to the nearest multiple of {multiple}")
        interface = Interface(
            input=self.settings.input, softmax=self.settings.softmax, fp16=self.settings.fp16, size=size,
            multiple=multiple,
        )  # fmt: skip
        dates = TASKS.get(self.metadata["task"]).dates[0]
        batches = self._batches(interface, dates)
        plain = Exportable(self.network, interface.model_copy(update={"fp16": False})).eval()
        with torch.no_grad():
            expected = [plain(*batch) for batch in batches]
        network = traceable(self.network, any_size=multiple == 1) if size is None else self.network
        module = Exportable(network, interface).eval()
        metadata = self._told(interface)
        content, run = _FORMATS[self.settings.format](module, batches[0], metadata)
        difference, equal = _compared(run, batches, expected, interface)
        # Of logits of thousands, the sixth digit: torch itself has no more in 32 bits.
        limit = 1e-2 if interface.fp16 else max(1e-3, 1e-6 * max(float(one.abs().max()) for one in expected))
        if not difference <= limit:
            raise RunError(
                f"the exported network differs from the one it was made of by {difference:.2g}, more than {limit:g}: "
                "nothing was written. "
                + ("Export without --fp16." if interface.fp16 else "Please report the encoder and decoder.")
            )
        return content, Exported(path, interface, metadata, difference, equal, bool(self.images), notices)

    def _batches(self, interface: Interface, dates: int) -> list[tuple[Tensor, ...]]:
        """Two images, not square where they may be, and one of another size where it may have one; an input a date."""
        height, width = self.sides
        sizes = [(height, width), (height, width)]
        if interface.size is None:
            step = _step(interface)
            height, width = (max(-(-side // step), 2) * step for side in self.sides)
            more = 1 if interface.multiple == 1 else 0
            sizes = [(height, width + step), (height + 2 * step + more, width - more)]
        images = self.images or [_pattern(len(self.network.mean), dates, seed) for seed in range(_IMAGES)]  # type: ignore[arg-type]
        chosen = [images[number % len(images)] for number in range(_IMAGES)]
        tensors = [torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, -3).float() for image in chosen]
        parts = [tensors[:2], tensors[2:]]
        batches = []
        for part, size in zip(parts, sizes, strict=True):
            stacked = torch.stack([resized(one[None], size)[0] for one in part]).round().clamp(0, 255)
            inputs = stacked.to(torch.uint8) if interface.input == "uint8" else stacked / 255
            if interface.input == "normalised":
                inputs = normalize(inputs, *channel_statistics(self.network.mean, self.network.std))  # type: ignore[arg-type]
            by_date = [inputs] if dates == 1 else inputs.unbind(1)
            batches.append(tuple(date.contiguous() for date in by_date))  # as strides make the graph
        return batches

    def _told(self, interface: Interface) -> dict[str, Any]:
        """The metadata of the file: those of the weights, and what it takes and gives."""
        found = {**self.metadata, KEY: interface.model_dump(mode="json")}
        if "crop" in found:
            stated = threshold_of(found) if found.get("evaluate", {}).get("threshold") == AUTO else None
            evaluate = dict(found["evaluate"]) | ({} if stated is None else {"threshold": stated})
            if interface.size is not None:
                found["crop"] = interface.size[0]
                evaluate |= {"window": "sliding", "size": interface.size[0]}
            found["evaluate"] = evaluate
        return found


def _pattern(channels: int, dates: int, seed: int) -> NDArray[np.uint8]:
    """An image (*T, 64, 64, C) of smooth patches."""
    rng = np.random.default_rng(seed)
    shape = (*((dates,) if dates > 1 else ()), 16, 16, channels)
    return rng.integers(0, 256, shape, np.uint8).repeat(4, -3).repeat(4, -2)


def _compared(
    run: Run, batches: Sequence[tuple[Tensor, ...]], expected: Sequence[Tensor], interface: Interface
) -> tuple[float, float]:
    """The largest difference and the share of equal labels."""
    largest, equal, count = 0.0, 0, 0
    for batch, wanted in zip(batches, expected, strict=True):
        found = torch.from_numpy(run([date.numpy() for date in batch])).float()
        equal += int((found.argmax(1) == wanted.argmax(1)).sum())
        count += found.argmax(1).numel()
        if interface.fp16 and not interface.softmax:
            found, wanted = found.softmax(1), wanted.softmax(1)
        largest = max(largest, float((found - wanted).abs().nan_to_num(torch.inf).max()))
    return largest, equal / count


def _program(module: Exportable, batch: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """The graph, of any number of images, and of any size where the interface has none."""
    dim: Any = torch.export.Dim
    sides = {}
    if module.interface.size is None:
        sides = {axis: _step(module.interface) * dim(AXES[axis], min=2) for axis in (2, 3)}
    dynamic = tuple({0: dim("batch", min=1), **sides} for _ in batch)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module, batch, dynamic_shapes=(dynamic,), prefer_deferred_runtime_asserts_over_guards=True
        )
    graph = program.graph_module.graph
    for node in [node for node in graph.nodes if node.target is torch.ops.aten._assert_scalar.default]:
        graph.erase_node(node)  # what the tracer supposed of sizes, of layout in memory above all, not what has to hold
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def _step(interface: Interface) -> int:
    """What the sides are multiples of in the traced graph."""
    return _STEP if interface.multiple == 1 else interface.multiple


def _onnx(module: Exportable, batch: tuple[Tensor, ...], metadata: Mapping[str, Any]) -> tuple[bytes, Run]:
    """The bytes of an ONNX file, and what runs it.

    Raises:
        InputError: larger than such a file can be.
    """
    size = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    if size > _LARGEST:
        raise InputError(
            f"the weights have {size / 1e9:.1f} GB, and an ONNX file holds 2. Use --format torch"
            + ("." if module.interface.fp16 else ", or --fp16.")
        )
    for part in module.modules():
        if hasattr(part, "fused_attn"):  # of timm: the exporter fails on the fused form with a bias of positions (BEiT)
            part.fused_attn = False  # type: ignore[assignment]
    program = _program(module, batch)
    names = list(INPUTS[len(batch)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported: Any = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=names, output_names=[module.interface.output]
        )
    model = exported.model_proto
    tidy_onnx(model, metadata)
    content: bytes = model.SerializeToString()
    return content, onnx_session(content)


def _torch(module: Exportable, batch: tuple[Tensor, ...], metadata: Mapping[str, Any]) -> tuple[bytes, Run]:
    """The bytes of a .pt2 file, and what runs it."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(_program(module, batch), buffer, extra_files={TORCH_METADATA: json.dumps(metadata)})
        content = buffer.getvalue()
        loaded = torch.export.load(io.BytesIO(content)).module()

    def run(arrays: Arrays) -> NDArray[Any]:
        with torch.no_grad():
            found: NDArray[Any] = loaded(*map(torch.from_numpy, arrays)).numpy()
        return found

    return content, run


_FORMATS: Mapping[str, Callable[..., tuple[bytes, Run]]] = {"onnx": _onnx, "torch": _torch}


def _first_line(error: BaseException) -> str:
    """That of what was wrong in the first place: the exporter wraps it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
