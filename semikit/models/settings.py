"""Settings of the network: encoder, decoder, weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from semikit.core.settings import Settings


def _as_tuple(value: Any) -> Any:
    """YAML knows lists only."""
    return tuple(value) if isinstance(value, list) else value


Indices = Annotated[tuple[int, ...], BeforeValidator(_as_tuple)]


class ModelSettings(Settings):
    """The network of a task on pixels."""

    encoder: str = "dinov2-small"
    """Short name (`semikit list models`) or any timm name that yields features."""

    decoder: str = "auto"
    """`auto` (dpt for transformers, deeplabv3plus for convolutional encoders) or a name of `semikit list models`."""

    weights: str = "pretrained"
    """`pretrained` (through timm), `none` (random), or a file of encoder weights (.safetensors, .pth, .pt)."""

    freeze: bool = False
    """Whether the encoder keeps its weights: no gradient, no graph, always in eval mode."""

    in_channels: int = Field(default=3, ge=1)
    """Channels of an image."""

    encoder_layers: Indices | None = None
    """Transformers: blocks whose output is read (from 0); unset: as released, or the ends of the quarters."""

    encoder_args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the timm constructor, e.g. {depth: 2, embed_dim: 32, num_heads: 2, drop_path_rate: 0.1}."""

    output_stride: Literal[8, 16, 32] | None = None
    """Convolutional: input pixels per position of the last level, by dilation; unset: 16 for deeplabv3plus where the
    encoder can be dilated, otherwise the encoder's own."""

    decoder_channels: int | None = Field(default=None, ge=1)
    """Channels inside the decoder; unset: by the encoder's width (dpt), 256 (deeplabv3plus)."""

    decoder_widths: Indices | None = None
    """DPT on transformers: channels of the four reassembled levels; unset: by the encoder's width."""
