"""An encoder by name, built as the decoder or head needs it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, final

import timm
from timm.models import model_entrypoint
from torch import Tensor

from semikit.errors import ConfigError, SemikitError, UnknownNameError
from semikit.models.encoders.blocks import recompute
from semikit.models.encoders.encoder import Encoder, statistics
from semikit.models.encoders.lora import adapt
from semikit.models.encoders.mit import build_mit
from semikit.models.encoders.names import ALIASES, ENCODERS, WIDE, is_dinov2, is_mit, package_of, timm_name
from semikit.models.encoders.vit import Beit, DinoV2, Sam, TokenEncoder, ViT
from semikit.models.settings import MISFITS, EncoderSettings, ModelSettings, reason
from semikit.models.weights.licence import check_licence
from semikit.models.weights.pretrained import create_backbone
from semikit.models.weights.sensors import SensorWeights, sensor_of, without_torchgeo
from semikit.registry import DECODERS

TRANSFORMERS: dict[str, type[TokenEncoder]] = {
    "vision_transformer": ViT,
    "deit": ViT,
    "eva": ViT,
    "beit": Beit,
    "vision_transformer_sam": Sam,
}
"""Families (modules of timm) of one resolution; all others are asked for a pyramid."""


def build_encoder(settings: ModelSettings) -> Encoder:
    """The encoder these settings describe, with its weights.

    Raises:
        UnknownNameError: for a name neither semikit nor timm knows.
        ConfigError: for arguments this encoder does not take, `checkpointing` where it has no blocks, or a licence that
            has to be accepted.
        WeightsError: when the weights cannot be had or do not fit.
    """
    check_licence(settings)
    sensor = sensor_of(settings)
    settings = without_torchgeo(settings)
    name = check_encoder(settings.encoder)
    encoder: Encoder
    if is_mit(name):
        encoder = build_mit(name, settings)
    else:
        build = _transformer if family(name) in TRANSFORMERS else _pyramid
        encoder = build(name, settings, sensor)
    pretrained = getattr(encoder.backbone, "pretrained_cfg", {})
    random = settings.weights == "none"
    encoder.mean, encoder.std = statistics(pretrained, settings.in_channels, random)
    if sensor is not None:  # in the units of the sensor
        encoder.mean, encoder.std = sensor.mean, sensor.std
    if settings.freeze:
        encoder.freeze()
    if settings.lora is not None:
        adapt(encoder, settings.lora)
    if settings.checkpointing:
        recompute(encoder, name)
    return encoder


def check_encoder(name: str) -> str:
    """The timm name of an encoder; of a mix transformer, which timm has not, its own.

    Raises:
        UnknownNameError: with the nearest short and timm names.
        ConfigError: a network of classification only.
    """
    if is_mit(name):
        return name
    if name in WIDE:
        raise ConfigError(
            f"{name} is an encoder of classification (semikit train cls); this task reads maps of features."
        )
    timm_id = timm_name(name)
    architecture, _, tag = timm_id.partition(".")
    if timm.is_model(architecture) and (not tag or timm_id in timm.list_pretrained(f"{architecture}.*")):
        return timm_id
    tagged = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else []
    names = {*ENCODERS, *WIDE, *ALIASES, *timm.list_models(), *tagged}
    near = get_close_matches(name, sorted(names), n=4, cutoff=0.6)
    hint = f" Did you mean {' or '.join(repr(match) for match in near)}?" if near else ""
    raise UnknownNameError(
        f"unknown encoder {name!r}.{hint} Known: {', '.join([*ENCODERS, *WIDE])}, and the names of timm.list_models()."
    )


def family(name: str) -> str:
    """The module of timm that makes a model."""
    return str(model_entrypoint(name.partition(".")[0]).__module__).rpartition(".")[2]


def adapts(settings: EncoderSettings) -> bool:
    """Whether LoRA is of use: the encoder is a pretrained transformer of a task on pixels that is fine-tuned whole."""
    name = timm_name(settings.encoder)
    known = not is_mit(name) and timm.is_model(name.partition(".")[0])
    plain = isinstance(settings, ModelSettings) and settings.weights != "none" and not settings.freeze
    return plain and settings.lora is None and known and family(name) in TRANSFORMERS


def _transformer(name: str, settings: ModelSettings, sensor: SensorWeights | None) -> TokenEncoder:
    kind = TRANSFORMERS[family(name)]
    if settings.output_stride is not None:
        raise ConfigError(f"output_stride {settings.output_stride}: {name} has one resolution; leave it unset.")
    dynamic = {} if kind in (Beit, Sam) else {"dynamic_img_size": True}
    backbone = _create(name, settings, {**dynamic, **settings.encoder_args}, {}, sensor)
    depth = len(backbone.blocks)
    layers = settings.encoder_layers
    if layers is not None and not all(0 <= layer < depth for layer in layers):
        raise ConfigError(f"encoder_layers {list(layers)}: {name} has blocks 0 to {depth - 1}.")
    return (DinoV2 if is_dinov2(name) else kind)(backbone, layers)


def _pyramid(name: str, settings: ModelSettings, sensor: SensorWeights | None) -> Pyramid:
    if settings.encoder_layers is not None:
        raise ConfigError(f"encoder_layers {list(settings.encoder_layers)}: {name} is no transformer; leave it unset.")
    decoder = DECODERS.get("deeplabv3plus" if settings.decoder == "auto" else settings.decoder)
    features = feature_args(family(name), settings.output_stride, decoder.output_stride)
    features = {key: value for key, value in features.items() if key not in settings.encoder_args}
    return Pyramid(_create(name, settings, settings.encoder_args, features, sensor), family(name))


def _create(
    name: str,
    settings: ModelSettings,
    args: dict[str, Any],
    features: dict[str, Any],
    sensor: SensorWeights | None,
) -> Any:
    args = {"in_chans": settings.in_channels, "num_classes": 0, **args}
    if features:
        args.pop("num_classes")  # timm drops the classifier itself
    try:
        return create_backbone(name, settings.weights, args, features, package_of(settings.encoder), sensor)
    except SemikitError:
        raise
    except MISFITS as error:
        raise ConfigError(
            f"{name} cannot be built with { ({**settings.encoder_args, **features}) }: {reason(error)}. Give "
            "encoder_args its timm constructor takes."
        ) from error


LEVELS = (-4, -3, -2, -1)
"""The last four levels; for nearly every family strides 4, 8, 16, 32."""

DILATES = frozenset({"resnet", "convnext", "mobilenetv3", "efficientnet", "regnet", "byobnet", "xception_aligned"})
"""Families in which timm can replace strides by dilation."""

ANY_SIZE = DILATES | {"densenet", "vgg", "dla", "resnetv2", "vovnet", "inception_next", "ghostnet", "fasternet"}
"""Families that take images of any size; others get sides that are a multiple of their coarsest stride."""

FLEXIBLE: dict[str, dict[str, Any]] = {
    "swin_transformer": {"strict_img_size": False},
    "swin_transformer_v2": {"strict_img_size": False},
}
"""Arguments without which a family insists on the size it was pretrained with."""


@final
class Pyramid(Encoder):
    """A timm feature extractor."""

    def __init__(self, backbone: Any, family: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.widths = tuple(int(width) for width in backbone.feature_info.channels())
        self.reductions = tuple(int(reduction) for reduction in backbone.feature_info.reduction())
        self.multiple = 1 if family in ANY_SIZE else max(self.reductions)
        self.channels_last = str(getattr(backbone, "output_fmt", "")).endswith("NHWC")

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, D_l, h_l, w_l), finest first."""
        maps = self.backbone(images)
        return tuple(item.permute(0, 3, 1, 2) for item in maps) if self.channels_last else tuple(maps)


def feature_args(family: str, stride: int | None, usual: int | None) -> dict[str, Any]:
    """Arguments of `timm.create_model` for a pyramid.

    `stride` is the wanted output stride; None: the decoder's `usual` one where the family can be dilated, else its own.

    Raises:
        ConfigError: when the family cannot be dilated.
    """
    args = {"features_only": True, "out_indices": LEVELS, **FLEXIBLE.get(family, {})}
    if stride is not None and family not in DILATES:
        raise ConfigError(
            f"output_stride {stride}: encoders of the family {family!r} cannot be dilated. Leave output_stride unset, "
            f"or choose an encoder of {', '.join(sorted(DILATES))}."
        )
    if stride is None and family in DILATES:
        stride = usual
    return args if stride is None else {**args, "output_stride": stride}
