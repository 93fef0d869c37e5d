"""Channel masks: values, shares, groups, levels, and their application."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from semikit.core.channel_dropout import (
    ChannelDropout,
    apply_mask,
    apply_masks,
    channel_masks,
    check_levels,
    select,
)
from semikit.core.network import Features
from semikit.core.rng import rng_for
from semikit.errors import ConfigError


def masks(batch: int = 8, widths: tuple[int, ...] = (32,) * 4, step: int = 0, **settings: Any) -> Any:
    how = {
        "views": 2,
        "group": 4,
        **{key: settings.pop(key) for key in ("views", "group", "shared") if key in settings},
    }
    return channel_masks(rng_for(0, "dropout", step), batch, widths, ChannelDropout(**settings), **how)


def whole(mask: torch.Tensor) -> torch.Tensor:
    return (mask == 1).all(dim=1)


def test_complementary_at_half_is_0_or_2_and_sums_to_2() -> None:
    first, second = masks()
    dropped = first[0][~whole(first[0])]
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert ((first[0] + second[0]) == 2).all()


@pytest.mark.parametrize(
    ("group", "kept", "expected"), [(4, 0.5, 2), (4, 0.25, 1), (3, 0.5, 1), (1, 0.5, 0), (4, 0, 0), (4, 1, 4)]
)
def test_the_kept_share_of_each_group(group: int, kept: float, expected: int) -> None:
    first, second = masks(2 * group, group=group, undropped=kept)
    assert whole(first[0]).view(2, group).sum(dim=1).tolist() == [expected] * 2
    assert torch.equal(whole(first[0]), whole(second[0]))


def test_which_images_are_kept_is_drawn() -> None:
    kept = {tuple(whole(masks(4, step=step)[0][0]).tolist()) for step in range(40)}
    assert len(kept) == 6


@pytest.mark.parametrize("draw_kind", ["bernoulli", "half"])
@pytest.mark.parametrize("rate", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("kind", ["complementary", "independent"])
def test_each_view_keeps_the_mean_at_any_rate(kind: str, rate: float, draw_kind: str) -> None:
    for view in masks(400, (64,), kind=kind, rate=rate, sampling=draw_kind, undropped=0.0, group=4):
        assert view[0].mean().item() == pytest.approx(1.0, abs=0.03)
        assert len(view[0].unique()) == 2


def test_complementary_views_share_no_channel_and_miss_none() -> None:
    first, second = (view[0] for view in masks(rate=0.25, undropped=0.0))
    assert torch.equal(first == 0, second != 0)
    assert first.unique().tolist() == pytest.approx([0, 4 / 3])
    assert second.unique().tolist() == pytest.approx([0, 4])


def test_half_is_exact_and_bernoulli_is_not() -> None:
    exact = masks(8, (32,), sampling="half", undropped=0.0)[0][0]
    assert ((exact == 0).sum(dim=1) == 16).all()
    free = masks(8, (32,), undropped=0.0)[0][0]
    assert not ((free == 0).sum(dim=1) == 16).all()


def test_independent_streams_differ_and_share_the_kept_images() -> None:
    first, second = masks(kind="independent")
    assert torch.equal(whole(first[0]), whole(second[0]))
    assert not ((first[0] + second[0]) == 2).all()
    assert set(second[0].unique().tolist()) == {0.0, 1.0, 2.0}
    (single,) = masks(kind="independent", views=1)
    assert torch.equal(single[0][:4], first[0][:4]), "one stream is the first of two"


def test_levels_of_equal_width_share_a_mask() -> None:
    (first, second, third), _ = masks(widths=(16, 24, 16))
    assert first is third
    assert second.shape == (8, 24)
    assert torch.equal(whole(first), whole(second))
    (a, b), _ = masks(widths=(16, 16), shared=False)
    assert not torch.equal(a, b)


def test_levels_that_are_not_named_get_ones() -> None:
    view, _ = masks(levels=(1, 3))
    assert [bool((mask == 1).all()) for mask in view] == [True, False, True, False]
    assert torch.equal(view[1], masks()[0][1]), "the draw is the same"


def test_masks_do_not_depend_on_how_many_images_follow() -> None:
    for few, many in zip(masks(4), masks(12), strict=True):
        assert torch.equal(few[0], many[0][:4])


def test_none() -> None:
    assert masks(kind="none") == ()


def test_select_takes_rows_and_moves_shared_masks_once() -> None:
    drawn = masks()
    taken = select(drawn, range(4, 8), torch.device("cpu"))
    assert torch.equal(taken[1][0], drawn[1][0][4:8])
    assert taken[0][0] is taken[0][3]


def test_apply() -> None:
    mask = torch.tensor([[0.0, 2.0]])
    pixels, image = torch.ones(1, 2, 3, 3).bfloat16(), torch.ones(1, 2)
    features = apply_masks(Features((pixels, image), (3, 3)), (mask, mask))
    assert features.levels[0].dtype == torch.bfloat16, "autocast is not undone"
    assert features.levels[0][0, :, 1, 2].tolist() == [0.0, 2.0]
    assert features.levels[1].tolist() == [[0.0, 2.0]]
    assert apply_mask(image, mask).tolist() == [[0.0, 2.0]]
    assert apply_masks(features, ()) is features


def test_levels_the_encoder_does_not_have() -> None:
    check_levels(ChannelDropout(), (8,))
    check_levels(ChannelDropout(levels=(0, 3)), (8,) * 4)
    with pytest.raises(
        ConfigError, match=r"method\.dropout\.levels: 4 is no level of this encoder, which has 4; allowed are 0 to 3"
    ):
        check_levels(ChannelDropout(levels=(0, 4)), (8,) * 4)
