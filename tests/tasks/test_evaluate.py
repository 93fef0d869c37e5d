from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchmetrics import MetricCollection

from semikit.core.task import Final, Inference
from semikit.data.palette import palette
from semikit.data.samples import Samples
from semikit.errors import DataError
from semikit.inference import inspection, streamed, windows
from semikit.inference.evaluation import PixelEvaluation
from semikit.inference.windows import EvaluateSettings, normalized, read_ahead
from semikit.metrics.change import change_metrics
from semikit.metrics.segmentation import segmentation_metrics
from tests.helpers import tiny


def scores_of_pixels(num_classes: int, settings: EvaluateSettings) -> MetricCollection:
    return segmentation_metrics(num_classes, settings.average)


CPU = torch.device("cpu")
INFERENCE = Inference(CPU, nullcontext)
Make = Callable[..., Any]


class Source(Samples):
    """Images in memory, some of one size after another; counts how often each is read."""

    def __init__(self, sizes: list[tuple[int, int]], all_ignored: bool = False) -> None:
        rng = np.random.default_rng(0)
        self.names = [str(k) for k in range(len(sizes))]
        self.images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        self.labels = [rng.integers(0, 3, size, dtype=np.uint8) for size in sizes]
        self.valid = [rng.random(size) < (0 if all_ignored else 0.7) for size in sizes]
        self.read: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int, region: Any = None) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        self.read[index] += 1
        return self.images[index], None

    def target(self, index: int, region: Any = None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        return self.labels[index], self.valid[index]


SIZES = [(28, 28), (28, 28), (14, 42), (28, 28), (30, 20), (30, 20), (30, 20)]


def evaluation(batch: int = 4, average: str = "paper", window: str = "original") -> PixelEvaluation:
    settings = EvaluateSettings(batch=batch, average=average, window=window)
    return PixelEvaluation(("sky", "road", "car"), settings, 14, palette(3), scores_of_pixels)


@pytest.mark.parametrize("window", ["original", "sliding"])
def test_together_as_one_by_one(pointwise: Make, window: str) -> None:
    network, source = pointwise(), Source(SIZES)
    alone = evaluation(1, window=window).scores({"student": network}, source, INFERENCE)
    together = evaluation(4, window=window).scores({"student": network}, source, INFERENCE)
    assert together == alone
    assert max(shape[0] for shape in network.seen) == 3


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most numbers that an operation gave."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.most = max([self.most, *(leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))])
        return out


@pytest.mark.parametrize("tta", ["none", "flip+scale"])
@pytest.mark.parametrize("window", ["original", "sliding"])
def test_large_images_are_scored_part_by_part(window: str, tta: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same scores, and never with those of all classes at the size of the image."""
    source, classes = Source([(203, 301), (90, 60)]), 21
    network = tiny.network(num_classes=classes).eval()
    network.mean = network.std = (0.5, 0.5, 0.5)
    settings = EvaluateSettings(window=window, objects=("c1",))
    names = tuple(f"c{k}" for k in range(classes))
    form = PixelEvaluation(names, settings, 64, palette(classes), scores_of_pixels, final=Final(tta=tta))
    expected, shown = form.scores({"n": network}, source, INFERENCE), form._shown(network, source.images[0], INFERENCE)
    monkeypatch.setattr(inspection, "_VALUES", 2 * classes * 1000)
    examined = list(form.examined(network, source, INFERENCE))
    monkeypatch.setattr(windows, "_SCORES", 60 * 90 * classes)
    monkeypatch.setattr(streamed, "_STRIP_BYTES", 4 * 8 * 301 * classes)
    with Largest() as seen:
        found = form.scores({"n": network}, source, INFERENCE)
        again = list(form.examined(network, source, INFERENCE))
    for before, after in zip(examined, again, strict=True):
        for name in ("classes", "confidence", "own", "most", "surest"):
            torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(after.sampled.sum(0), before.sampled.sum(0))
    if window == "original" or tta == "none":
        assert found == expected
    assert seen.most < classes * 203 * 301
    parts = form._shown(network, source.images[0], INFERENCE)
    np.testing.assert_array_equal(parts[0], shown[0])
    np.testing.assert_allclose(parts[1], shown[1], rtol=1e-5)


def test_objects_of_images_that_are_read_by_windows(pointwise: Make) -> None:
    """The same as of images that are read whole, and of their own images only."""
    source = Source([(43, 60), (14, 90), (29, 29)])
    source.images = [image // 128 * 90 for image in source.images]
    settings = EvaluateSettings(window="sliding", objects=("road", "car"))
    whole = replace(evaluation(), settings=settings, final=Final())
    network = pointwise(multiple=1)
    expected = whole.scores({"n": network}, source, INFERENCE)["n"]
    source.extent = lambda index: source.labels[index].shape  # type: ignore[method-assign]
    image, target = source.image, source.target
    source.image = lambda k, region=None: (image(k)[0][region.slices], None)  # type: ignore[method-assign]
    source.target = lambda k, r=None: tuple(one[r.slices] for one in target(k))  # type: ignore[method-assign]
    assert whole.scores({"n": network}, source, INFERENCE)["n"] == expected
    assert expected.extra["object_recall"] is not None
    assert "object_recall" not in replace(whole, final=None).scores({"n": network}, source, INFERENCE)["n"].extra


@pytest.mark.parametrize("by_windows", [False, True])
def test_a_threshold_that_is_chosen_scores_as_one_that_is_given(pointwise: Make, by_windows: bool) -> None:
    source = Source([(43, 60), (14, 90), (29, 29)])
    networks = {"one": pointwise(multiple=1, num_classes=2), "other": pointwise(multiple=1, num_classes=2)}
    networks["other"].weight.data *= 3  # the same order of pixels, surer
    for k, image in enumerate(source.images):
        shares = networks["one"](normalized(networks["one"], image[None], CPU)).softmax(1)[0, 1]
        source.labels[k] = (shares > 0.7).numpy() ^ (image[..., 0] < 16)
    if by_windows:
        image, target = source.image, source.target
        source.extent = lambda index: source.labels[index].shape  # type: ignore[method-assign]
        source.image = lambda k, region=None: (image(k)[0][region.slices], None)  # type: ignore[method-assign]
        source.target = lambda k, r=None: tuple(one[r.slices] for one in target(k))  # type: ignore[method-assign]
    settings = EvaluateSettings(window="sliding" if by_windows else "original", threshold="auto")
    names = ("unchanged", "changed")

    def metrics(num_classes: int, settings: EvaluateSettings) -> Any:
        return change_metrics(num_classes, settings.average, choose=settings.threshold == "auto")

    chooses = PixelEvaluation(names, settings, 14, palette(2), metrics, background=0)
    found = chooses.scores(networks, source, INFERENCE)
    assert 0.6 < (found["one"].threshold or 0) < 0.8 < (found["other"].threshold or 0)
    for name, network in networks.items():
        given = chooses.at(found[name].threshold)
        assert given.scores({name: network}, source, INFERENCE)[name] == replace(found[name], threshold=None)
        others = [chooses.at(k / 20).scores({name: network}, source, INFERENCE)[name].value for k in range(1, 20)]
        assert found[name].value >= max(others)
        assert max(others) > min(others)


def test_every_image_counts_once(pointwise: Make) -> None:
    network, source = pointwise(multiple=1), Source(SIZES)
    scores = evaluation().scores({"student": network, "teacher": pointwise(multiple=1)}, source, INFERENCE)
    assert source.read == dict.fromkeys(range(len(SIZES)), 1)
    hits = total = 0
    for image, labels, valid in zip(source.images, source.labels, source.valid, strict=True):
        predicted = network(normalized(network, image[None], CPU)).argmax(1)[0].numpy()
        hits += int(((predicted == labels) & valid).sum())
        total += int(valid.sum())
    assert scores["student"].extra["pixel_accuracy"] == pytest.approx(100 * hits / total)
    assert scores["student"] == scores["teacher"]


def test_pixels_a_raster_does_not_show_do_not_count(pointwise: Make) -> None:
    source = Source([(14, 14)])
    half = np.arange(14)[:, None].repeat(14, 1) < 7
    hidden = Source([(14, 14)])
    hidden.image = lambda index, region=None: (hidden.images[index], half)  # type: ignore[method-assign]
    source.valid = [source.valid[0] & half]
    network = pointwise()
    found = [evaluation().scores({"n": network}, part, INFERENCE)["n"] for part in (source, hidden)]
    assert found[0] == found[1]


def test_nothing_to_score(pointwise: Make) -> None:
    with pytest.raises(DataError, match="nothing to score: no pixel of any mask is valid"):
        evaluation().scores({"student": pointwise()}, Source([(14, 14)], all_ignored=True), INFERENCE)


def test_networks_are_normalised_each_by_its_own_statistics(pointwise: Make) -> None:
    source = Source(SIZES[:2])
    plain, dark = pointwise(), pointwise()
    dark.mean = (0.9, 0.1, 0.5)
    both = evaluation().scores({"plain": plain, "dark": dark}, source, INFERENCE)
    alone = evaluation().scores({"dark": dark}, source, INFERENCE)
    assert both["dark"] == alone["dark"]
    assert both["dark"] != both["plain"]


def test_reading_ahead_keeps_the_order_and_reads_each_once() -> None:
    seen: Counter[int] = Counter()

    def read(index: int) -> int:
        seen[index] += 1
        return index * index

    assert list(read_ahead(read, 30)) == [index * index for index in range(30)]
    assert set(seen.values()) == {1}
    assert list(read_ahead(read, 0)) == []


def test_reading_ahead_that_is_given_up_is_not_waited_for() -> None:
    seen: Counter[int] = Counter()
    go_on = threading.Event()

    def read(index: int) -> int:
        seen[index] += 1
        assert index == 0 or go_on.wait(60)
        return index

    reads = read_ahead(read, 30, threads=2)
    assert next(reads) == 0
    begun = time.monotonic()
    del reads  # as the collector does, in whatever thread and with whatever lock held
    assert time.monotonic() - begun < 30
    go_on.set()
    time.sleep(0.1)
    assert max(seen) <= 3, "what was not begun is left out"


def test_pictures_are_a_sheet_of_columns(pointwise: Make) -> None:
    source = Source([(50, 40)] * 6)
    networks = {"labelled-only": pointwise(), "semi-supervised": pointwise()}
    sheet = evaluation().comparison({"prediction": pointwise()}, source, INFERENCE, confidence=True)
    assert sum(source.read.values()) == 4
    factor = -(-192 // 50)
    assert sheet.width == 4 * (40 * factor + 6) + 6
    compared = evaluation().comparison(networks, source, INFERENCE)
    assert compared.size == sheet.size


def test_of_many_classes_only_those_that_are_shown_are_named() -> None:
    few, many = (
        evaluation(),
        PixelEvaluation(tuple(map(str, range(150))), EvaluateSettings(), 14, palette(150), scores_of_pixels),
    )
    assert [name for name, _ in few._legend({1})] == ["sky", "road", "car"]
    assert [name for name, _ in many._legend({140, 3})] == ["3", "140"]


def test_a_legend_says_what_does_not_count_where_it_is_shown(pointwise: Make) -> None:
    source = Source([(50, 40)] * 2)
    partly = evaluation().comparison({"prediction": pointwise()}, source, INFERENCE)
    source.valid = [np.ones((50, 40), bool)] * 2
    whole = evaluation().comparison({"prediction": pointwise()}, source, INFERENCE)
    grays = [
        sum(count for count, colour in image.getcolors(1 << 24) or [] if colour == STRIPE) for image in (partly, whole)
    ]
    assert grays[0] >= 60
    assert grays[1] < 12


STRIPE = (205, 205, 205)


def test_pixels_without_data_are_striped_in_prediction_and_confidence(pointwise: Make) -> None:
    class Holed(Source):
        def image(self, index: int, region: Any = None) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
            return self.images[index], np.arange(40)[None].repeat(50, 0) < 20

    source = Holed([(50, 40)])
    source.valid = [np.ones((50, 40), bool)]
    shown = np.asarray(evaluation().comparison({"prediction": pointwise()}, source, INFERENCE, confidence=True))
    width = (shown.shape[1] - 6) // 4  # image, truth, prediction, confidence
    stripes = [(shown[30:-30, 6 + k * width : (k + 1) * width] == STRIPE).all(axis=2).mean() for k in range(4)]
    assert stripes[0] == 0
    assert all(0.15 < share < 0.25 for share in stripes[1:])


def test_large_images_are_thinned_out_in_pictures(pointwise: Make) -> None:
    sheet = evaluation().comparison({"prediction": pointwise()}, Source([(700, 1400)]), INFERENCE)
    assert sheet.width < 4 * 720


def test_settings_can_be_replaced(pointwise: Make) -> None:
    source = Source(SIZES)
    base = evaluation()
    windowed = replace(base, settings=EvaluateSettings(window="sliding", size=14))
    network = pointwise()
    assert windowed.scores({"n": network}, source, INFERENCE)["n"].value == pytest.approx(
        evaluation(1, window="sliding").scores({"n": network}, source, INFERENCE)["n"].value
    )


def test_a_mask_of_another_size(pointwise: Make) -> None:
    source = Source(SIZES)
    source.labels[3] = source.labels[3][:20]
    told = r"mask of another size than its image: 3 \(image 28x28, mask 28x20 \(width x height\)\)"
    with pytest.raises(DataError, match=told):
        evaluation().scores({"student": pointwise()}, source, INFERENCE)
