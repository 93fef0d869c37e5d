"""What two dates share in training and what is drawn for each alone (PROTOCOL 3.5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semikit.augment.settings import MixSettings, StrongSettings, WeakSettings
from semikit.core.batch import Requirements, Unlabeled
from semikit.core.task import BatchLayout
from semikit.data.formats.mask_values import MaskValues
from semikit.data.image_pairs import ImagePairs
from semikit.data.loading.loader import stack
from semikit.raster.region import Region
from semikit.run import build
from semikit.run.config import resolve
from semikit.tasks._crops import Crops
from semikit.tasks._pixels import PixelViewMaker, PixelViews
from tests.helpers import georasters

CPU = torch.device("cpu")
PLAN = BatchLayout(batch=4, unlabeled_batch=4, group=4, seed=3)
SIDE = 24
ONCE = MaskValues(2, mapping=((255, 1),), exact=True)


def views(same: bool = True, step: int = 0, **changes: Any) -> Unlabeled:
    """Four pairs; with `same` both dates are one image."""
    rng = np.random.default_rng(0)
    before = rng.integers(0, 256, (4, 3, SIDE, SIDE), dtype=np.uint8)
    after = before if same else rng.integers(0, 256, before.shape, dtype=np.uint8)
    items = [(np.stack(pair), np.ones((SIDE, SIDE), bool), k) for k, pair in enumerate(zip(before, after, strict=True))]
    raw = {"unlabeled": tuple(stack(items))}
    raw["labeled"] = (*raw["unlabeled"], torch.zeros(4, SIDE, SIDE, dtype=torch.uint8))
    settings = PixelViews(weak=WeakSettings(crop=SIDE), **changes)
    maker = PixelViewMaker(settings, PLAN, Requirements(2), (0.5,) * 3, (0.5,) * 3)
    _, unlabeled = maker(raw, step, CPU)
    assert unlabeled is not None
    return unlabeled


def test_colour_is_drawn_for_each_date_alone() -> None:
    strong = StrongSettings(jitter_probability=1.0, blur_probability=1.0, grayscale_probability=0.0)
    made = views(strong=strong, mix=MixSettings(probability=0.0))
    assert made.weak.shape == (4, 2, 3, SIDE, SIDE)
    assert torch.equal(made.weak[:, 0], made.weak[:, 1])
    for view in made.strong:
        assert ((view[:, 0] - view[:, 1]).abs().amax(dim=(1, 2, 3)) > 0.1).all()
    assert not torch.allclose(made.strong[0], made.strong[1])


def test_without_strong_colour_both_dates_are_the_weak_view() -> None:
    plain = StrongSettings(jitter_probability=0.0, blur_probability=0.0, grayscale_probability=0.0)
    made = views(same=False, strong=plain, mix=MixSettings(probability=0.0))
    assert torch.allclose(made.strong[0], made.weak)


def test_one_box_for_both_dates() -> None:
    plain = StrongSettings(jitter_probability=0.0, blur_probability=0.0, grayscale_probability=0.0)
    made = views(same=False, strong=plain, mix=MixSettings(probability=1.0))
    for view, box in zip(made.strong, made.boxes, strict=True):
        assert box.shape == (4, SIDE, SIDE)
        assert box.any(dim=(1, 2)).all()
        for k, partner in enumerate(made.partner.tolist()):
            assert partner == 3 - k
            for date in (0, 1):
                assert torch.allclose(view[k, date][:, box[k]], made.weak[partner, date][:, box[k]])
                assert torch.allclose(view[k, date][:, ~box[k]], made.weak[k, date][:, ~box[k]])


class TestCrops:
    @pytest.fixture
    def source(self, tmp_path: Path) -> ImagePairs:
        values = georasters.ramp(60, 90)
        label = np.where(values[0] > 120, 255, 0).astype(np.uint8)
        paths = [georasters.save(tmp_path / f"{k}.tif", v) for k, v in enumerate((values, values, label))]
        return ImagePairs(("one",), (paths[0],), (paths[1],), (paths[2],), ONCE)

    def test_geometry_is_shared_by_dates_and_mask(self, source: ImagePairs) -> None:
        make = Crops({"labeled": [(source, 0)]}, frozenset({"labeled"}), WeakSettings(crop=32, scale=(0.8, 1.2)))
        for seed in range(8):
            pixels, valid, _, labels = make("labeled", 0, np.random.default_rng(seed))
            assert (pixels.shape, valid.shape, labels.shape) == ((2, 3, 32, 32), (32, 32), (32, 32))
            assert np.array_equal(pixels[0], pixels[1])
            clear = valid & (np.abs(pixels[0, 0].astype(int) - 120) > 12)
            assert ((pixels[0, 0] > 120) == (labels == 1))[clear].mean() > 0.93

    def test_a_raster_gives_the_crop_of_the_whole_image_and_is_not_read_whole(
        self, source: ImagePairs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make = Crops({"labeled": [(source, 0)]}, frozenset({"labeled"}), WeakSettings(crop=20, scale=(0.8, 1.2)))
        asked: list[Region | None] = []
        image = ImagePairs.image
        monkeypatch.setattr(ImagePairs, "image", lambda s, k, r=None: (asked.append(r), image(s, k, r))[1])
        windowed = [make("labeled", 0, np.random.default_rng(seed)) for seed in range(6)]
        assert all(region is not None and region.height < 45 and region.width < 45 for region in asked)
        monkeypatch.setattr(ImagePairs, "extent", lambda self, index: None)
        whole = [make("labeled", 0, np.random.default_rng(seed)) for seed in range(6)]
        for part, full in zip(windowed, whole, strict=True):
            assert np.abs(part[0].astype(int) - full[0]).max() <= 2
            assert np.array_equal(part[1], full[1])
            assert np.array_equal(part[3], full[3])


def test_the_recipe_is_the_published_one(pair_data: Path) -> None:
    from semikit.run.compose import compose

    config = resolve(compose("cd", data=pair_data, above={}))
    weak, strong = config.views.weak, config.views.strong  # type: ignore[attr-defined]
    assert (weak.crop, weak.scale, weak.flip) == (252, (0.8, 1.2), 0.5)
    assert (strong.jitter_probability, strong.grayscale_probability, strong.blur_probability) == (0.8, 0.0, 0.5)
    assert (config.train.batch, config.train.group, config.optimizer.encoder_lr, config.optimizer.lr) == (
        8,
        8,
        5e-6,
        2e-4,
    )
    assert config.method.teacher == "student"  # type: ignore[attr-defined]
    assert build.batch_layout_of(config).unlabeled_batch == 8
