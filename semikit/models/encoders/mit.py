"""Mix transformers (MiT-B0 … B5, the encoders of SegFormer), which timm has not: built by transformers.

transformers is imported only when such an encoder is built. Source: Xie et al., "SegFormer", arXiv 2105.15203.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Any, final

from torch import Tensor

from semikit.errors import ConfigError, WeightsError
from semikit.models.encoders.encoder import Encoder
from semikit.models.encoders.names import ENCODERS, mit_url
from semikit.models.settings import ModelSettings
from semikit.models.weights.file import read_weights
from semikit.models.weights.hub import reach_hub, what_to_fetch
from semikit.models.weights.pretrained import load_encoder

DEPTHS = {
    "mit-b0": (2, 2, 2, 2),
    "mit-b1": (2, 2, 2, 2),
    "mit-b2": (3, 4, 6, 3),
    "mit-b3": (3, 4, 18, 3),
    "mit-b4": (3, 8, 27, 3),
    "mit-b5": (3, 6, 40, 3),
}
"""Blocks of the four stages."""

_WIDTHS = {"mit-b0": (32, 64, 160, 256)}
_WIDE = (64, 128, 320, 512)
_FILES = ("model.safetensors", "pytorch_model.bin")


@final
class Mit(Encoder):
    """A mix transformer: levels at strides 4, 8, 16, 32 of images of any size that its first stage can reduce.

    Checkpoints are the same under every version of transformers, whatever it calls the parameters.
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        config = backbone.config
        self.widths = tuple(config.hidden_sizes)
        self.reductions = tuple(accumulate(config.strides, mul))
        self.multiple = 1
        # The convolution that reduces a stage's keys and values is not padded: it needs `ratio` positions a side.
        self.least = max(step * (ratio - 1) + 1 for step, ratio in zip(self.reductions, config.sr_ratios, strict=True))
        self.register_load_state_dict_pre_hook(_any_version)  # type: ignore[no-untyped-call]

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, D_l, h_l, w_l), finest first.

        Raises:
            ConfigError: for an image with a side of less than `least`.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.least:
            raise ConfigError(
                f"an image of {height}x{width}: a mix transformer needs sides of at least {self.least} pixels. "
                "Give larger images, or choose another encoder."
            )
        if not hasattr(self.backbone, "stages"):  # transformers 4
            return tuple(self.backbone(images, output_hidden_states=True, return_dict=True).hidden_states)
        maps = [images]
        for stage in self.backbone.stages:  # one by one: the hooks that would gather them cannot be compiled
            maps.append(stage(maps[-1]))
        return tuple(maps[1:])


def build_mit(name: str, settings: ModelSettings) -> Mit:
    """The mix transformer of this name with its weights; no stochastic depth unless `encoder_args` asks for it.

    Raises:
        ConfigError: when transformers is not installed, or for settings it does not take.
        WeightsError: when the weights cannot be had or do not fit.
    """
    if settings.encoder_layers is not None:
        raise ConfigError(f"encoder_layers {list(settings.encoder_layers)}: {name} is a pyramid; leave it unset.")
    if settings.output_stride is not None:
        raise ConfigError(f"output_stride {settings.output_stride}: {name} cannot be dilated; leave it unset.")
    library = _transformers(name)
    backbone = _random(library, name, {"num_channels": settings.in_channels, **settings.encoder_args})
    backbone.pretrained_cfg = {"first_conv": in_layout_of(backbone, FIRST)}
    if settings.weights == "pretrained":
        repository = ENCODERS[name].repository
        load_encoder(backbone, _published(library, name, repository, settings.encoder_args), repository)
    elif settings.weights != "none":
        load_encoder(backbone, renamed(read_weights(Path(settings.weights)), backbone), settings.weights)
    return Mit(backbone)


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f'{name} is built by transformers, which is not installed ({error}). Install it: pip install "semikit[mit]"'
        ) from error
    return transformers


def _random(library: Any, name: str, args: Mapping[str, Any]) -> Any:
    default = {"depths": DEPTHS[name], "hidden_sizes": _WIDTHS.get(name, _WIDE), "drop_path_rate": 0.0}
    known = library.SegformerConfig().to_dict()  # its constructor takes any key and forgets it
    unknown = [key for key in args if key not in known]
    try:
        if unknown:
            raise TypeError(f"unknown {', '.join(unknown)}")
        return library.SegformerModel(library.SegformerConfig(**{**default, **args})).train()
    except Exception as error:  # what a wrong value raises differs between versions
        raise ConfigError(
            f"{name} cannot be built with {dict(args)}: {error}. Give encoder_args entries of transformers' "
            "SegformerConfig, e.g. {depths: [1, 1, 1, 1], hidden_sizes: [8, 16, 40, 64], drop_path_rate: 0.1}."
        ) from error


def _published(library: Any, name: str, repository: str, args: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state of the published encoder, whose images have three channels."""
    config = _random(library, name, {**args, "num_channels": 3}).config
    try:
        reach_hub(repository, _FILES)
        with _silent(library):
            model, report = library.SegformerModel.from_pretrained(repository, config=config, output_loading_info=True)
    except Exception as error:  # whatever a failed download raises differs between versions
        file = f"{name}.bin"
        raise WeightsError(what_to_fetch(name, mit_url(repository), file, error)) from error
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise WeightsError(f"{repository} lacks weights of {name} ({some}, …). Fetch {mit_url(repository)} by hand.")
    state: dict[str, Tensor] = model.state_dict()
    return state


@contextmanager
def _silent(library: Any) -> Iterator[None]:
    """Without transformers' report that the classifier in the file is left out; errors and downloads still show."""
    logging = library.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _any_version(module: Any, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Before a state is loaded: its names as the installed transformers has them, in place."""
    start = f"{prefix}backbone."
    for name in [name for name in state if name.startswith(start)]:
        state[start + in_layout_of(module.backbone, name.removeprefix(start))] = state.pop(name)


FIRST = "stages.0.patch_embeddings.proj"
"""The convolution that sees the image, under its present name."""

_PARTS = (  # of a block: now, as transformers began, as the authors published
    ("layernorm_before", "layer_norm_1", "norm1"),
    ("attention.q_proj", "attention.self.query", "attn.q"),
    ("attention.k_proj", "attention.self.key", "attn.k"),
    ("attention.v_proj", "attention.self.value", "attn.v"),
    ("attention.o_proj", "attention.output.dense", "attn.proj"),
    ("attention.sequence_reduction.sequence_reduction", "attention.self.sr", "attn.sr"),
    ("attention.sequence_reduction.layer_norm", "attention.self.layer_norm", "attn.norm"),
    ("layernorm_after", "layer_norm_2", "norm2"),
    ("mlp.fc1", "mlp.dense1", "mlp.fc1"),
    ("mlp.fc2", "mlp.dense2", "mlp.fc2"),
)
_OLD = (
    (re.compile(r"^encoder\.block\.(\d)\.(\d+)\."), "stages.{}.blocks.{}."),
    (re.compile(r"^encoder\.patch_embeddings\.(\d)\."), "stages.{}.patch_embeddings."),
    (re.compile(r"^encoder\.layer_norm\.(\d)\."), "stages.{}.layer_norm."),
)
_AUTHORS = (  # they count stages from 1
    (re.compile(r"^block(\d)\.(\d+)\."), "stages.{}.blocks.{}."),
    (re.compile(r"^patch_embed(\d)\.norm\."), "stages.{}.patch_embeddings.layer_norm."),
    (re.compile(r"^patch_embed(\d)\."), "stages.{}.patch_embeddings."),
    (re.compile(r"^norm(\d)\."), "stages.{}.layer_norm."),
)
_BACK = (
    (re.compile(r"^stages\.(\d)\.blocks\.(\d+)\."), "encoder.block.{}.{}."),
    (re.compile(r"^stages\.(\d)\.patch_embeddings\."), "encoder.patch_embeddings.{}."),
    (re.compile(r"^stages\.(\d)\.layer_norm\."), "encoder.layer_norm.{}."),
)
_OWNERS = ("segformer.", "backbone.")
_HEADS = ("classifier.", "decode_head.", "head.")


def renamed(state: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """A published state, the authors' or transformers', under the model's names: without classifier or decoder, and
    the authors' joint keys and values as two.
    """
    found: dict[str, Tensor] = {}
    for full, value in state.items():
        name = full
        for owner in _OWNERS:
            name = name.removeprefix(owner)
        if name.startswith(_HEADS):
            continue
        if ".attn.kv." in name:
            for part, half in zip((".attn.k.", ".attn.v."), value.chunk(2), strict=True):
                found[in_layout_of(model, name.replace(".attn.kv.", part))] = half
        else:
            found[in_layout_of(model, name)] = value
    return found


def in_layout_of(model: Any, name: str) -> str:
    """A name of any of the three layouts as this SegformerModel has it; a name of none of them is left as it is."""
    name = _present(name)
    return name if hasattr(model, "stages") else _rewritten(name, _BACK, 0, 1)


def _present(name: str) -> str:
    for column, (layout, origin) in enumerate(((_OLD, 0), (_AUTHORS, 1)), start=1):
        if any(pattern.match(name) for pattern, _ in layout):
            return _rewritten(name, layout, column, 0, origin)
    return name


def _rewritten(
    name: str, layout: tuple[tuple[re.Pattern[str], str], ...], given: int, wanted: int, origin: int = 0
) -> str:
    """The name with the beginning of another layout and, inside a block, the part of column `wanted`."""
    for pattern, form in layout:
        found = pattern.match(name)
        if found is None:
            continue
        stage, *block = found.groups()
        start, rest = form.format(int(stage) - origin, *block), name[found.end() :]
        parts = {row[given]: row[wanted] for row in _PARTS} if block else {}
        part = next((part for part in parts if rest.startswith(f"{part}.")), None)
        return start + (rest if part is None else parts[part] + rest.removeprefix(part))
    return name
