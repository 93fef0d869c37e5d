"""PIL's colours are semikit's, but for its rounding and its blur."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.step.pil_colour import PilColours, coloured
from benchmarks.step.workload import Workload, made_crops
from semikit.augment.settings import StrongSettings
from semikit.augment.strong import draw_factors, strong_view
from semikit.run.config import Config

Configure = Callable[..., Config]


def smooth() -> torch.Tensor:
    """Eight images (8, 3, 32, 32) uint8 of slow colour gradients, on which blurs agree."""
    at = torch.linspace(0, 1, 32)
    ramps = torch.stack([at[:, None].expand(32, 32), at[None].expand(32, 32), (at[:, None] + at[None]) / 2])
    shades = torch.linspace(0.4, 1, 8)[:, None, None, None]
    return (40 + 200 * ramps * shades).to(torch.uint8)


@pytest.mark.parametrize("turn", range(4))
def test_jitter_grayscale_and_blur(turn: int) -> None:
    settings = StrongSettings(jitter_probability=1.0, grayscale_probability=0.3)
    factors = draw_factors(np.random.default_rng(turn), 8, settings)
    ours = strong_view(smooth().float() / 255, factors) * 255
    for number, image in enumerate(smooth()):
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        theirs = torch.from_numpy(np.array(coloured(picture, factors, number))).permute(2, 0, 1).float()
        assert (theirs - ours[number]).abs().mean() < 3


def test_the_views_of_a_step(workload: Workload) -> None:
    raw = made_crops(workload.config, 4, 3)
    labeled, weak, strong = PilColours(workload)(raw, 3)
    ours, unlabeled = workload.host_views(raw, 3)
    dates = (0, 1) if workload.dates == 2 else (0, 0)
    assert torch.equal(weak, unlabeled.weak.flatten(*dates))
    assert torch.equal(labeled, ours.images.flatten(*dates))
    assert len(strong) == 2
    for theirs, view in zip(strong, unlabeled.strong, strict=True):
        difference = (theirs - view.flatten(*dates)).abs().mean()
        assert difference < 0.15, "noise is blurred differently, but not otherwise coloured"
        assert (theirs - weak).abs().mean() > 2 * difference
