"""Strong views against PIL and torchvision, and what keeps them fast: static, no draws, nothing read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from kornia.color import rgb_to_hsv
from PIL import Image, ImageFilter
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import functional as pil_reference
from torchvision.transforms.v2 import functional as float_reference

from semikit.augment.settings import StrongSettings
from semikit.augment.strong import Operation, StrongFactors, draw_factors, strong_view
from semikit.core.batch import take

OPERATIONS: tuple[Operation, ...] = ("brightness", "contrast", "saturation", "hue")


def plain(batch: int, order: tuple[Operation, ...] = ("brightness",), **changes: Tensor) -> StrongFactors:
    """Factors that change nothing but `changes`."""
    off, one = torch.zeros(batch, dtype=torch.bool), torch.ones(batch)
    codes = torch.tensor([OPERATIONS.index(name) for name in order]).repeat(batch, 1)
    same = StrongFactors(~off, one, one, one, 0 * one, off, off, one, codes, order, 13)
    return replace(same, **changes)  # type: ignore[arg-type]


def pictures(channels: int = 3, side: int = 64) -> Tensor:
    """Four images in whole 255ths: slopes, edges, noise, dark noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side] / side
    slopes = np.stack([rows, columns, 1 - rows] + [rows * columns] * (channels - 3))[:channels]
    edges = np.stack([(rows > 0.3), (columns > 0.6), (rows + columns > 1)] + [rows > 1] * (channels - 3))[:channels]
    noise = rng.random((channels, side, side))
    images = np.stack([slopes, 0.2 + 0.6 * edges, noise, noise[::-1] * 0.3])
    return torch.from_numpy(np.round(images * 255) / 255).float()


def through_pil(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    arrays = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    changed = [np.asarray(change(Image.fromarray(array)).convert("RGB")) for array in arrays]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("factor", [0.5, 0.77, 1.0, 1.31, 1.5])
def test_colour_equals_pil_and_torchvision(name: Operation, factor: float) -> None:
    images = pictures()
    ours = strong_view(images, plain(4, (name,), **{name: torch.full((4,), factor)}))
    exact = getattr(float_reference, f"adjust_{name}")(images, factor)
    torch.testing.assert_close(ours, exact, atol=1e-4, rtol=0)
    theirs = through_pil(images, lambda picture: getattr(pil_reference, f"adjust_{name}")(picture, factor))
    assert (ours - theirs).abs().max() < 2 / 255


@pytest.mark.parametrize("turns", [-0.25, -0.1, 0.0, 0.13, 0.25])
def test_hue_equals_torchvision_and_pil(turns: float) -> None:
    images = pictures()
    ours = strong_view(images, plain(4, ("hue",), hue=torch.full((4,), 2 * np.pi * turns)))
    torch.testing.assert_close(ours, float_reference.adjust_hue(images, turns), atol=1e-4, rtol=0)
    theirs = through_pil(images, lambda picture: pil_reference.adjust_hue(picture, turns))
    assert (ours - theirs).abs().mean() < 2 / 255
    coloured = (ours.amax(1) - ours.amin(1)) > 0.4
    apart = (rgb_to_hsv(ours)[:, 0] - rgb_to_hsv(theirs)[:, 0]).abs() / (2 * np.pi)
    apart = torch.minimum(apart, 1 - apart)[coloured]
    assert apart.numel() > 1000
    assert apart.max() < 3 / 255


def test_grayscale_equals_pil() -> None:
    images = pictures()
    ours = strong_view(images, plain(4, grayscale=torch.ones(4, dtype=torch.bool)))
    assert (ours - through_pil(images, lambda picture: picture.convert("L"))).abs().max() < 1 / 255
    assert torch.equal(ours[:, 0], ours[:, 2])


@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.0, 1.5, 2.0])
def test_blur_is_near_to_pil_and_keeps_the_mean(sigma: float) -> None:
    images = pictures()[:2]
    factors = plain(2, blur=torch.ones(2, dtype=torch.bool), sigma=torch.full((2,), sigma))
    ours = strong_view(images, factors)
    theirs = through_pil(images, lambda picture: picture.filter(ImageFilter.GaussianBlur(sigma)))
    assert (ours - theirs).abs().mean() < 1 / 255
    assert abs(float((ours - theirs).mean())) < 0.75 / 255
    if sigma >= 1:
        roughness = [float(view.diff(dim=-1).square().mean()) for view in (images, ours, theirs)]
        assert roughness[1] < 0.8 * roughness[0]
        assert roughness[1] == pytest.approx(roughness[2], rel=0.15)


def test_the_order_is_kept() -> None:
    images = pictures()
    drawn = {"brightness": torch.full((4,), 1.5), "contrast": torch.full((4,), 0.5)}
    first = strong_view(images, plain(4, ("brightness", "contrast"), **drawn))
    second = strong_view(images, plain(4, ("contrast", "brightness"), **drawn))
    brightened = float_reference.adjust_brightness(images, 1.5)
    torch.testing.assert_close(first, float_reference.adjust_contrast(brightened, 0.5), atol=1e-4, rtol=0)
    assert (first - second).abs().max() > 0.05


def test_images_do_not_see_each_other_and_unmarked_ones_stay_bit_for_bit() -> None:
    images = pictures()
    factors = draw_factors(np.random.default_rng(3), 4, StrongSettings())
    together = strong_view(images, factors)
    for index in range(4):
        part = slice(index, index + 1)
        torch.testing.assert_close(strong_view(images[part], take(factors, part))[0], together[index])
    off = torch.zeros(4, dtype=torch.bool)
    untouched = strong_view(images, replace(factors, jitter=off, grayscale=off, blur=off))
    assert torch.equal(untouched, images)


@pytest.mark.parametrize("channels", [1, 2, 4, 10])
def test_other_channels_get_brightness_contrast_and_blur_only(channels: int) -> None:
    images = torch.rand(4, channels, 20, 30)
    factors = draw_factors(np.random.default_rng(1), 4, StrongSettings())
    everything = replace(factors, jitter=torch.ones(4, dtype=torch.bool), grayscale=torch.ones(4, dtype=torch.bool))
    colourless = replace(everything, hue=everything.hue + 1, saturation=everything.saturation * 2)
    view = strong_view(images, everything)
    assert view.shape == images.shape
    assert torch.equal(view, strong_view(images, colourless))
    assert not torch.equal(view, images)
    for name in ("brightness", "contrast"):
        factor = torch.tensor([0.5, 0.8, 1.2, 1.5])
        spread = factor[:, None, None, None]
        pivot = images.mean((1, 2, 3), keepdim=True) if name == "contrast" else 0
        expected = (spread * images + (1 - spread) * pivot).clamp(0, 1)
        torch.testing.assert_close(strong_view(images, plain(4, (name,), **{name: factor})), expected)


def test_the_range_is_kept_and_runs_repeat() -> None:
    settings = StrongSettings(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5)
    for seed in range(4):
        first, second = (
            strong_view(pictures(), draw_factors(np.random.default_rng(seed), 4, settings)) for _ in range(2)
        )
        assert torch.equal(first, second)
        assert first.min() >= 0
        assert first.max() <= 1 + 1e-6


def test_draws_have_the_released_distribution() -> None:
    drawn = draw_factors(np.random.default_rng(0), 20000, StrongSettings())
    assert drawn.taps == 13
    for flags, probability in ((drawn.jitter, 0.8), (drawn.grayscale, 0.2), (drawn.blur, 0.5)):
        assert float(flags.float().mean()) == pytest.approx(probability, abs=0.015)
    for name in ("brightness", "contrast", "saturation"):
        values = getattr(drawn, name)
        assert (values[~drawn.jitter] == 1).all()
        values = values[drawn.jitter]
        assert 0.5 <= values.min() < 0.51
        assert 1.49 < values.max() <= 1.5
        assert float(values.mean()) == pytest.approx(1, abs=0.01)
    assert (drawn.hue[~drawn.jitter] == 0).all()
    assert float(drawn.hue.abs().max()) == pytest.approx(np.pi / 2, rel=0.01)
    assert float(drawn.sigma.min()) == pytest.approx(0.1, abs=0.01)
    assert float(drawn.sigma.mean()) == pytest.approx(1.05, abs=0.02)
    assert abs(np.corrcoef(drawn.brightness[drawn.jitter], drawn.contrast[drawn.jitter])[0, 1]) < 0.03


def test_orders_are_permutations_and_vary() -> None:
    orders = {draw_factors(np.random.default_rng(seed), 1, StrongSettings()).order for seed in range(300)}
    assert len(orders) == 24
    assert all(sorted(order) == ["brightness", "contrast", "hue", "saturation"] for order in orders)


def test_slices_keep_what_belongs_together() -> None:
    drawn = draw_factors(np.random.default_rng(0), 6, StrongSettings())
    part = take(drawn, slice(2, 5))
    assert part.order == drawn.order
    assert part.taps == drawn.taps
    assert torch.equal(part.sigma, drawn.sigma[2:5])
    assert torch.equal(part.jitter, drawn.jitter[2:5])


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations that wait for the device or whose shapes depend on values."""

    waits = ("_local_scalar_dense", "nonzero", "index.Tensor", "masked_select", "is_nonzero", "unique")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        if any(name in str(func) for name in self.waits):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("side", [64, 322])
def test_nothing_is_read_back(side: int) -> None:
    factors = draw_factors(np.random.default_rng(0), 2, StrongSettings())
    images = torch.rand(2, 3, side, side)
    with _Reads() as mode:
        strong_view(images, factors)
    assert mode.count > 20
    assert mode.seen == []
    with _Reads() as mode:
        assert images.sum().item() > 0
    assert mode.seen != []


@pytest.mark.parametrize("channels", [3, 5])
def test_all_orders_compile_as_one_graph(channels: int) -> None:
    counter, images = CompileCounter(), torch.rand(3, channels, 16, 16)
    compiled = torch.compile(strong_view, fullgraph=True, backend=counter, dynamic=False)
    orders = set()
    for seed in range(4):
        factors = draw_factors(np.random.default_rng(seed), 3, StrongSettings(jitter_probability=1))
        orders.add(factors.order)
        torch.testing.assert_close(compiled(images, factors), strong_view(images, factors))
    assert len(orders) > 2
    assert counter.frame_count == 1
