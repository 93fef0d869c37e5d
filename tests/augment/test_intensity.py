"""Random intensity operations against PIL's, and that each image has its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from semikit.augment.intensity import BLUR, HUE, OPERATIONS, IntensityDraws, draw_intensity, random_intensity
from semikit.augment.randaugment import Op
from semikit.augment.settings import StrongSettings

RANDOM = StrongSettings(kind="random")


def draws(op: int, **values: float) -> IntensityDraws:
    """One operation on two images."""
    given = {"factor": 1.0, "kept": 255, "threshold": 256, "sigma": 1.0, "hue": 0.0, **values}
    kinds: dict[str, Any] = {"kept": torch.int32, "threshold": torch.int32}
    numbers = {key: torch.full((2, 1), value, dtype=kinds.get(key)) for key, value in given.items()}
    return IntensityDraws(op=torch.full((2, 1), op), **numbers)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :40] / 40
    slopes = np.stack([rows, columns, 1 - rows * columns]) * 200
    noisy = np.clip(slopes + rng.normal(0, 20, slopes.shape) + 20, 0, 255)
    return torch.from_numpy(np.stack([slopes, noisy]).astype(np.uint8))


@pytest.mark.parametrize(
    ("given", "of_pil"),
    [
        (draws(Op.AUTOCONTRAST), ImageOps.autocontrast),
        (draws(Op.EQUALIZE), ImageOps.equalize),
        (draws(Op.POSTERIZE, kept=0b11110000), lambda image: ImageOps.posterize(image, 4)),
        (draws(Op.SOLARIZE, threshold=100), lambda image: ImageOps.solarize(image, 100)),
        (draws(Op.BRIGHTNESS, factor=0.3), lambda image: ImageEnhance.Brightness(image).enhance(0.3)),
        (draws(Op.CONTRAST, factor=0.3), lambda image: ImageEnhance.Contrast(image).enhance(0.3)),
        (draws(Op.COLOR, factor=0.3), lambda image: ImageEnhance.Color(image).enhance(0.3)),
        (draws(Op.SHARPNESS, factor=0.3), lambda image: ImageEnhance.Sharpness(image).enhance(0.3)),
        (draws(Op.IDENTITY), lambda image: image),
    ],
    ids=lambda value: str(int(value.op[0, 0])) if isinstance(value, IntensityDraws) else "",
)
def test_operations_on_whole_numbers_are_those_of_pil(pictures: Tensor, given: IntensityDraws, of_pil: Any) -> None:
    found = (random_intensity(pictures.float() / 255, given) * 255).round().to(torch.uint8)
    for image, expected in zip(found, pictures, strict=True):
        made = of_pil(Image.fromarray(expected.movedim(0, 2).numpy()))
        np.testing.assert_array_equal(image.movedim(0, 2).numpy(), np.asarray(made))


def test_blur_and_hue_are_near_those_of_pil(pictures: Tensor) -> None:
    for given, of_pil, apart in (
        (draws(BLUR, sigma=1.5), lambda image: image.filter(ImageFilter.GaussianBlur(1.5)), 1.5),
        (draws(HUE, hue=2 * np.pi * 0.25), _turned, 4.0),
    ):
        found = random_intensity(pictures.float() / 255, given)[0] * 255
        made = np.asarray(of_pil(Image.fromarray(pictures[0].movedim(0, 2).numpy()))).astype(float)
        assert np.abs(found.movedim(0, 2).numpy() - made)[4:-4, 4:-4].mean() < apart


def _turned(image: Image.Image) -> Image.Image:
    """As the released code turns hues: a quarter of a circle in PIL's 8 bits."""
    hue, saturation, value = image.convert("HSV").split()
    turned = Image.fromarray(np.asarray(hue) + np.uint8(0.25 * 255))
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_images_of_any_channels_one_by_one_and_all_at_once(channels: int) -> None:
    images = torch.rand(12, channels, 16, 20, generator=torch.Generator().manual_seed(0))
    given = draw_intensity(np.random.default_rng(1), 12, RANDOM)
    found = random_intensity(images, given)
    assert found.shape == images.shape
    assert found.min() >= 0
    assert found.max() <= 1
    with pytest.MonkeyPatch.context() as patch:  # as on a device, where all images pass all operations
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        torch.testing.assert_close(random_intensity(images, given), found)


def test_draws_are_as_released() -> None:
    drawn = draw_intensity(np.random.default_rng(0), 6000, RANDOM)
    count = (drawn.op != Op.IDENTITY).sum(1).bincount(minlength=4) / 6000
    # One to three operations alike, of which one in eleven changes nothing.
    share = 10 / 11
    expected = [
        sum((1 - share) ** n for n in (1, 2, 3)) / 3,
        (share + 2 * share * (1 - share) + 3 * share * (1 - share) ** 2) / 3,
        (share**2 + 3 * share**2 * (1 - share)) / 3,
        share**3 / 3,
    ]
    np.testing.assert_allclose(count, expected, atol=0.02)
    assert set(drawn.op.unique().tolist()) == {int(code) for code in OPERATIONS}
    for op, name, low, high in (
        (Op.SHARPNESS, "factor", 0.05, 0.95),
        (Op.POSTERIZE, "kept", 240, 254),
        (Op.SOLARIZE, "threshold", 1, 255),
        (HUE, "hue", -np.pi, np.pi),
    ):
        values = getattr(drawn, name)[drawn.op == op].float()
        assert (values.min().item(), values.max().item()) == pytest.approx((low, high), rel=0.03, abs=1.1)
    with pytest.raises(ValueError, match=r"\[3, 1\] is no range of numbers"):
        StrongSettings(operations=(3, 1))
