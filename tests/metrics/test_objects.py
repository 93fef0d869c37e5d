"""Objects: against a plain count with scipy, and the rule for each kind of area by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from semikit.metrics.objects import ObjectScores
from semikit.raster.region import Region


def counted(predicted: Any, labels: Any, valid: Any = None, min_pixels: int = 0, classes: int = 2) -> list[list[int]]:
    """Matched, predicted and true of each class but the first."""
    found, truth = (torch.as_tensor(np.asarray(one, dtype=np.int64))[None] for one in (predicted, labels))
    seen = torch.ones_like(truth, dtype=torch.bool) if valid is None else torch.as_tensor(np.asarray(valid, bool))[None]
    metric = ObjectScores(classes, range(1, classes), min_pixels)
    metric.update(found, truth, seen)
    return metric.objects[1:].tolist()


def plain(
    predicted: NDArray[Any], labels: NDArray[Any], valid: NDArray[Any], number: int, min_pixels: int
) -> list[int]:
    """The same of one class, one area after the other."""
    found, truth = ([part == k for k in range(1, n + 1)] for part, n in map(ndimage.label, (
        predicted == number, (labels == number) & valid,
    )))  # fmt: skip
    matched = predicted_count = true = 0
    for area in truth:
        true += area.sum() >= min_pixels
    for area in found:
        hit = [t for t in truth if (area & t).sum() > 0.5 * ((area & valid) | t).sum()]
        assert len(hit) < 2
        if hit:
            large = int(hit[0].sum() >= min_pixels)
            matched, predicted_count = matched + large, predicted_count + large
        else:
            inside = (area & valid).sum()
            predicted_count += inside >= min_pixels and 2 * inside >= area.sum()
    return [matched, int(predicted_count), int(true)]


def blobs(rng: np.random.Generator, size: tuple[int, int], classes: int) -> NDArray[np.int64]:
    scores = np.stack([ndimage.gaussian_filter(rng.normal(size=size), 2.5) for _ in range(classes)])
    scores[0] += 0.03
    return scores.argmax(0)


def similar(rng: np.random.Generator, labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """A prediction: the truth, shifted here and there, with areas of its own."""
    other = blobs(rng, labels.shape, classes)
    return np.where(ndimage.gaussian_filter(rng.normal(size=labels.shape), 4) > 0.04, other, np.roll(labels, 1, 0))


@pytest.mark.parametrize("min_pixels", [0, 12])
@pytest.mark.parametrize("classes", [2, 4])
def test_as_a_plain_count_has_it(classes: int, min_pixels: int) -> None:
    rng = np.random.default_rng(classes)
    labels = blobs(rng, (60, 90), classes)
    predicted = similar(rng, labels, classes)
    valid = ndimage.gaussian_filter(rng.normal(size=labels.shape), 3) > -0.05
    expected = [plain(predicted, labels, valid, number, min_pixels) for number in range(1, classes)]
    assert counted(predicted, labels, valid, min_pixels, classes) == expected
    assert min(min(row) for row in expected) > 0
    assert all(row[0] < row[1] for row in expected)


@pytest.mark.parametrize(("strips", "rows"), [((90,), (60,)), ((90,), (7, 1, 30, 22)), ((40, 1, 49), (13, 47))])
def test_parts_of_an_image_count_as_the_whole(strips: Sequence[int], rows: Sequence[int]) -> None:
    rng = np.random.default_rng(5)
    labels = blobs(rng, (60, 90), 3)
    predicted, valid = similar(rng, labels, 3), rng.random(labels.shape) < 0.9
    metric = ObjectScores(3, [1, 2], 3)
    for left, width in zip(np.cumsum([0, *strips]), strips, strict=False):
        for top, height in zip(np.cumsum([0, *rows]), rows, strict=False):
            region = Region(int(top), int(left), height, width)
            parts = [torch.as_tensor(one[region.slices]) for one in (predicted, labels, valid)]
            metric.update(*parts, place=(region, (60, 90)))
    assert metric.objects[1:].tolist() == counted(predicted, labels, valid, 3, 3)
    assert metric.begun is None, "the next image begins anew"


def test_half_is_no_match_and_areas_meet_by_sides() -> None:
    """An IoU of a half could be that of two at once; a corner joins nothing, as in polygons."""
    assert counted([[1, 1, 0]], [[1, 0, 0]]) == [[0, 1, 1]]
    assert counted([[1, 1, 1, 0]], [[1, 1, 0, 0]]) == [[1, 1, 1]]
    assert counted([[1, 0], [0, 1]], [[1, 0], [0, 1]]) == [[2, 2, 2]]


def test_another_class_is_no_match() -> None:
    assert counted([[1, 1, 0, 2]], [[2, 2, 0, 2]], classes=3) == [[0, 1, 0], [1, 1, 2]]


def test_what_is_ignored() -> None:
    """It is in no IoU; a true area there is none, a predicted one is wrong only if half of it counts."""
    assert counted([[1, 1, 1, 1]], [[1, 1, 0, 0]], [[1, 1, 0, 0]]) == [[1, 1, 1]]
    assert counted([[0, 0, 0, 0]], [[0, 1, 1, 0]], [[1, 0, 0, 1]]) == [[0, 0, 0]]
    assert counted([[1, 1, 1, 0]], [[0, 0, 0, 0]], [[0, 0, 1, 1]]) == [[0, 0, 0]]
    assert counted([[1, 1, 0, 0]], [[0, 0, 0, 0]], [[0, 1, 1, 1]]) == [[0, 1, 0]]


def test_small_areas_are_left_out_with_what_matches_them() -> None:
    assert counted([[1, 1, 1, 0, 1]], [[1, 1, 0, 0, 0]], min_pixels=3) == [[0, 0, 0]]
    assert counted([[1, 1, 0, 0, 0]], [[1, 1, 1, 0, 1]], min_pixels=3) == [[1, 1, 1]]


def test_scores_of_all_and_of_each_class() -> None:
    metric = ObjectScores(4, [1, 2])
    metric.objects = torch.tensor([[0, 0, 0], [3, 4, 6], [0, 2, 0], [0, 0, 0]])
    metric._update_count = 1
    scores = metric.compute()
    assert {name: float(scores[f"object_{name}"]) for name in ("precision", "recall", "F1")} == {
        "precision": 0.5, "recall": 0.5, "F1": 0.5,
    }  # fmt: skip
    first = [float(scores[f"per_class/object_{name}"][1]) for name in ("precision", "recall", "F1")]
    assert first == [0.75, 0.5, 0.6]
    assert scores["per_class/object_F1"].isnan().tolist() == [True, False, True, True]
