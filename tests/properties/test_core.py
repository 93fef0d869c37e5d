"""Properties that hold for any input: mixing, complementary masks, the threshold, the average, the denominators."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from semikit.core.channel_dropout import ChannelDropout, channel_masks
from semikit.core.ema import ema_decay, update
from semikit.core.losses import denominators, masked_cross_entropy
from semikit.core.mixing import mix_images, mix_maps, partners
from semikit.core.pseudo_labels import predicted
from semikit.core.thresholds import FixedThreshold
from semikit.metrics.confusion import count, iou

SEEDS = st.integers(0, 2**31)
QUICK = settings(max_examples=40, deadline=None)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@QUICK
@given(seed=SEEDS, batch=st.integers(1, 7), group=st.integers(1, 5))
def test_mixing_moves_pixels_and_all_that_belongs_to_them_together(seed: int, batch: int, group: int) -> None:
    """Every pixel comes from the same place of the same or the partner image, with its label, confidence and valid."""
    shape = (batch, 3, 4)
    number = torch.arange(batch * 12).view(shape)
    boxes = torch.rand(shape, generator=generator(seed)) > 0.5
    partner = partners(batch, group)
    mixed = mix_maps(number, boxes, number, partner)
    assert torch.equal(mixed % 12, number % 12), "a pixel keeps its place"
    source = torch.where(boxes, partner[:, None, None], torch.arange(batch)[:, None, None])
    assert torch.equal(mixed // 12, source.expand(shape))
    images = number[:, None].float().expand(batch, 3, 3, 4)
    assert torch.equal(mix_images(images, boxes, images, partner), mixed[:, None].float().expand_as(images))
    confidence, valid = torch.rand(shape, generator=generator(seed)), number % 3 > 0
    assert torch.equal(mix_maps(confidence, boxes, confidence, partner), confidence.flatten()[mixed])
    assert torch.equal(mix_maps(valid, boxes, valid, partner), valid.flatten()[mixed])


@QUICK
@given(batch=st.integers(1, 9), group=st.integers(1, 5))
def test_partners_are_mutual_and_stay_in_their_group(batch: int, group: int) -> None:
    partner = partners(batch, group)
    assert torch.equal(partner[partner], torch.arange(batch))
    assert torch.equal(partner // group, torch.arange(batch) // group)


@QUICK
@given(
    seed=SEEDS,
    batch=st.integers(1, 9),
    widths=st.lists(st.integers(2, 9), min_size=1, max_size=4),
    group=st.integers(1, 5),
    kept=st.floats(0, 1),
    draw=st.sampled_from(["bernoulli", "half"]),
)
def test_complementary_masks_sum_to_2(
    seed: int, batch: int, widths: list[int], group: int, kept: float, draw: str
) -> None:
    rng = np.random.default_rng(seed)
    views = channel_masks(rng, batch, widths, ChannelDropout(undropped=kept, sampling=draw), views=2, group=group)
    expected = sum(int(min(group, batch - start) * kept) for start in range(0, batch, group))
    for first, second, width in zip(*views, widths, strict=True):
        assert first.shape == (batch, width)
        assert ((first + second) == 2).all()
        assert int((first == 1).all(dim=1).sum()) == expected
        rest = first[~(first == 1).all(dim=1)]
        assert ((rest == 0) | (rest == 2)).all()


@QUICK
@given(seed=SEEDS, low=st.floats(0, 1), high=st.floats(0, 1), classes=st.integers(2, 6))
def test_a_higher_threshold_takes_a_subset(seed: int, low: float, high: float, classes: int) -> None:
    low, high = sorted((low, high))
    logits = 5 * torch.randn(3, classes, 4, generator=generator(seed))
    prediction, index = predicted(logits), torch.arange(len(logits))
    valid = torch.rand(3, 4, generator=generator(seed)) > 0.3
    assert (FixedThreshold(high)(prediction, valid, index) <= FixedThreshold(low)(prediction, valid, index)).all()
    assert torch.equal(FixedThreshold(0.0)(prediction, valid, index), valid)
    assert (prediction.confidence >= 1 / classes - 1e-6).all()
    assert (prediction.confidence <= 1).all()


class One(nn.Module):
    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.p = nn.Parameter(values.clone())
        self.register_buffer("b", values.clone())


@QUICK
@given(seed=SEEDS, decay=st.floats(0, 1), applied=st.sampled_from([0.0, 1.0]))
def test_the_average_lies_between_its_ends(seed: int, decay: float, applied: float) -> None:
    old, new = torch.randn(2, 50, generator=generator(seed))
    teacher, student = One(old), One(new)
    update(teacher, student, decay, torch.tensor(applied))
    low, high = torch.minimum(old, new) - 1e-6, torch.maximum(old, new) + 1e-6
    for value in (teacher.p.detach(), teacher.b):
        assert ((value >= low) & (value <= high)).all()
        if not applied:
            assert torch.equal(value, old)


@QUICK
@given(step=st.integers(0, 10**6), cap=st.floats(0, 0.9999))
def test_the_decay_grows_up_to_its_cap(step: int, cap: float) -> None:
    assert 0 <= ema_decay(step, cap) <= ema_decay(step + 1, cap) <= cap


@QUICK
@given(seed=SEEDS, batch=st.integers(2, 6), group=st.integers(1, 4), cut=st.integers(0, 6), share=st.floats(0, 1))
def test_losses_of_the_parts_add_up_to_the_whole(seed: int, batch: int, group: int, cut: int, share: float) -> None:
    logits = torch.randn(batch, 3, 4, generator=generator(seed), dtype=torch.float64)
    labels = torch.randint(3, (batch, 4), generator=generator(seed))
    valid = torch.rand(batch, 4, generator=generator(seed)) < share
    for normalise in ("total", "process"):
        items = (logits, labels, valid, denominators(valid, group, normalise))
        cut = 1 + cut % (batch - 1)
        parts = [masked_cross_entropy(*(item[part] for item in items)) for part in (slice(cut), slice(cut, None))]
        whole = masked_cross_entropy(*items)
        torch.testing.assert_close(parts[0] + parts[1], whole)
        assert torch.isfinite(whole)


@QUICK
@given(seed=SEEDS, classes=st.integers(2, 6))
def test_the_confusion_matrix_counts_every_valid_position_once(seed: int, classes: int) -> None:
    predicted, labels = torch.randint(classes, (2, 30), generator=generator(seed))
    valid = torch.rand(30, generator=generator(seed)) > 0.4
    matrix = count(predicted, labels, valid, classes)
    assert int(matrix.sum()) == int(valid.sum())
    values = iou(matrix).nan_to_num(0)
    assert ((values >= 0) & (values <= 1)).all()
    perfect = iou(count(labels, labels, valid, classes))
    assert torch.equal(perfect.nan_to_num(1.0), torch.ones(classes, dtype=torch.float64))
