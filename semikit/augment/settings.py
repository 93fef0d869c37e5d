"""Settings of the weak view, the strong views and the mixing; the defaults are the released ones.

Segmentation and change detection: `WeakSettings`, `StrongSettings`, `MixSettings`. Classification: `ShiftSettings`,
`RandAugmentSettings` or `StrongSettings` (`ClassStrong`).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, final, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from semikit.settings.base import Settings


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    low, high = pair
    if not 0 < low <= high < float("inf"):
        raise ValueError(f"[{low:g}, {high:g}] is no range; write the lower bound first, both above 0 and finite")
    return pair


def _share(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 1:
        raise ValueError(f"[{pair[0]:g}, {pair[1]:g}] is no range of shares; both bounds lie between 0 and 1")
    return pair


def _numbers(pair: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= pair[0] <= pair[1]:
        raise ValueError(f"[{pair[0]}, {pair[1]}] is no range of numbers; write the lower one first, 1 or more")
    return pair


Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Byte = Annotated[int, Field(ge=0, le=255)]
Span = Annotated[tuple[float, float], AfterValidator(_ordered)]
ShareSpan = Annotated[Span, AfterValidator(_share)]


@final
class WeakSettings(Settings):
    """The weak view: resize, crop, flip (as released)."""

    crop: int = Field(gt=0)
    """Side of the square crop, pixels."""
    scale: Span = (0.5, 2.0)
    """Lowest and highest factor of the long side, times the image's own."""
    flip: Probability = 0.5
    """Probability of a horizontal flip, 0..1."""


@final
class StrongSettings(Settings):
    """The strong views: colour jitter, grayscale, blur (as released), or operations drawn from a list."""

    kind: Literal["jitter", "random"] = "jitter"
    """jitter: what the keys below say; random: some of eleven operations of random strength on each image (AugSeg)."""
    operations: Annotated[tuple[int, int], AfterValidator(_numbers)] = (1, 3)
    """Fewest and most operations of an image where the kind is `random`."""
    jitter_probability: Probability = 0.8
    """Probability that the four colour operations are applied to an image, 0..1."""
    brightness: Strength = 0.5
    """Half width b of the brightness factor, drawn from max(0, 1 - b)..1 + b."""
    contrast: Strength = 0.5
    """Half width of the contrast factor, as for brightness."""
    saturation: Strength = 0.5
    """Half width of the saturation factor, as for brightness; colour images only."""
    hue: float = Field(default=0.25, ge=0, le=0.5, allow_inf_nan=False)
    """Half width of the hue shift, turns of the colour circle (0..0.5); colour images only."""
    grayscale_probability: Probability = 0.2
    """Probability that an image loses its colour, 0..1; colour images only."""
    blur_probability: Probability = 0.5
    """Probability that an image is blurred, 0..1."""
    blur_sigma: Span = (0.1, 2.0)
    """Lowest and highest standard deviation of the Gaussian blur, pixels."""


@final
class MixSettings(Settings):
    """The box that is cut from a partner image (CutMix, as released)."""

    probability: Probability = 0.5
    """Probability that an image gets a box, 0..1."""
    area: ShareSpan = (0.02, 0.4)
    """Lowest and highest area of the box, share of the image (0..1)."""
    ratio: Span = (0.3, 1 / 0.3)
    """Lowest and highest height over width of the box."""


@final
class ShiftSettings(Settings):
    """The weak view of small images: flip and shift (PROTOCOL 3.7)."""

    flip: Probability = 0.5
    """Probability of a horizontal flip, 0..1; 0 for digits (SVHN), where a mirror image means something else."""
    shift: float = Field(default=0.125, ge=0, lt=1, allow_inf_nan=False)
    """Greatest shift along each side, share of it (0..1, whole pixels); what comes in is a reflection."""


@final
class RandAugmentSettings(Settings):
    """The strong view of classification: random operations with one draw an image, then a filled box (PROTOCOL 3.7)."""

    kind: Literal["usb", "fixmatch"] = "usb"
    """Whose list: `usb` with uniform magnitudes and a box of random side, `fixmatch` with levels and a fixed side."""
    ops: int | None = Field(default=None, gt=0)
    """Operations an image, drawn with replacement; null: 3 (usb) or 2 (fixmatch)."""
    probability: Probability | None = None
    """Probability that each of them is applied, 0..1; null: 1 (usb) or 0.5 (fixmatch)."""
    cutout: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    """Side of the box, share of the image's width: the greatest (usb) or the fixed one (fixmatch); 0: no box."""
    fill: tuple[Byte, Byte, Byte] = (125, 123, 114)
    """Colour of the box, 0..255."""

    @property
    def count(self) -> int:
        """Operations an image."""
        return self.ops or {"usb": 3, "fixmatch": 2}[self.kind]

    @property
    def chance(self) -> float:
        """Probability that each is applied, 0..1."""
        return {"usb": 1.0, "fixmatch": 0.5}[self.kind] if self.probability is None else self.probability


_FAMILIES: dict[str, type[RandAugmentSettings | StrongSettings]] = {
    kind: family
    for family in (RandAugmentSettings, StrongSettings)
    for kind in get_args(family.model_fields["kind"].annotation)
}
"""Kind of a strong view of classification -> its settings."""


def _of_its_kind(raw: Any) -> Any:
    """Raw values whose kind is known and has no key of the other family, of which pydantic would not say where it
    belongs; the kind alone (`strong: jitter`) is taken as well.
    """
    if isinstance(raw, Settings):
        return raw
    raw = {"kind": raw} if isinstance(raw, str) else raw
    if not isinstance(raw, Mapping):
        raise ValueError("expected a mapping (kind: usb, …)")
    kind = raw.get("kind", "usb")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        near = get_close_matches(str(kind), _FAMILIES, n=1)
        raise ValueError(
            f"kind {kind!r} is not known; allowed: usb, fixmatch (RandAugment and Cutout), jitter, random (colours)"
            + (f". Did you mean '{near[0]}'?" if near else "")
        )
    others = {name: family for name, family in _FAMILIES.items() if family is not _FAMILIES[kind]}
    strange = {key for family in others.values() for key in family.model_fields} - set(_FAMILIES[kind].model_fields)
    if given := [key for key in raw if key in strange]:
        raise ValueError(
            f"{', '.join(given)}: of kind {' or '.join(others)}, but the kind is {kind}. Set views.strong.kind, or "
            f"leave out {', '.join(given)}; views.strong={kind} leaves out what a recipe says, too"
        )
    return {"kind": kind, **raw}


ClassStrong = Annotated[
    RandAugmentSettings | StrongSettings, Field(discriminator="kind"), BeforeValidator(_of_its_kind)
]
"""Strong views of classification: RandAugment, or the colours that pixels have."""
