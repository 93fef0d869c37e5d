"""The one thing a method knows about a model: it encodes, then decodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from semikit.core.channel_attention import Attend, Bottleneck


@final
@dataclass(frozen=True, slots=True)
class Features:
    """Levels of an encoder, finest first or in order of depth: (B, D_l, h_l, w_l) for pixels, (B, D) for images; `size`
    is the (H, W) of the images they came from.
    """

    levels: tuple[Tensor, ...]
    size: tuple[int, int]
    attend: Attend | None = None
    """What the channels of the last level are made of, in a network with a `bottleneck`; None: of their own image's."""


class Network(nn.Module, ABC):
    """A student or a teacher.

    `pixels`: whether every pixel gets a class, or the whole image one.
    `widths` are the channels D_l of the levels (where dropout between encoder and decoder acts), `embed_dim` the
    channels of what the last layer sees (where dropout between decoder and classifier acts), `multiple` what the sides
    of an image must be a multiple of. `bottleneck`, of networks that decode, is what the last level passes before that.
    """

    pixels: bool = True
    widths: tuple[int, ...]
    embed_dim: int
    num_classes: int
    multiple: int
    bottleneck: Bottleneck | None

    @abstractmethod
    def encode(self, images: Tensor) -> Features:
        """Images (B, C, H, W), normalised, -> features."""

    @abstractmethod
    def embed(self, features: Features) -> Tensor:
        """Features -> what the classifier sees: (B, embed_dim, h, w) or (B, embed_dim)."""

    @abstractmethod
    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        """Embedding -> logits (B, K, *S); for pixels *S = `size`."""

    @abstractmethod
    def encoder_parameters(self) -> list[nn.Parameter]:
        """The parameters that learn with the encoder's rate; all others learn with the decoder's."""

    def blocks(self) -> list[nn.Module]:
        """Repeated parts of the encoder, none inside another and each used only by calling it: what is gathered one by
        one where no process holds the whole network.
        """
        return []

    def exported(self) -> dict[str, Tensor]:
        """The weights as they are kept and given away: by the names of the network that predicts."""
        return self.state_dict()

    def decode(self, features: Features) -> Tensor:
        """Features -> logits (B, K, *S)."""
        return self.classify(self.embed(features), features.size)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, K, *S)."""
        return self.decode(self.encode(images))
