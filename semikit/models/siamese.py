"""Two dates through one encoder, their difference or both decoded: the network of change detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from semikit.core.batch_norm import has_batch_norm
from semikit.core.channel_attention import Bottleneck
from semikit.core.network import Features, Network
from semikit.errors import ConfigError
from semikit.models.encoders.encoder import Encoder
from semikit.models.segmenter import Segmenter, build_segmenter
from semikit.models.settings import ModelSettings

DATES = 2


@final
class Siamese(Network):
    """Images (B, 2, C, H, W) of two dates, normalised by `mean` and `std` -> logits (B, K, H, W) of the change.

    The levels are |f(A) - f(B)| of one encoder f, after its final norm, and dropout acts on them (paper section 4.6.1;
    as released). Nothing depends on which date comes first. Where the dates are `ordered` the levels are f(A), then
    f(B).

    Both dates pass the encoder in one call. With batch norm in training mode each has a call of its own, A before B:
    so the statistics are those of one date and the running ones move twice, as in UniMatch V1's change detection.
    """

    def __init__(self, segmenter: Segmenter, ordered: bool = False) -> None:
        super().__init__()
        self.segmenter, self.ordered = segmenter, ordered
        self.norms_batches = has_batch_norm(segmenter.encoder)
        self.widths = tuple((DATES if ordered else 1) * width for width in segmenter.widths)
        self.embed_dim = segmenter.embed_dim
        self.num_classes = segmenter.num_classes
        self.multiple = segmenter.multiple
        self.mean = segmenter.mean
        self.std = segmenter.std

    @property
    def bottleneck(self) -> Bottleneck | None:  # type: ignore[override]
        """What the last level of the change passes before the decoder."""
        return self.segmenter.bottleneck

    @property
    def encoder(self) -> Encoder:
        """The encoder that both dates share."""
        return self.segmenter.encoder

    def encode(self, images: Tensor) -> Features:
        """Images (B, 2, C, H, W) -> features of their change, levels (B, D_l, h_l, w_l).

        Raises:
            ConfigError: for other than two dates, or when a side is not a multiple of `multiple`.
        """
        if images.dim() != 5 or images.shape[1] != DATES:
            raise ConfigError(
                f"images of shape {tuple(images.shape)}: change detection needs {DATES} dates of each place, as "
                "(B, 2, C, H, W): batch, dates, channels, height, width. Stack the earlier and the later image."
            )
        if self.norms_batches and self.encoder.training:
            first, second = (self.segmenter.encode(images[:, date]) for date in range(DATES))
            pairs = zip(first.levels, second.levels, strict=True)
            return Features(tuple(self._joined(a, b) for a, b in pairs), first.size)
        both = self.segmenter.encode(images.flatten(0, 1))
        return Features(tuple(self._joined(level[0::DATES], level[1::DATES]) for level in both.levels), both.size)

    def _joined(self, first: Tensor, second: Tensor) -> Tensor:
        """A level of each date (B, D, h, w) -> that of their change."""
        return torch.cat((first, second), dim=1) if self.ordered else (first - second).abs()

    def embed(self, features: Features) -> Tensor:
        """Features -> (B, embed_dim, h, w)."""
        return self.segmenter.embed(features)

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        """Embedding (B, embed_dim, h, w) -> logits (B, K, *size), as the segmenter's."""
        return self.segmenter.classify(embedding, size)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The encoder's parameters; none when it is frozen, the factors alone when it is adapted."""
        return self.segmenter.encoder_parameters()

    def blocks(self) -> list[nn.Module]:
        """Those of the encoder."""
        return self.segmenter.blocks()

    def exported(self) -> dict[str, Tensor]:
        """The weights under the names of the same network built with `lora=None`: factors are merged into theirs."""
        return siamese_state(self.segmenter.exported())


def build_siamese(settings: ModelSettings, num_classes: int) -> Siamese:
    """The network these settings describe; random parts are drawn from torch's global generator.

    Raises:
        UnknownNameError: for an encoder or decoder nobody knows.
        ConfigError: for settings that do not fit together.
        WeightsError: when the encoder's weights cannot be had or do not fit.
    """
    ordered = bool(settings.ordered)
    return Siamese(build_segmenter(settings, num_classes, DATES if ordered else 1), ordered)


def siamese_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a `Segmenter` (such as a released one) under the names it has inside a `Siamese`."""
    return {f"segmenter.{name}": value for name, value in state.items()}
