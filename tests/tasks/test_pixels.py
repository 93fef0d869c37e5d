"""From raw crops to views: shapes, mixing, and what every draw depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from semikit.augment.settings import MixSettings, StrongSettings, WeakSettings
from semikit.core.batch import Requirements, Unlabeled
from semikit.core.task import BatchLayout
from semikit.data.loading.loader import stack
from semikit.data.samples import DataParts, Samples
from semikit.tasks._crops import Crops
from semikit.tasks._pixels import PixelViewMaker, PixelViews
from semikit.tasks._training_data import SECOND, TrainingData
from semikit.tasks.seg import PixelData
from tests.helpers.equality import differences

CPU = torch.device("cpu")
PLAN = BatchLayout(batch=2, unlabeled_batch=4, group=2, seed=3)
V2, V1, SUPERVISED = Requirements(2), Requirements(2, partner_batch=True), Requirements(0, unlabeled=False)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
SIDE = 24


def crops(count: int, seed: int, labeled: bool = False) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(seed)
    items = []
    for index in range(count):
        image, valid = rng.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8), rng.random((SIDE, SIDE)) < 0.9
        labels = (rng.integers(0, 3, (SIDE, SIDE), dtype=np.uint8),) if labeled else ()
        items.append((image, valid, index, *labels))
    return tuple(stack(items))


def raw(second: bool = False) -> dict[str, Any]:
    made = {"labeled": crops(2, 0, labeled=True), "unlabeled": crops(4, 1)}
    return {**made, SECOND: crops(4, 2)} if second else made


def maker(requirements: Requirements = V2, layout: BatchLayout = PLAN, **changes: Any) -> PixelViewMaker:
    return PixelViewMaker(PixelViews(weak=WeakSettings(crop=SIDE), **changes), layout, requirements, MEAN, STD)


def views(requirements: Requirements = V2, step: int = 0, layout: BatchLayout = PLAN, **changes: Any) -> Unlabeled:
    _, unlabeled = maker(requirements, layout, **changes)(raw(requirements.partner_batch), step, CPU)
    assert unlabeled is not None
    return unlabeled


ALWAYS = MixSettings(probability=1.0)
NEVER = MixSettings(probability=0.0)


def test_shapes_and_types() -> None:
    labeled, unlabeled = maker()(raw(), 0, CPU)
    assert unlabeled is not None
    assert labeled.images.shape == (2, 3, SIDE, SIDE)
    assert (labeled.labels.dtype, labeled.valid.dtype) == (torch.int64, torch.bool)
    assert labeled.denominator.shape == labeled.index.shape == (2,)
    assert len(unlabeled.strong) == len(unlabeled.boxes) == 2
    assert all(view.shape == unlabeled.weak.shape == (4, 3, SIDE, SIDE) for view in unlabeled.strong)
    assert all(
        box.shape == unlabeled.valid.shape == (4, SIDE, SIDE) and box.dtype == torch.bool for box in unlabeled.boxes
    )
    assert unlabeled.positions == range(4)
    assert unlabeled.partner_batch is None


def test_normalised_by_the_networks_statistics() -> None:
    made = raw()
    labeled, unlabeled = maker()(made, 0, CPU)
    assert unlabeled is not None
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    for images, stream in ((labeled.images, "labeled"), (unlabeled.weak, "unlabeled")):
        torch.testing.assert_close(images * std + mean, made[stream][0] / 255)


def test_inside_a_box_stands_the_partners_strong_view() -> None:
    mixed, apart = views(mix=ALWAYS), views(mix=NEVER)
    assert mixed.partner.tolist() == [1, 0, 3, 2]
    for view, alone, box in zip(mixed.strong, apart.strong, mixed.boxes, strict=True):
        inside = box[:, None].expand_as(view)
        assert 0.02 * 0.5 < box.float().mean() < 0.4
        assert torch.equal(view[inside], alone[mixed.partner][inside])
        assert torch.equal(view[~inside], alone[~inside])
    assert not any(box.any() for box in apart.boxes)
    assert torch.equal(mixed.weak, apart.weak), "the weak view is never mixed"


def test_both_strong_views_are_drawn_for_themselves() -> None:
    unlabeled = views(mix=ALWAYS)
    assert not torch.equal(unlabeled.strong[0], unlabeled.strong[1])
    assert not torch.equal(unlabeled.boxes[0], unlabeled.boxes[1])


def test_mixing_with_a_second_batch() -> None:
    mixed, apart = views(V1, mix=ALWAYS), views(V1, mix=NEVER)
    assert mixed.partner_batch is not None
    assert mixed.partner_batch.images.shape == (4, 3, SIDE, SIDE)
    assert mixed.partner.tolist() == [0, 1, 2, 3]
    plain = StrongSettings(jitter_probability=0.0, grayscale_probability=0.0, blur_probability=0.0)
    bare = views(V1, mix=ALWAYS, strong=plain)
    assert bare.partner_batch is not None
    for view, box in zip(bare.strong, bare.boxes, strict=True):
        spread = box[:, None].expand_as(view)
        assert torch.equal(view[spread], bare.partner_batch.images[spread])
        assert torch.equal(view[~spread], bare.weak[~spread])
    assert not torch.equal(mixed.strong[0], apart.strong[0])


def test_without_need_nothing_is_made() -> None:
    made = raw()
    del made["unlabeled"]
    assert maker(SUPERVISED)(made, 0, CPU)[1] is None


def test_draws_follow_the_step_and_the_seed_alone() -> None:
    def plain(unlabeled: Unlabeled) -> dict[str, Any]:
        return {"strong": unlabeled.strong, "boxes": unlabeled.boxes}

    one = maker()
    one(raw(), 8, CPU)
    torch.manual_seed(4)
    first, again = one(raw(), 5, CPU)[1], views(step=5)
    assert first is not None
    assert not differences(plain(first), plain(again))
    assert differences(plain(again), plain(views(step=6)))
    assert differences(plain(again), plain(views(step=5, layout=replace(PLAN, seed=4))))


@pytest.mark.parametrize("normalise", ["total", "process"])
def test_denominators_count_valid_pixels(normalise: str) -> None:
    made = raw()
    labeled, _ = maker(layout=replace(PLAN, group=1, normalise=normalise))(made, 0, CPU)
    counts = made["labeled"][1].flatten(1).sum(1).float()
    expected = counts.sum().expand(2) if normalise == "total" else counts * 2
    assert torch.equal(labeled.denominator, expected)


class Source(Samples):
    """One image with a mask; says when its mask is opened."""

    names = ("only",)

    def __init__(self) -> None:
        self.opened = 0

    def __len__(self) -> int:
        return 1

    def image(self, index: int, region: Any = None) -> tuple[Any, Any]:
        values = np.arange(30 * 20, dtype=np.uint8).reshape(30, 20)
        return values[..., None].repeat(3, 2), values < 250

    def target(self, index: int, region: Any = None) -> tuple[Any, Any]:
        self.opened += 1
        values = np.arange(30 * 20, dtype=np.uint8).reshape(30, 20)
        return values, values > 5

    def has_target(self, index: int) -> bool:
        return True


def test_crops_of_image_mask_and_valid_fit_together() -> None:
    source = Source()
    weak = WeakSettings(crop=40, scale=(1.0, 1.0), flip=1.0)
    make = Crops({"labeled": [(source, 0)], "unlabeled": [(source, 0)]}, frozenset({"labeled"}), weak)
    pixels, valid, index, labels = make("labeled", 0, np.random.default_rng(0))
    assert (pixels.shape, labels.shape, index) == ((3, 40, 40), (40, 40), 0)
    assert np.array_equal(labels[valid], pixels[0][valid])
    assert valid.sum() == np.sum((labels > 5) & (labels < 250) & valid)
    assert valid.sum() > 100


def test_masks_of_unlabelled_images_stay_closed() -> None:
    source = Source()
    make = Crops({"unlabeled": [(source, 0)]}, frozenset({"labeled"}), WeakSettings(crop=16))
    pixels, valid, index = make("unlabeled", 0, np.random.default_rng(0))
    assert (pixels.shape, valid.shape, index) == ((3, 16, 16), (16, 16), 0)
    assert source.opened == 0


@pytest.mark.parametrize(
    ("requirements", "names"),
    [(V2, ["labeled", "unlabeled"]), (V1, ["labeled", "unlabeled", SECOND]), (SUPERVISED, ["labeled"])],
)
def test_streams_are_what_the_method_needs(requirements: Requirements, names: list[str]) -> None:
    pools = {"labeled": [0] * 5, "unlabeled": [0] * 7, SECOND: [0] * 7}
    source = Source()
    parts = DataParts(source, (), source, None, ("a", "b"))
    data = PixelData.model_validate({"shapes": {}, "labels": 1})
    found = TrainingData(parts, data, PLAN, requirements).streams(pools)
    assert [stream.name for stream in found] == names
    assert [stream.batch for stream in found] == [2, 4, 4][: len(names)]
