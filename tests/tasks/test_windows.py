"""Large images window by window: the same as at once, whatever the windows, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from semikit.core.network import Features, Network
from semikit.core.task import Inference
from semikit.inference import streamed
from semikit.inference.ensemble import Ensemble
from semikit.inference.streamed import Coverage, Piece, predicted
from semikit.inference.windows import normalized, sliding
from semikit.raster.region import Region

INFERENCE = Inference(torch.device("cpu"), nullcontext)
Make = Callable[..., Any]


def joined(pieces: Any, size: tuple[int, int], classes: int = 3) -> tuple[Tensor, Any]:
    """All pieces put together; every pixel comes once."""
    whole, valid, seen = torch.full((classes, *size), -1.0), np.zeros(size, bool), np.zeros(size, int)
    for piece in pieces:
        assert isinstance(piece, Piece)
        rows, columns = piece.region.slices
        whole[:, rows, columns] = piece.probabilities
        valid[rows, columns] = piece.valid
        seen[rows, columns] += 1
    assert (seen == 1).all()
    return whole, valid


def look_at(image: Any, valid: Any = None, asked: list[Region] | None = None) -> Any:
    def look(region: Region) -> Any:
        if asked is not None:
            asked.append(region)
        return image[region.slices], None if valid is None else valid[region.slices]

    return look


def picture(size: tuple[int, int]) -> Any:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def at_once(network: Network, image: Any) -> Tensor:
    with torch.no_grad():
        return network(normalized(network, image[None], torch.device("cpu"))).softmax(1)[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(4, 40), st.integers(0, 20), st.integers(1, 5))
def test_a_network_that_sees_one_pixel_gives_the_same_as_at_once(
    pointwise: Make, height: int, width: int, side: int, overlap: int, batch: int
) -> None:
    network, image = pointwise(multiple=1), picture((height, width))
    coverage = Coverage((height, width), side, min(overlap, side // 2), batch)
    whole, valid = joined(predicted(look_at(image), Ensemble((network,), INFERENCE), coverage), (height, width))
    assert torch.allclose(whole, at_once(network, image), atol=1e-5)
    assert valid.all()


def test_strips_change_nothing(pointwise: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = pointwise(multiple=1), picture((50, 130))
    coverage = Coverage((50, 130), 16, 4, 3)
    once, _ = joined(predicted(look_at(image), Ensemble((network,), INFERENCE), coverage), (50, 130))
    monkeypatch.setattr(streamed, "_STRIP_BYTES", 4 * 4 * 16 * 37)
    assert len(coverage.strips(3)) == 4
    parts, _ = joined(predicted(look_at(image), Ensemble((network,), INFERENCE), coverage), (50, 130))
    assert torch.equal(once, parts)


@pytest.mark.parametrize("size", [(50, 130), (16, 300), (90, 12), (5, 7)])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_shares_are_the_whole_bit_for_bit(
    pointwise: Make, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], count: int
) -> None:
    """Whatever their number, also more than there are parts; a share repeats at most the windows that reach into it."""
    monkeypatch.setattr(streamed, "_STRIP_BYTES", 4 * 4 * 16 * 37)
    asked: list[Region] = []
    read, ensemble = look_at(picture(size), asked=asked), Ensemble((pointwise(multiple=1),), INFERENCE)
    coverage = Coverage(size, 16, 6, 1)
    once, _ = joined(predicted(read, ensemble, coverage), size)
    windows = len(asked)
    pieces = [list(predicted(read, ensemble, coverage, (number, count))) for number in range(count)]
    parts, _ = joined([piece for share in pieces for piece in share], size)
    assert torch.equal(once, parts)
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
    assert all(share[-1].done == share[-1].total == len(share) for share in pieces if share)
    repeated, in_a_strip = len(asked) - 2 * windows, 37 // 10 + 2
    assert repeated <= (count - 1) * 2 * in_a_strip


@pytest.mark.parametrize("most", [0, 2, 4])
def test_only_busy_rows_count_for_a_share(pointwise: Make, most: int) -> None:
    """An area of interest in a corner is shared too; all parts come once, also where nothing is in it."""
    read, ensemble = look_at(picture((160, 20))), Ensemble((pointwise(multiple=1),), INFERENCE)
    coverage = Coverage((160, 20), 16, 0, 1)
    pieces = [
        list(predicted(read, ensemble, coverage, (number, 2), lambda region: 3 <= region.top // 16 < 3 + most))
        for number in range(2)
    ]
    joined([piece for share in pieces for piece in share], (160, 20))
    busy = [sum(3 <= piece.region.top // 16 < 3 + most for piece in share) for share in pieces]
    assert busy == [most // 2, most // 2]


class Blur(Network):
    """Classes by the mean of 5 x 5 pixels; edges of what it is given are zeros, so windows differ there."""

    def __init__(self) -> None:
        super().__init__()
        self.widths, self.embed_dim, self.num_classes, self.multiple = (3,), 3, 3, 1
        self.mean, self.std = (0.4,) * 3, (0.2,) * 3

    def encode(self, images: Tensor) -> Features:
        return Features((images,), (images.shape[-2], images.shape[-1]))

    def embed(self, features: Features) -> Tensor:
        return nn.functional.avg_pool2d(features.levels[0], 5, 1, 2)

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        return 3 * embedding

    def encoder_parameters(self) -> list[nn.Parameter]:
        return []


@pytest.mark.parametrize("sides", [(24, 40), (32, 64)])
def test_no_seams_and_no_dependence_on_the_tile(sides: tuple[int, int]) -> None:
    """Where windows meet, the change from pixel to pixel is no larger than elsewhere, and both tiles agree."""
    size, network = (120, 150), Blur()
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    smooth = np.stack([rows, columns, 255 - rows], -1).astype(np.uint8)
    found = []
    for side in sides:
        coverage = Coverage(size, side, side // 4, 4)
        whole, _ = joined(predicted(look_at(smooth), Ensemble((network,), INFERENCE), coverage), size)
        inner = (whole - at_once(network, smooth))[:, 3:-3, 3:-3]
        assert inner.abs().max() < 0.05
        steps = (whole[:, 3:-3, 1:] - whole[:, 3:-3, :-1]).abs().amax(dim=(0, 1))
        seams = [k - 1 for start in coverage.starts(1)[1:] for k in (start, start + side // 4) if 5 < k < size[1] - 5]
        others = [k for k in range(5, size[1] - 6) if k not in seams]
        assert steps[seams].max() < steps[others].max() + 0.01
        found.append(whole)
    assert (found[0] - found[1])[:, 3:-3, 3:-3].abs().max() < 0.05
    hard = joined(predicted(look_at(smooth), Ensemble((network,), INFERENCE), Coverage(size, sides[0], 0, 4)), size)[0]
    assert (hard - at_once(network, smooth))[:, 3:-3, 3:-3].abs().max() > 0.1, "without overlap there are seams"


def test_without_a_ramp_it_is_the_published_sliding_window(pointwise: Make) -> None:
    network, image = pointwise(multiple=7), picture((50, 61))
    coverage = Coverage((50, 61), 21, 7, 2, ramp=False)
    whole, _ = joined(predicted(look_at(image), Ensemble((network,), INFERENCE), coverage), (50, 61))
    with torch.no_grad():
        total = sliding(network, normalized(network, image[None], torch.device("cpu")), 21)[0]
    assert torch.allclose(whole, total / total.sum(0), atol=1e-6)


def teststreamed_without_a_valid_pixel_are_not_predicted(pointwise: Make) -> None:
    network, image = pointwise(multiple=1), picture((32, 64))
    valid = np.ones((32, 64), bool)
    valid[:, :40] = False
    coverage = Coverage((32, 64), 16, 0, 1)
    whole, found = joined(predicted(look_at(image, valid), Ensemble((network,), INFERENCE), coverage), (32, 64))
    assert np.array_equal(found, valid)
    assert len(network.seen) == 4, "two of four windows a row"
    assert torch.allclose(whole[:, :, 40:], at_once(network, image)[:, :, 40:], atol=1e-5)


def test_only_windows_are_asked_for_and_progress_is_told(pointwise: Make) -> None:
    asked: list[Region] = []
    told: list[tuple[int, int]] = []
    coverage = Coverage((300, 200), 32, 8, 4)
    pieces = predicted(
        look_at(picture((300, 200)), asked=asked),
        Ensemble((pointwise(multiple=1),), INFERENCE),
        coverage,
    )
    for piece in pieces:
        assert piece.region.height <= 32
        told.append((piece.done, piece.total))
    assert all((region.height, region.width) == (32, 32) for region in asked)
    assert told == [(k, len(coverage.starts(0))) for k in range(1, len(coverage.starts(0)) + 1)]
