"""`views.labeled: strong`: labelled images are learned with the colours or operations of the strong views as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from semikit.augment.settings import RandAugmentSettings, ShiftSettings, StrongSettings, WeakSettings
from semikit.core.batch import Labeled, Requirements
from semikit.core.task import BatchLayout
from semikit.tasks._class_views import ClassViewMaker, ClassViews
from semikit.tasks._pixels import PixelViewMaker, PixelViews

CPU = torch.device("cpu")
PLAN = BatchLayout(batch=4, unlabeled_batch=4, group=4, seed=3)
SUPERVISED = Requirements(0, unlabeled=False)
SIDE = 16
STATISTICS = (0.5,) * 3, (0.25,) * 3
ALWAYS = StrongSettings(jitter_probability=1.0)
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, SIDE, SIDE), dtype=np.uint8))
LABELS = torch.randint(0, 3, (4, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def of_pixels(images: torch.Tensor = PIXELS, step: int = 0, **changes: Any) -> Labeled:
    settings = PixelViews(weak=WeakSettings(crop=SIDE), **changes)
    valid = torch.ones(4, SIDE, SIDE, dtype=torch.bool)
    raw = {"labeled": (images, valid, torch.arange(4), LABELS)}
    return PixelViewMaker(settings, PLAN, SUPERVISED, *STATISTICS)(raw, step, CPU)[0]


def of_classes(**changes: Any) -> Labeled:
    settings = ClassViews(weak=ShiftSettings(flip=0.0, shift=0.0), **changes)
    labels, rows = torch.tensor([2, 0, 1, 2]), {"labeled": torch.arange(4)}
    maker = ClassViewMaker(settings, PLAN, SUPERVISED, STATISTICS, labels, torch.empty(0), PIXELS, rows)
    return maker({"labeled": (torch.arange(4),)}, 0, CPU)[0]


def changed(one: Labeled, other: Labeled) -> list[bool]:
    """Which images differ; labels, validity and denominators may not."""
    for name in ("labels", "valid", "index", "denominator"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    return [not torch.equal(a, b) for a, b in zip(one.images, other.images, strict=True)]


def test_pixels_get_the_strong_colours_under_the_same_labels() -> None:
    assert all(changed(of_pixels(), of_pixels(labeled="strong", strong=ALWAYS)))
    nothing = StrongSettings(jitter_probability=0.0, grayscale_probability=0.0, blur_probability=0.0)
    assert not any(changed(of_pixels(), of_pixels(labeled="strong", strong=nothing)))


def test_every_step_draws_anew_and_again_alike() -> None:
    first, again, later = (of_pixels(labeled="strong", strong=ALWAYS, step=step) for step in (5, 5, 6))
    assert not any(changed(first, again))
    assert all(changed(first, later))


def test_each_date_has_its_own_colours() -> None:
    images = of_pixels(torch.stack([PIXELS, PIXELS], dim=1), labeled="strong", strong=ALWAYS).images
    assert ((images[:, 0] - images[:, 1]).abs().amax(dim=(1, 2, 3)) > 0.1).all()


@pytest.mark.parametrize("kind", ["usb", "fixmatch"])
def test_whole_images_get_the_operations_of_the_strong_views(kind: str) -> None:
    strong = RandAugmentSettings(kind=kind, probability=1.0)  # type: ignore[arg-type]
    assert any(changed(of_classes(strong=strong), of_classes(labeled="strong", strong=strong)))
    nothing = RandAugmentSettings(kind="fixmatch", probability=0.0, cutout=0.0)
    assert not any(changed(of_classes(strong=nothing), of_classes(labeled="strong", strong=nothing)))


@pytest.mark.parametrize("strong", [ALWAYS, StrongSettings(kind="random")], ids=["jitter", "random"])
def test_whole_images_have_the_colours_that_pixels_have(strong: StrongSettings) -> None:
    given = of_classes(labeled="strong", strong=strong).images
    assert torch.equal(given, of_pixels(labeled="strong", strong=strong).images)
    assert not torch.equal(given, of_classes(strong=strong).images)
