"""RandAugment against PIL, image by image and bit for bit, its draws, and what keeps it fast: static, nothing read."""

from __future__ import annotations

import shutil

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.step.pil_augment import pil_randaugment
from semikit.augment.randaugment import (
    BLENDS,
    MOVES,
    Op,
    draw_boxes,
    draw_operations,
    draw_ops,
    encode,
    randaugment,
    static_randaugment,
)
from semikit.augment.settings import RandAugmentSettings
from semikit.core.batch import take
from tests.helpers.sync_counter import SyncCounter

FILL = (125, 123, 114)
USB, FIXMATCH = RandAugmentSettings(), RandAugmentSettings(kind="fixmatch")
Size = tuple[int, int]
Array = npt.NDArray[np.generic]


def pictures(size: Size = (32, 32)) -> Tensor:
    """(12, 3, H, W): noise, soft scenes, slopes, edges, dark, bright, two-valued, saturated and constant images."""
    rng = np.random.default_rng(0)
    height, width = size
    rows, columns = np.mgrid[:height, :width] / max(size)
    noise = rng.integers(0, 256, (3, height, width))
    soft = [
        np.moveaxis(
            np.asarray(
                Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(
                    (width, height), Image.Resampling.BICUBIC
                )
            ),
            -1,
            0,
        )
        for _ in range(3)
    ]
    slopes = 255 * np.stack([rows, columns, 1 - rows])
    edges = np.stack([40 + 160 * (rows > 0.3), 10 + 240 * (columns > 0.6), 90 + 20 * (rows + columns > 1)])
    one = np.full((3, height, width), 77)
    one[1] = 200
    lonely = np.zeros((3, height, width))
    lonely[:, 0, 0] = 255
    made = [noise, *soft, slopes, edges, noise // 8, 250 + noise % 6, 255 * (noise > 128), noise * 0, one, lonely]
    return torch.from_numpy(np.stack(made).astype(np.uint8))


def boxes(batch: int) -> npt.NDArray[np.int64]:
    return np.tile(np.array([0, 0, -1, -1]), (batch, 1))


def through_pil(images: Tensor, op: Array, value: Array, box: Array) -> Tensor:
    arrays = images.permute(0, 2, 3, 1).numpy()
    changed = [
        np.asarray(pil_randaugment(Image.fromarray(array), *drawn, FILL))
        for array, *drawn in zip(arrays, op.tolist(), value.tolist(), box.tolist(), strict=True)
    ]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2)


def magnitudes(op: Op, size: Size) -> Array:
    """All that can be drawn where they are countable, a fine net and all levels of `fixmatch` else."""
    if op in BLENDS:
        return np.concatenate([np.linspace(0, 1, 81), np.arange(1, 10) * 0.9 / 10 + 0.05])
    if op is Op.POSTERIZE:
        return np.arange(1.0, 9.0)
    if op is Op.SOLARIZE:
        return np.concatenate([np.arange(0, 257.0), np.random.default_rng(1).uniform(0, 256, 40)])
    if op is Op.ROTATE:
        return np.concatenate([np.arange(-30, 31.0), np.random.default_rng(1).uniform(-30, 30, 60)])
    if op in MOVES:
        side = {Op.TRANSLATE_X: size[1], Op.TRANSLATE_Y: size[0]}.get(op, 1)
        levels = np.arange(-9, 10) * 0.3 / 10
        drawn = np.random.default_rng(1).uniform(-0.3, 0.3, 100)
        return np.concatenate([side * drawn, side * levels, np.trunc(side * levels)])
    return np.zeros(1)


@pytest.mark.parametrize("size", [(32, 32), (21, 34)])
@pytest.mark.parametrize("op", list(Op), ids=lambda op: op.name)
def test_each_operation_equals_pil_over_all_magnitudes(op: Op, size: Size) -> None:
    base, values = pictures(size), magnitudes(op, size)
    images = base.repeat(len(values), 1, 1, 1)
    value = np.repeat(values, len(base))[:, None]
    code = np.full(value.shape, int(op))
    draws = encode(code, value, boxes(len(images)), size, FILL)
    ours = randaugment(images, draws)
    assert torch.equal(ours, through_pil(images, code, value, boxes(len(images))))
    assert torch.equal(static_randaugment(images, draws), ours)
    assert torch.equal(ours, images) == (op is Op.IDENTITY)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3), (7, 2)])
def test_tiny_images_equal_pil(size: Size) -> None:
    images = pictures(size).repeat(20, 1, 1, 1)
    op, value = draw_operations(np.random.default_rng(0), len(images), size, USB)
    box = draw_boxes(np.random.default_rng(1), len(images), size, USB)
    draws, expected = encode(op, value, box, size, FILL), through_pil(images, op, value, box)
    assert torch.equal(randaugment(images, draws), expected)
    assert torch.equal(static_randaugment(images, draws), expected)


@pytest.mark.parametrize("settings", [USB, FIXMATCH, RandAugmentSettings(ops=5)], ids=["usb", "fixmatch", "five"])
@pytest.mark.parametrize("size", [(32, 32), (48, 40)])
def test_sequences_with_their_box_equal_the_loop_over_pil(settings: RandAugmentSettings, size: Size) -> None:
    images = pictures(size).repeat(50, 1, 1, 1)
    rng = np.random.default_rng(7)
    op, value = draw_operations(rng, len(images), size, settings)
    box = draw_boxes(rng, len(images), size, settings)
    ours = randaugment(images, encode(op, value, box, size, settings.fill))
    assert torch.equal(ours, through_pil(images, op, value, box))
    drawn = draw_ops(np.random.default_rng(7), len(images), size, settings)
    assert torch.equal(ours, static_randaugment(images, drawn))


@pytest.mark.parametrize("settings", [USB, FIXMATCH], ids=["usb", "fixmatch"])
def test_every_image_has_a_draw_of_its_own(settings: RandAugmentSettings) -> None:
    images = pictures()[1:2].repeat(64, 1, 1, 1)
    views = randaugment(images, draw_ops(np.random.default_rng(0), 64, (32, 32), settings))
    assert len({view.numpy().tobytes() for view in views}) >= 62


def test_draws_repeat_by_seed_and_the_images_stay() -> None:
    images = pictures()
    before = images.clone()
    first, second, other = (
        randaugment(images, draw_ops(np.random.default_rng(seed), 12, (32, 32), USB)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)


def test_parts_of_a_batch_change_nothing() -> None:
    images = pictures()
    draws = draw_ops(np.random.default_rng(5), 12, (32, 32), USB)
    for form in (randaugment, static_randaugment):
        assert torch.equal(form(images[5:9], take(draws, slice(5, 9))), form(images, draws)[5:9])


def test_the_box_is_drawn_as_published() -> None:
    batch = 20000
    box = draw_boxes(np.random.default_rng(0), batch, (32, 32), USB)
    assert (box[:, :2].min(), box[:, :2].max(), box[:, 2:].max()) == (0, 31, 32)
    free = (box[:, :2] > 0).all(1) & (box[:, 2:] < 32).all(1)
    sides = (box[:, 2] - box[:, 0])[free]
    assert (box[free, 2] - box[free, 0] == box[free, 3] - box[free, 1]).all()
    assert (sides.min(), sides.max()) == (0, 15)
    fixed = draw_boxes(np.random.default_rng(0), batch, (32, 40), FIXMATCH)
    whole = (fixed[:, :2] > 0).all(1) & (fixed[:, 2] < 40) & (fixed[:, 3] < 32)
    assert (fixed[whole, 2:] - fixed[whole, :2] == 20).all()
    # The middle lies anywhere in 0..40, so the left end is 0 for the first half side and the pixel after it.
    assert (fixed[:, 0] == 0).mean() == pytest.approx(11 / 40, abs=0.012)
    assert (box[:, 0] == 0).mean() == pytest.approx(np.mean(np.clip(np.linspace(0, 8, 999), 0, None)) / 31, abs=0.012)


def test_usb_draws_fourteen_operations_uniformly_with_replacement() -> None:
    op, value = draw_operations(np.random.default_rng(0), 30000, (32, 64), USB)
    assert op.shape == (30000, 3)
    share = np.bincount(op.ravel(), minlength=14) / op.size
    assert share.shape == (14,)
    np.testing.assert_allclose(share, 1 / 14, atol=0.004)
    twice = (op[:, 0] == op[:, 1]) | (op[:, 0] == op[:, 2]) | (op[:, 1] == op[:, 2])
    assert twice.mean() == pytest.approx(1 - 13 * 12 / 14**2, abs=0.01)
    bounds = {
        **dict.fromkeys(BLENDS, (0.05, 0.95)),
        Op.ROTATE: (-30, 30),
        Op.SHEAR_X: (-0.3, 0.3),
        Op.SHEAR_Y: (-0.3, 0.3),
        Op.TRANSLATE_X: (-0.3 * 64, 0.3 * 64),
        Op.TRANSLATE_Y: (-0.3 * 32, 0.3 * 32),
        Op.SOLARIZE: (0, 256),
    }
    for code, (low, high) in bounds.items():
        drawn = value[op == code]
        assert low <= drawn.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < drawn.max() <= high
        assert drawn.mean() == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
    assert np.bincount(value[op == Op.POSTERIZE].astype(int)).nonzero()[0].tolist() == [4, 5, 6, 7]


def test_fixmatch_draws_nine_levels_and_applies_half_of_them() -> None:
    op, value = draw_operations(np.random.default_rng(0), 30000, (32, 64), FIXMATCH)
    assert op.shape == (30000, 2)
    assert (op == Op.IDENTITY).mean() == pytest.approx(0.5 + 0.5 / 14, abs=0.01)
    levels = range(1, 10)
    signs = (-1, 1)
    expected = {
        **{code: {level * 0.9 / 10 + 0.05 for level in levels} for code in BLENDS},
        Op.POSTERIZE: {int(level * 4 / 10) + 4 for level in levels},
        Op.ROTATE: {sign * int(level * 30 / 10) for level in levels for sign in signs},
        Op.SHEAR_X: {sign * (level * 0.3 / 10) for level in levels for sign in signs},
        Op.SHEAR_Y: {sign * (level * 0.3 / 10) for level in levels for sign in signs},
        Op.SOLARIZE: {256 - int(level * 256 / 10) for level in levels},
        Op.TRANSLATE_X: {int(sign * (level * 0.3 / 10) * 64) for level in levels for sign in signs},
        Op.TRANSLATE_Y: {int(sign * (level * 0.3 / 10) * 32) for level in levels for sign in signs},
    }
    for code, values in expected.items():
        assert set(value[op == code].tolist()) == values, code


def test_settings_change_count_probability_and_box() -> None:
    images = pictures()
    never = RandAugmentSettings(probability=0, cutout=0, ops=4)
    draws = draw_ops(np.random.default_rng(0), 12, (32, 32), never)
    assert draws.op.shape == (12, 4)
    assert torch.equal(randaugment(images, draws), images)
    only_boxes = never.model_copy(update={"cutout": 1.0, "fill": (1, 2, 3)})
    boxed = randaugment(images, draw_ops(np.random.default_rng(0), 12, (32, 32), only_boxes))
    changed = (boxed != images).any(1)
    assert changed.flatten(1).any(1).all()
    assert (boxed.permute(0, 2, 3, 1)[changed] == torch.tensor([1, 2, 3])).all()


@pytest.mark.parametrize("settings", [USB, FIXMATCH], ids=["usb", "fixmatch"])
def test_nothing_waits_for_the_device(settings: RandAugmentSettings) -> None:
    images = pictures()
    draws = draw_ops(np.random.default_rng(0), 12, (32, 32), settings)
    for form in (static_randaugment, randaugment):
        with SyncCounter() as counter:
            form(images, draws)
        assert not counter.found
        assert counter.total > 50


def test_the_same_calls_for_all_draws() -> None:
    totals = set()
    for seed in range(4):
        with SyncCounter() as counter:
            static_randaugment(pictures(), draw_ops(np.random.default_rng(seed), 12, (32, 32), USB))
        totals.add(counter.total)
    assert len(totals) == 1


@pytest.mark.long
def test_compiles_as_one_graph() -> None:
    images, draws = pictures(), draw_ops(np.random.default_rng(0), 12, (32, 32), USB)
    compiled = torch.compile(randaugment, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images, draws), randaugment(images, draws))


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
def test_compiled_it_gives_the_same_numbers() -> None:
    """One operation an image keeps the compilation short; the second batch of draws shows that nothing is fixed."""
    images, settings = pictures().repeat(8, 1, 1, 1), RandAugmentSettings(ops=1)
    compiled = torch.compile(randaugment, fullgraph=True)
    for seed in range(2):
        draws = draw_ops(np.random.default_rng(seed), len(images), (32, 32), settings)
        assert torch.equal(compiled(images, draws), randaugment(images, draws))
