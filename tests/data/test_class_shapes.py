from __future__ import annotations

import hashlib

import numpy as np
import pytest
from pydantic import ValidationError

from semikit.data.labeled_images import LabeledArrays
from semikit.data.synthetic.class_shapes import (
    CLASS_NAMES,
    SIDE,
    ClassShapesSettings,
    make_block,
    open_shapes,
    shapes_source,
)

LABELS = [0, 3, 3, 4, 2, 1, 6, 3, 0, 4, 7, 4, 6, 0, 7, 1]
MEAN = 88.278


@pytest.fixture(scope="module")
def train() -> LabeledArrays:
    return shapes_source(ClassShapesSettings(train=960, seed=7), "train")


def test_three_splits() -> None:
    parts = open_shapes(ClassShapesSettings(train=500, val=16, test=8))
    assert parts.test is not None
    assert (len(parts.train), len(parts.val), len(parts.test)) == (500, 16, 8)
    images = parts.train.arrays()
    assert images is not None
    assert images.shape == (500, SIDE, SIDE, 3)
    assert images.dtype == np.uint8
    assert parts.train.labels.dtype == np.int64
    assert parts.class_names == CLASS_NAMES


def test_classes_are_equally_frequent(train: LabeledArrays) -> None:
    assert np.bincount(train.labels).tolist() == [120] * 8


def test_an_image_depends_on_seed_split_and_number_alone(train: LabeledArrays) -> None:
    fewer = shapes_source(ClassShapesSettings(train=300, seed=7), "train")
    assert np.array_equal(fewer.data, train.data[:300])
    assert np.array_equal(fewer.labels, train.labels[:300])
    blocks = [make_block(7, "train", 0), make_block(7, "train", 1), make_block(8, "train", 0), make_block(7, "val", 0)]
    assert np.array_equal(blocks[1][0], train.data[240:480])
    assert len({hashlib.sha256(images.tobytes()).hexdigest() for images, _ in blocks}) == 4


def test_a_change_of_the_generator_is_noticed(train: LabeledArrays) -> None:
    """Scores are compared between versions, so the images may not drift."""
    assert train.labels[:16].tolist() == LABELS
    assert train.data.mean() == pytest.approx(MEAN, abs=0.01)


def test_neither_colour_nor_brightness_tells_the_class(train: LabeledArrays) -> None:
    """The nearest class mean in colour and contrast is hardly better than guessing among eight."""
    pixels = train.data.reshape(len(train), -1, 3).astype(np.float64)
    known = np.concatenate([pixels.mean(1), np.quantile(pixels, 0.1, axis=1)], axis=1)
    known = (known - known.mean(0)) / known.std(0)
    means = np.stack([known[:480][train.labels[:480] == label].mean(0) for label in range(8)])
    guess = np.linalg.norm(known[480:, None] - means, axis=2).argmin(1)
    assert (guess == train.labels[480:]).mean() < 0.35


def test_shapes_are_lighter_than_what_lies_around(train: LabeledArrays) -> None:
    middle = train.data[train.labels == 0][:, 12:20, 12:20].mean()
    corners = train.data[train.labels == 0][:, :3, :3].mean()
    assert middle - corners > 50


def test_too_few() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 8"):
        ClassShapesSettings(train=5)
