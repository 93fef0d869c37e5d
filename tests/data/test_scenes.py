"""Made scenes at two dates: the same everywhere, changed where buildings come or go, not where colours differ."""

from __future__ import annotations

import hashlib
import pickle
import re
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from semikit.data.synthetic.scene_images import Canvas, Clouds, Light, footprints, paint, photograph
from semikit.data.synthetic.scene_parts import MARGIN, Block, Plan, Slab, draw_streets
from semikit.data.synthetic.scenes import CLASS_NAMES, ScenesSettings, ScenesSource, draw_plan, make_pair
from semikit.errors import DataError
from semikit.raster.region import Region

FEW = ScenesSettings(train=60, val=3, test=2, seed=7)
CHANGED = [2060, 989, 1255, 377, 708, 528]
MEANS = (129.27, 97.55)

Pairs = tuple[NDArray[np.float32], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def train() -> ScenesSource:
    return ScenesSource(FEW, "train")


@pytest.fixture(scope="module")
def all_pairs(train: ScenesSource) -> Pairs:
    pairs = np.stack([train.image(i)[0] for i in range(60)]).astype(np.float32)
    return pairs, np.stack([train.target(i)[0] for i in range(60)])


def test_offers_pairs_and_their_labels(train: ScenesSource) -> None:
    pair, valid = train.image(0)
    labels, labeled = train.target(0)
    assert pair.shape == (2, 96, 96, 3)
    assert labels.shape == labeled.shape == (96, 96)
    assert pair.dtype == labels.dtype == np.uint8
    assert valid is None
    assert labeled.dtype == bool
    assert labeled.all()
    assert len(train) == len(set(train.names)) == 60
    assert train.names[3] == "train-00003"
    assert train.has_target(59)
    assert not train.has_target(60)
    assert train.extent(0) is None
    assert train.files(0) == ()
    assert CLASS_NAMES == ("unchanged", "changed")


def test_a_region_is_cut_from_both_dates_and_the_labels(train: ScenesSource) -> None:
    region = Region(top=10, left=40, height=24, width=32)
    assert np.array_equal(train.image(1, region)[0], train.image(1)[0][:, 10:34, 40:72])
    labels, labeled = train.target(1, region)
    assert np.array_equal(labels, train.target(1)[0][10:34, 40:72])
    assert labeled.shape == (24, 32)
    assert labeled.all()


def test_a_pair_depends_on_seed_split_index_and_size_alone(train: ScenesSource) -> None:
    other = ScenesSource(ScenesSettings(train=9, seed=7), "train")
    other.image(8)
    assert np.array_equal(other.image(4)[0], train.image(4)[0])
    assert np.array_equal(other.target(4)[0], train.target(4)[0])
    makers = [partial(make_pair, 7, "train", 4), partial(make_pair, 8, "train", 4), partial(make_pair, 7, "val", 4)]
    makers.append(partial(make_pair, 7, "train", 5))
    pixels = [make(96)[0] for make in makers]
    assert np.array_equal(pixels[0], train.image(4)[0])
    assert len({hashlib.sha256(p.tobytes()).hexdigest() for p in pixels}) == 4


def test_a_change_of_the_generator_is_noticed(train: ScenesSource) -> None:
    """Scores are compared between versions, so the scenes may not drift; labels are free of rounding."""
    assert [int(train.target(i)[0].sum()) for i in range(6)] == CHANGED
    assert train.image(0)[0].mean(axis=(1, 2, 3)) == pytest.approx(MEANS, abs=0.01)


def test_what_is_kept_cannot_be_changed_from_outside(train: ScenesSource) -> None:
    before, labels = train.image(2)[0].copy(), train.target(2)[0].copy()
    corner = Region(0, 0, 40, 40)
    train.image(2)[0][:] = 0
    train.image(2, corner)[0][:] = 0
    train.target(2)[0][:] = 5
    train.target(2, corner)[0][:] = 5
    assert np.array_equal(train.image(2)[0], before)
    assert np.array_equal(train.target(2)[0], labels)


def test_pickles_without_its_images(train: ScenesSource) -> None:
    train.image(1)
    packed = pickle.dumps(train)
    assert len(packed) < 10_000
    assert np.array_equal(pickle.loads(packed).image(1)[0], train.image(1)[0])


def test_a_tenth_has_changed_and_some_scenes_not_at_all(all_pairs: Pairs) -> None:
    share = all_pairs[1].mean(axis=(1, 2))
    assert set(np.unique(all_pairs[1])) == {0, 1}
    assert 0.06 < share.mean() < 0.12
    assert 0.05 < (share == 0.0).mean() < 0.2
    assert share.max() < 0.45


def best_f1(score: NDArray[np.float32], truth: NDArray[np.uint8]) -> float:
    """F1 of the best threshold on a score."""
    hits = np.cumsum(truth.ravel()[np.argsort(-score.ravel(), kind="stable")].astype(np.int64))
    return float((2.0 * hits / (np.arange(1, hits.size + 1) + hits[-1])).max())


def test_a_difference_of_colours_does_not_find_the_change(all_pairs: Pairs) -> None:
    """Neither as it is nor after both dates were brought to the same mean and contrast."""
    pairs, labels = all_pairs
    assert best_f1(labels.astype(np.float32), labels) == 1.0
    assert best_f1(np.abs(pairs[:, 0] - pairs[:, 1]).mean(axis=-1), labels) < 0.35
    even = (pairs - pairs.mean(axis=(2, 3), keepdims=True)) / pairs.std(axis=(2, 3), keepdims=True)
    assert best_f1(np.abs(even[:, 0] - even[:, 1]).mean(axis=-1), labels) < 0.4


def test_scenes_without_a_change_differ_as_much_as_the_others(all_pairs: Pairs) -> None:
    pairs, labels = all_pairs
    away = np.abs(pairs[:, 0] - pairs[:, 1]).mean(axis=(1, 2, 3))
    still = labels.max(axis=(1, 2)) == 0
    assert away[still].min() > 8.0
    assert away[still].mean() > 0.7 * away[~still].mean()


@pytest.mark.parametrize("size", [32, 97, 640])
def test_a_larger_image_shows_more_and_not_larger_buildings(size: int) -> None:
    pair, labels = make_pair(3, "val", 1, size)
    assert pair.shape == (2, size, size, 3)
    assert labels.shape == (size, size)
    assert pair.std() > 15.0
    plans = [draw_plan(np.random.default_rng(k), size) for k in range(12)]
    seen = [slab for plan in plans for slab in plan.slabs if slab.building]
    density = len(seen) / len(plans) / (size + 2 * MARGIN + 20) ** 2
    assert 0.6 / 1000 < density < 0.95 / 1000
    assert 10.5 < np.median([slab.half[0] for slab in seen]) < 12.0
    assert max(slab.half[0] for slab in seen) < 37.0


def lone(slab: Slab, size: int = 64) -> Plan:
    """A plan with bare ground and one thing on it."""
    plan = draw_plan(np.random.default_rng(0), size)
    plan.slabs[:], plan.cars[:], plan.trees[:] = [slab], [], []
    plan.furrows[:] = 0.0
    plan.land[:] = 0.5
    return plan


def house(**changes: object) -> Slab:
    given = {"here": (False, True), "building": True, "eave": 4.0, **changes}
    return Slab(30.0, 34.0, 0.0, (9.0, 5.0), np.full((2, 3), 0.8), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 180),
        ({"here": (True, False)}, 180),
        ({"here": (True, True)}, 0),
        ({"building": False, "eave": 0.0}, 0),
        ({"wing": (0.0, 9.0, 3.0)}, 180 + 24),
    ],
    ids=["new", "gone", "stays", "pad", "wing"],
)
def test_the_label_is_the_footprint_of_what_came_or_went(changes: dict[str, object], count: int) -> None:
    labels = footprints(lone(house(**changes)), Canvas(64, (0.0, 0.0)))
    inner = labels[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert inner.sum() == labels.sum() == count
    if count:
        assert inner[21:39, 29:39].all()


def test_a_building_is_painted_at_the_date_at_which_it_stands_and_shifted_with_the_canvas() -> None:
    plan = lone(house(pitch=0.5))
    tops = []
    for date, shift in ((0, (0.0, 0.0)), (1, (0.0, 0.0)), (1, (1.0, -1.0))):
        canvas = Canvas(64, shift)
        paint(plan, date, Clouds(np.random.default_rng(1), 64), canvas)
        tops.append(canvas.height)
    assert tops[0].max() == 0.0
    assert tops[1].max() == pytest.approx(4.0 + 0.5 * 4.5)
    assert np.array_equal(np.roll(tops[1], (-1, 1), (0, 1)), tops[2])


def test_shadows_fall_away_from_the_sun() -> None:
    canvas = Canvas(64, (0.0, 0.0))
    canvas.colour[:] = 0.5
    canvas.height[40:56, 40:56] = 6.0
    light = Light((1.0, 0.0), 1.0, 0.6, np.ones(3), haze=0.0, gamma=1.0, blur=0.4, grain=0.0)
    image = photograph(canvas, light, np.random.default_rng(0))[..., 1].astype(float)
    roof, north, south = image[32, 32], image[20:23, 26:38].mean(), image[42:46, 26:38].mean()
    assert roof == pytest.approx(south, abs=1.0)
    assert north == pytest.approx(0.4 * 0.5 * 255, abs=2.0)
    assert south == pytest.approx(0.5 * 255, abs=2.0)
    assert image[15, 26:38].mean() == pytest.approx(south, abs=1.0)


def test_streets_know_the_way_back() -> None:
    streets = draw_streets(np.random.default_rng(5), 200)
    for u, v in ((3.0, 8.0), (-40.0, 120.0)):
        y, x, angle = streets.place(u, v)
        assert np.allclose(streets.along(np.array(y), np.array(x)), (u, v))
        ahead = streets.place(u, v + 0.01)
        assert np.arctan2(-(ahead[1] - x), ahead[0] - y) == pytest.approx(
            np.arctan2(np.sin(angle), np.cos(angle)), abs=1e-3
        )


def test_lots_lie_side_by_side_within_their_block() -> None:
    block = Block(10.0, 50.0, (33.0, 40.0), (0, 0), rate=0.0, grows=0.5)
    lots = block.lots(np.random.default_rng(0), (18.0, 23.0), 2)
    assert len(lots) in (6, 8)
    assert sum(step * depth for _, _, step, depth in lots) == pytest.approx(59.0 * 73.0)
    assert {round(u, 2) for u, _, _, _ in lots} == {-4.75, 24.75}
    assert min(v - step / 2 for _, v, step, _ in lots) == pytest.approx(13.5)


def test_no_tree_grows_through_a_roof() -> None:
    plan = draw_plan(np.random.default_rng(2), 256)
    assert len(plan.trees) > 100
    for date in (0, 1):
        roofs = [slab for slab in plan.slabs if slab.building and slab.here[date]]
        trees = [tree for tree in plan.trees if tree.radius[date] > 0.0]
        assert not [tree for tree in trees if any(slab.holds(tree.y, tree.x, 0.0) for slab in roofs)]


def test_refuses_an_unknown_split() -> None:
    with pytest.raises(DataError, match=r"no split 'trian'.*train, val, test"):
        ScenesSource(FEW, "trian")  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [-1, 3])
def test_refuses_an_index_outside(index: int) -> None:
    with pytest.raises(IndexError, match=re.escape("of 3 in shapes-cd/val")):
        ScenesSource(FEW, "val").target(index)


def test_refuses_settings_out_of_range() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 32"):
        ScenesSettings(size=8)
    with pytest.raises(ValidationError, match="less than or equal to 512"):
        ScenesSettings(size=2048)
