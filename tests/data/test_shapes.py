"""The built-in images: the same everywhere, of several classes, told apart by pattern and not by colour."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from semikit.data.samples import Samples
from semikit.data.synthetic.shapes import CLASS_NAMES, ShapesSettings, ShapesSource, make_scene
from semikit.errors import DataError

FEW = ShapesSettings(train=60, val=3, test=2, seed=7)
COUNTS = [2286, 0, 851, 675, 607, 1981]
MEAN = 77.99


@pytest.fixture(scope="module")
def train() -> ShapesSource:
    return ShapesSource(FEW, "train")


def test_offers_what_the_loader_asks_of_a_source(train: ShapesSource) -> None:
    source: Samples = train
    image, valid = source.image(0)
    labels, labeled = source.target(0)
    assert image.shape == (80, 80, 3)
    assert labels.shape == (80, 80)
    assert image.dtype == labels.dtype == np.uint8
    assert valid is None
    assert labeled.dtype == bool
    assert labeled.all()
    assert len(source) == len(set(source.names)) == 60
    assert source.has_target(59)
    assert not source.has_target(60)


def test_an_image_depends_on_seed_split_and_index_alone(train: ShapesSource) -> None:
    other = ShapesSource(ShapesSettings(train=9, seed=7), "train")
    other.image(8)
    assert np.array_equal(other.image(4)[0], train.image(4)[0])
    assert np.array_equal(other.target(4)[0], train.target(4)[0])
    pixels = [make_scene(7, "train", 4, 80)[0], make_scene(8, "train", 4, 80)[0], make_scene(7, "val", 4, 80)[0]]
    pixels.append(make_scene(7, "train", 5, 80)[0])
    assert np.array_equal(pixels[0], train.image(4)[0])
    assert len({hashlib.sha256(p.tobytes()).hexdigest() for p in pixels}) == 4


def test_a_change_of_the_generator_is_noticed(train: ShapesSource) -> None:
    """Scores are compared between versions, so the images may not drift; labels are free of rounding."""
    labels = train.target(0)[0]
    assert np.bincount(labels.ravel(), minlength=6).tolist() == COUNTS
    assert train.image(0)[0].mean() == pytest.approx(MEAN, abs=0.01)


def test_what_is_kept_cannot_be_changed_from_outside(train: ShapesSource) -> None:
    before = train.image(2)[0].copy()
    train.image(2)[0][:] = 0
    train.target(2)[0][:] = 5
    assert np.array_equal(train.image(2)[0], before)
    assert np.array_equal(train.target(2)[0], make_scene(7, "train", 2, 80)[1])


def test_pickles_without_its_images(train: ShapesSource) -> None:
    train.image(1)
    packed = pickle.dumps(train)
    assert len(packed) < 10_000
    assert np.array_equal(pickle.loads(packed).image(1)[0], train.image(1)[0])


def test_classes_are_balanced_and_the_background_does_not_dominate(train: ShapesSource) -> None:
    labels = np.stack([train.target(i)[0] for i in range(60)])
    share = np.bincount(labels.ravel(), minlength=len(CLASS_NAMES)) / labels.size
    assert 0.2 < share[0] < 0.4
    assert share[1:].min() > 0.08
    assert labels.max() == len(CLASS_NAMES) - 1


def test_mean_colour_does_not_tell_the_class(train: ShapesSource) -> None:
    """The nearest class mean in colour is hardly better than guessing among the five patterns."""
    colours, classes = [], []
    for i in range(60):
        image, labels = train.image(i)[0], train.target(i)[0]
        for label in np.unique(labels[labels > 0]):
            colours.append(image[labels == label].mean(axis=0))
            classes.append(label)
    known, truth = np.array(colours), np.array(classes)
    half = len(truth) // 2
    means = np.stack([known[:half][truth[:half] == label].mean(axis=0) for label in range(1, 6)])
    guess = 1 + np.linalg.norm(known[half:, None] - means, axis=2).argmin(axis=1)
    assert (guess == truth[half:]).mean() < 0.4


def test_a_larger_image_shows_the_same_scene() -> None:
    small, large = make_scene(3, "val", 0, 64)[1], make_scene(3, "val", 0, 128)[1]
    assert (small == large[::2, ::2]).mean() > 0.95


def test_every_class_has_a_name_and_a_colour() -> None:
    assert len(set(CLASS_NAMES)) == 6


def test_refuses_an_unknown_split() -> None:
    with pytest.raises(DataError, match=r"no split 'trian'.*train, val, test"):
        ShapesSource(FEW, "trian")  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [-1, 3])
def test_refuses_an_index_outside(index: int) -> None:
    with pytest.raises(IndexError, match="of 3 in shapes/val"):
        ShapesSource(FEW, "val").image(index)


def test_refuses_settings_out_of_range() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 32"):
        ShapesSettings(size=8)
