"""RandAugment image by image with PIL, as the field runs it: what the batched form is measured against and equals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from semikit.augment.randaugment import Op

Picture = Image.Image

_CALLS: dict[Op, Callable[[Picture, float], Picture]] = {
    Op.AUTOCONTRAST: lambda picture, _: ImageOps.autocontrast(picture),
    Op.BRIGHTNESS: lambda picture, factor: ImageEnhance.Brightness(picture).enhance(factor),
    Op.COLOR: lambda picture, factor: ImageEnhance.Color(picture).enhance(factor),
    Op.CONTRAST: lambda picture, factor: ImageEnhance.Contrast(picture).enhance(factor),
    Op.EQUALIZE: lambda picture, _: ImageOps.equalize(picture),
    Op.IDENTITY: lambda picture, _: picture,
    Op.POSTERIZE: lambda picture, bits: ImageOps.posterize(picture, int(bits)),
    Op.ROTATE: lambda picture, degrees: picture.rotate(degrees),
    Op.SHARPNESS: lambda picture, factor: ImageEnhance.Sharpness(picture).enhance(factor),
    Op.SHEAR_X: lambda picture, slope: _moved(picture, (1, slope, 0, 0, 1, 0)),
    Op.SHEAR_Y: lambda picture, slope: _moved(picture, (1, 0, 0, slope, 1, 0)),
    Op.SOLARIZE: lambda picture, threshold: ImageOps.solarize(picture, threshold),  # type: ignore[arg-type]
    Op.TRANSLATE_X: lambda picture, pixels: _moved(picture, (1, 0, pixels, 0, 1, 0)),
    Op.TRANSLATE_Y: lambda picture, pixels: _moved(picture, (1, 0, 0, 0, 1, pixels)),
}


def pil_randaugment(
    picture: Picture, ops: Sequence[int], values: Sequence[float], box: Sequence[int], fill: tuple[int, int, int]
) -> Picture:
    """One RGB picture through `ops` (codes of `Op`) with their `values` as for `encode`, then its `box` filled."""
    for op, value in zip(ops, values, strict=True):
        picture = _CALLS[Op(op)](picture, value)
    left, top, right, bottom = box
    if right >= left:
        picture = picture.copy()
        ImageDraw.Draw(picture).rectangle((left, top, right, bottom), fill)
    return picture


def _moved(picture: Picture, matrix: tuple[float, ...]) -> Picture:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix)
