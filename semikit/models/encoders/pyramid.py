"""Encoders of several resolutions: ResNet, ConvNeXt, MobileNet, EfficientNet, Swin … through timm's `features_only`."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from semikit.errors import ConfigError
from semikit.models.encoders.base import Encoder

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
