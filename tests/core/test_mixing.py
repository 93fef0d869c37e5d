"""Boxes, partners, and mixing as a choice of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from semikit.core.mixing import BoxMix, box_mask, mix_images, mix_maps, partners
from semikit.errors import ConfigError


def drawn(seed: int, batch: int, size: tuple[int, int], probability: float = 0.7) -> Tensor:
    return BoxMix(probability).draw(np.random.default_rng(seed), batch, size)


def released(rng: np.random.Generator, side: int) -> float:
    """Area of one box by the released procedure, word for word: redraw ratio and corner, one try at a time."""
    area = rng.uniform(0.02, 0.4) * side * side
    while True:
        ratio = rng.uniform(0.3, 1 / 0.3)
        width, height = int(np.sqrt(area / ratio)), int(np.sqrt(area * ratio))
        left, top = rng.integers(0, side, 2)
        if left + width <= side and top + height <= side:
            return width * height / side**2


def test_boxes_have_the_released_distribution() -> None:
    side, batch = 64, 20000
    boxes = BoxMix().draw(np.random.default_rng(0), batch, (side, side)).numpy()
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area = height * width / side**2
    mixed = area > 0
    assert mixed.mean() == pytest.approx(0.5, abs=0.015)
    assert area[mixed].mean() == pytest.approx(0.203, abs=0.004)
    rng = np.random.default_rng(1)
    slow = np.array([released(rng, side) for _ in range(4000)])
    assert area[mixed].mean() == pytest.approx(slow.mean(), abs=0.006)
    np.testing.assert_allclose(
        np.quantile(area[mixed], (0.1, 0.5, 0.9)), np.quantile(slow, (0.1, 0.5, 0.9)), atol=0.012
    )
    small = mixed & (area < 0.1) & (area > 0.05)
    ratio = height[small] / width[small]
    assert 0.27 < ratio.min() < 0.4
    assert 2.8 < ratio.max() < 3.7


def test_small_boxes_lie_anywhere() -> None:
    boxes = BoxMix(1.0, (0.02, 0.03), (1.0, 1.0)).draw(np.random.default_rng(0), 4000, (50, 50)).numpy()
    assert boxes[:, :2].min() == 0
    assert boxes[:, 2:].max() == 50
    assert np.abs((boxes[:, :2] + boxes[:, 2:]).mean(axis=0) / 2 - 25).max() < 1


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(10, 40), st.integers(10, 40))
def test_boxes_lie_inside_and_masks_show_them(seed: int, batch: int, height: int, width: int) -> None:
    boxes = BoxMix(0.5, (0.02, 0.2)).draw(np.random.default_rng(seed), batch, (height, width))
    assert boxes.dtype == torch.int64
    mask = box_mask(boxes, (height, width))
    assert mask.dtype == torch.bool
    expected = torch.zeros(batch, height, width, dtype=torch.bool)
    for image, (top, left, bottom, right) in enumerate(boxes.tolist()):
        assert 0 <= top <= bottom <= height
        assert 0 <= left <= right <= width
        expected[image, top:bottom, left:right] = True
    assert torch.equal(mask, expected)


def test_draws_repeat_and_differ() -> None:
    assert torch.equal(drawn(1, 8, (40, 40)), drawn(1, 8, (40, 40)))
    assert not torch.equal(drawn(1, 8, (40, 40)), drawn(2, 8, (40, 40)))


def test_probabilities_at_the_ends() -> None:
    assert drawn(0, 200, (40, 40), 0.0).sum() == 0
    assert (drawn(0, 200, (40, 40), 1.0)[:, 2] > 0).all()


def test_boxes_that_cannot_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no box of area 0\.9 with a ratio of 3 to 4 fits.*Lower the area"):
        BoxMix(0.5, (0.1, 0.9), (3.0, 4.0))
    with pytest.raises(ConfigError, match=r"fell inside 10 x 1000 pixels"):
        BoxMix(1.0, (0.4, 0.4)).draw(np.random.default_rng(0), 2, (10, 1000))


@given(st.integers(1, 40), st.integers(1, 12))
def test_partners_reverse_inside_groups(batch: int, group: int) -> None:
    index = torch.arange(batch)
    partner = partners(batch, group)
    assert partner.dtype == torch.int64
    assert torch.equal(partner[partner], index)
    assert torch.equal(partner // group, index // group)
    parts = [index[start : start + group].flip(0) for start in range(0, batch, group)]
    assert torch.equal(partner, torch.cat(parts))


def test_partners_of_odd_and_incomplete_groups() -> None:
    assert partners(3, 3).tolist() == [2, 1, 0]
    assert partners(8, 4).tolist() == [3, 2, 1, 0, 7, 6, 5, 4]
    assert partners(7, 4).tolist() == [3, 2, 1, 0, 6, 5, 4]
    assert partners(2, 1).tolist() == [0, 1]


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_mixing_chooses_each_pixel_from_self_or_partner(seed: int, batch: int, group: int, two_dates: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = (9, 11)
    images = torch.rand(batch, *((2, 3) if two_dates else (3,)), *size, generator=generator)
    boxes = box_mask(drawn(seed, batch, size), size)
    partner = partners(batch, group)
    before = images.clone()
    mixed = mix_images(images, boxes, images, partner)
    assert torch.equal(images, before)
    for image in range(batch):
        other = images[partner[image]]
        assert torch.equal(mixed[image][..., boxes[image]], other[..., boxes[image]])
        assert torch.equal(mixed[image][..., ~boxes[image]], images[image][..., ~boxes[image]])


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 4))
def test_labels_confidence_and_valid_stay_together(seed: int, batch: int, group: int) -> None:
    size = (9, 11)
    labels = torch.randperm(batch * 99, generator=torch.Generator().manual_seed(seed)).view(batch, *size)
    confidence, valid = labels.double() / 7, labels % 3 == 0
    images = torch.stack([labels, 2 * labels], dim=1)
    boxes, partner = box_mask(drawn(seed, batch, size), size), partners(batch, group)
    mixed = mix_maps(labels, boxes, labels, partner)
    assert torch.equal(mix_maps(confidence, boxes, confidence, partner), mixed.double() / 7)
    assert torch.equal(mix_maps(valid, boxes, valid, partner), mixed % 3 == 0)
    assert torch.equal(mix_images(images, boxes, images, partner), torch.stack([mixed, 2 * mixed], dim=1))


def test_without_boxes_nothing_changes() -> None:
    images = torch.rand(4, 3, 8, 8)
    empty = box_mask(torch.zeros(4, 4, dtype=torch.int64), (8, 8))
    assert not empty.any()
    assert torch.equal(mix_images(images, empty, images, partners(4, 4)), images)


def test_a_second_batch_is_a_pool() -> None:
    images, second = torch.zeros(2, 3, 4, 4), torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 4, 4)
    boxes = box_mask(torch.tensor([[0, 0, 2, 4], [0, 0, 4, 1]]), (4, 4))
    mixed = mix_images(images, boxes, second, torch.tensor([4, 2]))
    assert mixed[0, 0].tolist() == [[4.0] * 4] * 2 + [[0.0] * 4] * 2
    assert mixed[1, 2].tolist() == [[2.0, 0, 0, 0]] * 4
