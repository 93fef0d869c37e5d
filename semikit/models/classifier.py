"""Encoder, pooling and a linear layer: the network of tasks that give a whole image one class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self, final

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor, nn

from semikit.core.network import Features, Network
from semikit.errors import ConfigError, SemikitError
from semikit.models.encoders.attention import attention_for
from semikit.models.encoders.blocks import blocks_of, recompute
from semikit.models.encoders.create import TRANSFORMERS, check_encoder, family
from semikit.models.encoders.encoder import statistics
from semikit.models.encoders.names import SENSORS, WIDE, canonical, is_mit, package_of
from semikit.models.encoders.wide_resnet import WideResNet
from semikit.models.settings import MISFITS, EncoderSettings, Numbers, reason
from semikit.models.weights.file import read_weights
from semikit.models.weights.licence import check_licence
from semikit.models.weights.pretrained import create_backbone, load_encoder


@final
class ClassifierSettings(EncoderSettings):
    """The network of classification."""

    encoder: Annotated[str, AfterValidator(canonical)] = "wrn-28-2"
    """wrn-28-2, wrn-28-8, wrn-stl, a short name (`semikit list models`) or any timm name."""
    weights: str = "none"
    """`none` (random), `pretrained` (from huggingface.co), or a file of encoder weights (.safetensors, .pth, .pt)."""
    mean: Numbers | None = None
    """What images are normalised by, in 0..1, one number a channel; unset: the pretraining's, or ImageNet's."""
    std: Numbers | None = None
    """The same."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the linear layer, in training (0..1)."""

    @model_validator(mode="after")
    def _supported(self) -> Self:
        if self.lora is not None:
            raise ValueError("lora adapts encoders of tasks on pixels; leave it out, or set freeze: true")
        for name in ("mean", "std"):
            given = getattr(self, name)
            if given is not None and len(given) != self.in_channels:
                raise ValueError(f"{name} has {len(given)} numbers for {self.in_channels} channels")
        return self


@final
class Classifier(Network):
    """Images (B, C, H, W), normalised by `mean` and `std` -> logits (B, K). One level: the pooled features (B, D)."""

    pixels = False

    def __init__(self, encoder: Any, width: int, num_classes: int, settings: ClassifierSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(settings.dropout)
        self.classifier = nn.Linear(width, num_classes)
        nn.init.xavier_normal_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.widths = (width,)
        self.embed_dim = width
        self.num_classes = num_classes
        self.multiple = 1
        self.frozen = settings.freeze
        mean, std = statistics(getattr(encoder, "pretrained_cfg", {}), settings.in_channels, settings.weights == "none")
        self.mean, self.std = settings.mean or mean, settings.std or std
        if self.frozen:
            encoder.requires_grad_(False)
            encoder.eval()

    def encode(self, images: Tensor) -> Features:
        """Images (B, C, H, W) -> pooled features; without a graph where the encoder is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen), attention_for(images):
            pooled = self.encoder(images)
        return Features((pooled,), (images.shape[-2], images.shape[-1]))

    def embed(self, features: Features) -> Tensor:
        """The pooled features (B, D)."""
        return features.levels[0]

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        """Embedding (B, D) -> logits (B, K)."""
        logits: Tensor = self.classifier(self.dropout(embedding))
        return logits

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The encoder's parameters."""
        return list(self.encoder.parameters())

    def blocks(self) -> list[nn.Module]:
        """Those of the encoder."""
        return blocks_of(self.encoder)

    def train(self, mode: bool = True) -> Self:
        """Training mode, which a frozen encoder never enters."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


def build_classifier(settings: ClassifierSettings, num_classes: int) -> Classifier:
    """The network these settings describe; random parts are drawn from torch's global generator.

    Raises:
        UnknownNameError: for an encoder nobody knows.
        ConfigError: for settings that do not fit together, or a licence that has to be accepted.
        WeightsError: when the encoder's weights cannot be had or do not fit.
    """
    if settings.encoder in WIDE:
        encoder = _wide(settings)
        return _classifier(encoder, encoder.width, num_classes, settings)
    if is_mit(settings.encoder) or settings.encoder.startswith(SENSORS):
        raise ConfigError(
            f"{settings.encoder} is an encoder of tasks on pixels; choose a timm name or {', '.join(WIDE)}."
        )
    check_licence(settings)
    backbone = _from_timm(settings)
    # Some encoders widen what they have pooled before it is classified.
    width = int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)
    return _classifier(backbone, width, num_classes, settings)


def _classifier(encoder: nn.Module, width: int, num_classes: int, settings: ClassifierSettings) -> Classifier:
    if settings.checkpointing:
        recompute(encoder, settings.encoder)
    return Classifier(encoder, width, num_classes, settings)


def _wide(settings: ClassifierSettings) -> WideResNet:
    try:
        encoder = WideResNet(WIDE[settings.encoder], settings.in_channels, **settings.encoder_args)
    except TypeError as error:
        raise ConfigError(
            f"encoder_args {settings.encoder_args}: {settings.encoder} takes `blocks` (4), `momentum` (0.001) and "
            "`activated` (true; false: as in the public PyTorch code)."
        ) from error
    if settings.weights == "pretrained":
        raise ConfigError(f"there are no pretrained weights of {settings.encoder}; use model.weights=none or a file.")
    if settings.weights != "none":
        load_encoder(encoder, read_weights(Path(settings.weights)), source=settings.weights)
    return encoder


def _from_timm(settings: ClassifierSettings) -> Any:
    name = check_encoder(settings.encoder)
    dynamic = {"dynamic_img_size": True} if TRANSFORMERS.get(family(name)) and family(name) != "beit" else {}
    args = {"in_chans": settings.in_channels, "num_classes": 0, **dynamic, **settings.encoder_args}
    try:
        return create_backbone(name, settings.weights, args, {}, package_of(settings.encoder))
    except SemikitError:
        raise
    except MISFITS as error:
        raise ConfigError(
            f"{name} cannot be built with {settings.encoder_args}: {reason(error)}. Give encoder_args its timm "
            "constructor takes."
        ) from error
