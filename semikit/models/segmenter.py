"""Encoder, decoder and classifier: the network of tasks that label pixels."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn import functional

from semikit.core.channel_attention import Bottleneck
from semikit.core.network import Features, Network
from semikit.errors import ConfigError
from semikit.models.decoders._base import Decoder
from semikit.models.encoders.blocks import blocks_of
from semikit.models.encoders.create import build_encoder
from semikit.models.encoders.encoder import Encoder
from semikit.models.encoders.lora import merged
from semikit.models.settings import ModelSettings
from semikit.registry import DECODERS

_WIDEST = 512
"""Channels that attend where nobody says how many, at most: as many as published (MiT-B5)."""


@final
class Segmenter(Network):
    """Images (B, C, H, W), normalised by `mean` and `std` -> logits (B, K, H, W)."""

    def __init__(self, encoder: Encoder, decoder: Decoder, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.classifier = nn.Conv2d(decoder.embed_dim, num_classes, 1)
        self.bottleneck: Bottleneck | None = None
        self.widths = encoder.widths
        self.embed_dim = decoder.embed_dim
        self.num_classes = num_classes
        self.multiple = encoder.multiple
        self.mean = encoder.mean
        self.std = encoder.std

    def encode(self, images: Tensor) -> Features:
        """Images (B, C, H, W) -> features.

        Raises:
            ConfigError: when a side is not a multiple of `multiple`.
        """
        size = (images.shape[-2], images.shape[-1])
        for side in size:
            if side % self.multiple or side == 0:
                down = side // self.multiple * self.multiple
                near = " or ".join(str(value) for value in (down, down + self.multiple) if value)
                raise ConfigError(
                    f"an image of {size[0]}x{size[1]}: the encoder needs sides that are a multiple of "
                    f"{self.multiple}. Instead of {side} take {near}."
                )
        return Features(self.encoder(images), size)

    def embed(self, features: Features) -> Tensor:
        """Features -> (B, embed_dim, h, w)."""
        levels = features.levels
        if self.bottleneck is not None:
            levels = (*levels[:-1], self.bottleneck(levels[-1], features.attend))
        embedding: Tensor = self.decoder(levels)
        return embedding

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        """Embedding (B, embed_dim, h, w) -> logits (B, K, *size), bilinear with aligned corners (as released)."""
        return functional.interpolate(self.classifier(embedding), size=size, mode="bilinear", align_corners=True)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The encoder's parameters; none when it is frozen, the factors alone when it is adapted."""
        return [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]

    def blocks(self) -> list[nn.Module]:
        """Those of the encoder."""
        return blocks_of(self.encoder)

    def exported(self) -> dict[str, Tensor]:
        """The weights under the names of the same network built with `lora=None`: factors are merged into theirs."""
        state: dict[str, Tensor] = self.state_dict()
        return state if self.encoder.lora is None else merged(state, self.encoder.lora)


def build_segmenter(settings: ModelSettings, num_classes: int, dates: int = 1) -> Segmenter:
    """The network these settings describe, whose decoder takes the features of so many dates, one after the other;
    random parts are drawn from torch's global generator.

    Raises:
        UnknownNameError: for an encoder or decoder nobody knows.
        ConfigError: for settings that do not fit together.
        WeightsError: when the encoder's weights cannot be had or do not fit.
    """
    if settings.decoder != "auto":
        DECODERS.check(settings.decoder)
    encoder = build_encoder(settings)
    widths = tuple(dates * width for width in encoder.widths)
    decoder = DECODERS.get(resolve_decoder(settings, encoder))(
        widths, encoder.reductions, channels=settings.decoder_channels, level_widths=settings.decoder_widths
    )
    segmenter = Segmenter(encoder, decoder, num_classes)
    if settings.channel_attention is not None:
        width, heads = settings.channel_attention.width or min(widths[-1], _WIDEST), settings.channel_attention.heads
        segmenter.bottleneck = Bottleneck(widths[-1], width, heads, encoder.reductions[-1])
    return segmenter


def resolve_decoder(settings: ModelSettings, encoder: Encoder) -> str:
    """The decoder's name: for `auto`, dpt where all levels have one resolution, else deeplabv3plus."""
    if settings.decoder != "auto":
        return settings.decoder
    return "dpt" if len(set(encoder.reductions)) == 1 else "deeplabv3plus"
