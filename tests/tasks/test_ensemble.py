"""Probabilities averaged over views of an image and over networks, of segmentation, change and classification."""

from __future__ import annotations

import csv
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from semikit.core.network import Network
from semikit.core.task import Final, Inference
from semikit.data.palette import palette
from semikit.data.samples import Samples
from semikit.inference.ensemble import Ensemble, Tta, Views
from semikit.inference.evaluation import PixelEvaluation
from semikit.inference.predict_classes import ClassPredict, predict_classes
from semikit.inference.scenes import DatePairs, SingleDates
from semikit.inference.windows import EvaluateSettings
from semikit.metrics.change import change_metrics
from semikit.metrics.segmentation import segmentation_metrics
from tests.helpers import georasters, photos
from tests.tasks.test_maps import Bright, Case, blocks, opened

INFERENCE = Inference(torch.device("cpu"), nullcontext)


class Leaning(Bright):
    """Sees the brightness and, the same from image to image, where in the image a pixel lies."""

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        right = torch.linspace(0, 16, size[1])[None, :] + torch.linspace(0, 8, size[0])[:, None]
        scores = super().classify(embedding, size)
        return torch.cat([scores[:, :1] + right, scores[:, 1:]], 1)


class Hopeful(Bright):
    """Another patch and other statistics; sure of the last class."""

    def __init__(self, num_classes: int, sure: float = 6.0) -> None:
        super().__init__(num_classes)
        self.multiple, self.mean, self.std, self.sure = 7, (0.5,) * 3, (2.0,) * 3, sure

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        scores = torch.zeros(len(embedding), self.num_classes, *size)
        scores[:, -1] = self.sure + embedding.mean(1)
        return scores


@pytest.fixture(params=["seg", "cd"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(request.param, tmp_path)


def image(case: Case, size: tuple[int, int] = (24, 32)) -> Any:
    dates = (2,) if case.task == "cd" else ()
    return np.random.default_rng(0).integers(0, 256, (*dates, *size, 3), dtype=np.uint8)


def at_once(network: Network, pixels: Any) -> Tensor:
    with torch.no_grad():
        scores = network(torch.from_numpy(pixels.copy())[None].movedim(-1, -3) / 255)
    return scores.softmax(1)[0]  # type: ignore[no-any-return]


class TestViews:
    @pytest.mark.parametrize(
        ("tta", "from_above", "axes"),
        [("none", True, [()]), ("flip", False, [(), (-1,)]), ("flip", True, [(), (-1,), (-2,), (-2, -1)])],
    )
    def test_the_mean_over_mirrored_images(self, case: Case, tta: Tta, from_above: bool, axes: Any) -> None:
        network, pixels = Leaning(len(case.names)), image(case)
        every = [at_once(network, np.flip(pixels, [k - 1 for k in one])).flip(one) for one in axes]
        ensemble = Ensemble((network,), INFERENCE, Views.of(tta, from_above))
        expected = torch.stack(every).mean(0)
        assert torch.allclose(ensemble.windows(pixels[None])[0], expected, atol=1e-6)
        assert torch.allclose(ensemble.whole(pixels, EvaluateSettings(), 24), expected, atol=1e-6)

    @pytest.mark.parametrize("window", ["original", "sliding"])
    def test_scales_fit_the_patch(self, case: Case, window: Any) -> None:
        network, pixels = Bright(len(case.names)), image(case, (40, 56))
        ensemble = Ensemble((network,), INFERENCE, Views.of("flip+scale"))
        shares = ensemble.whole(pixels, EvaluateSettings(window=window), 1000)
        assert [shape[-2:] for shape in network.seen[::2]] == [(32, 44), (40, 56), (52, 72)]
        assert len(network.seen) == 6
        assert shares.shape == (len(case.names), 40, 56)
        assert torch.allclose(shares.sum(0), torch.ones(40, 56), atol=1e-5)
        network.seen.clear()
        found = ensemble.windows(pixels[None])[0]
        assert {shape[-2:] for shape in network.seen} == {(32, 44), (40, 56), (52, 72)}
        assert torch.allclose(found.sum(0), torch.ones(40, 56), atol=1e-5)

    def test_without_views_the_numbers_are_bit_for_bit_those_of_the_network(self, case: Case) -> None:
        network, pixels = Leaning(len(case.names)), image(case)
        assert torch.equal(Ensemble((network,), INFERENCE).windows(pixels[None])[0], at_once(network, pixels))


class TestMaps:
    def test_rasters_are_mirrored_along_both_axes_and_photos_along_one(self, case: Case, tmp_path: Path) -> None:
        classes = blocks(case, (32, 32), empty=0)
        for sources, views in ((case.raster(classes, "map"), 4), (case.photo(classes, "photo"), 2)):
            network = Bright(len(case.names))
            case.predict(sources, tmp_path / "out", network, tta="flip")
            assert len(network.seen) == views
            network.seen.clear()
            case.predict(sources, tmp_path / "out", network, tta="flip+scale")
            assert len(network.seen) == 3 * views

    def test_a_map_is_that_of_the_mean_and_the_same_each_time(self, case: Case, tmp_path: Path) -> None:
        sources = case.raster(np.full((32, 32), 1))
        for name in ("once", "twice"):
            case.predict(sources, tmp_path / f"{name}.tif", Leaning(len(case.names)), tta="flip", probability=True)
        shares = opened(tmp_path / "once-probability.tif").astype(int)
        np.testing.assert_array_equal(shares, opened(tmp_path / "twice-probability.tif"))
        assert np.abs(shares - shares[::-1, ::-1]).max() <= 1, "what leans to one side is balanced"
        case.predict(sources, tmp_path / "plain.tif", Leaning(len(case.names)), probability=True)
        plain = opened(tmp_path / "plain-probability.tif").astype(int)
        assert np.abs(plain - plain[::-1, ::-1]).max() > 20

    def test_several_networks_each_with_its_own_statistics_and_patch(self, case: Case, tmp_path: Path) -> None:
        classes = blocks(case)
        sources = case.raster(classes)
        count = len(case.names)
        case.predict(sources, tmp_path / "all.tif", Bright(count), Hopeful(count), probability=True, tile=32, overlap=8)
        case.predict(sources, tmp_path / "first.tif", Bright(count), probability=True, tile=32, overlap=8)
        case.predict(sources, tmp_path / "last.tif", Hopeful(count), probability=True, tile=35, overlap=7)
        each = [self.shares(tmp_path / f"{name}-probability.tif") for name in ("first", "last", "all")]
        valid = classes != 255
        assert np.abs((each[0] + each[1]) / 2 - each[2])[:, valid].max() <= 1
        assert (opened(tmp_path / "all.tif")[~valid] == 255).all()

    @staticmethod
    def shares(path: Path) -> Any:
        import rasterio

        with rasterio.open(path) as file:
            return file.read().astype(float)


class Truth(Samples):
    """The scene of a case with labels by chance."""

    def __init__(self, case: Case, sources: list[Path]) -> None:
        reader: Any = (SingleDates if case.task == "seg" else DatePairs).of(case.metadata)
        self.scene, self.names = reader.samples(tuple(sources), None), ["a"]
        self.labels = np.random.default_rng(1).integers(0, len(case.names), (32, 40))

    def __len__(self) -> int:
        return 1

    def image(self, index: int, region: Any = None) -> Any:
        return self.scene.image(index, region)

    def extent(self, index: int) -> Any:
        return self.scene.extent(index)

    def files(self, index: int) -> Any:
        return self.scene.files(index)

    def target(self, index: int, region: Any = None) -> Any:
        labels = self.labels if region is None else self.labels[region.slices]
        return labels, np.ones(labels.shape, bool)


@pytest.mark.parametrize("window", ["sliding", "original"])
def test_an_evaluation_scores_the_map_that_is_predicted(case: Case, tmp_path: Path, window: Any) -> None:
    """Of a raster by windows and of a photo as a whole: mirrored along the same axes, and averaged."""
    classes = np.random.default_rng(0).integers(0, len(case.names), (32, 40))
    networks = [Leaning(len(case.names)), Hopeful(len(case.names), sure=-0.5)]
    sources = (case.raster if window == "sliding" else case.photo)(classes)
    case.predict(sources, tmp_path / "map.tif", *networks, tta="flip", overlap=0, format="tif")

    def metrics(count: int, settings: EvaluateSettings) -> Any:
        return (segmentation_metrics if case.task == "seg" else change_metrics)(count, settings.average)

    background = None if case.task == "seg" else 0
    evaluation = PixelEvaluation(
        tuple(case.names), EvaluateSettings(window=window), 32, palette(3), metrics, background=background,
        final=Final(others=networks[1:], tta="flip"),
    )  # fmt: skip
    source = Truth(case, sources)
    found = evaluation.scores({"mean": networks[0]}, source, INFERENCE)["mean"]
    alone = replace(evaluation, final=Final()).scores({"mean": networks[0]}, source, INFERENCE)["mean"]
    right = (opened(tmp_path / "map.tif") == source.labels).mean() * 100
    assert found.extra["pixel_accuracy" if case.task == "seg" else "OA"] == pytest.approx(right)
    assert found != alone


class Sides(Network):
    """Whole images of two classes: how much brighter the right half is."""

    def __init__(self, factor: float = 4.0) -> None:
        super().__init__()
        self.widths, self.embed_dim, self.num_classes, self.multiple = (3,), 3, 2, 1
        self.mean, self.std, self.factor = (0.0,) * 3, (1.0,) * 3, factor

    def encode(self, images: Tensor) -> Any:
        raise NotImplementedError

    embed = classify = encoder_parameters = encode  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        left, right = images.mean((1, 2)).tensor_split(2, -1)
        return torch.stack([left.mean(-1), right.mean(-1)], 1) * self.factor


def test_classes_of_whole_images(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, 4:] = 255
    for name in ("a", "b", "c"):
        photos.save(tmp_path / f"in/{name}.png", pixels)
    metadata = {"class_names": ["left", "right"], "evaluate": {"batch": 2}, "size": None, "side": [8, 8]}

    def shares(*networks: Network, tta: Any = "none") -> list[float]:
        out, source = tmp_path / "classes.csv", str(tmp_path / "in")
        options = ClassPredict(probability=True, tta=tta)
        predict_classes(networks, metadata, [source], out, options, INFERENCE, lambda *at: None)
        with out.open(newline="") as file:
            return [float(row["right"]) for row in csv.DictReader(file)]

    alone, other = shares(Sides()), shares(Sides(-1.0))
    assert alone == [pytest.approx(1 / (1 + np.exp(-4)), abs=1e-4)] * 3
    assert shares(Sides(), tta="flip") == [0.5] * 3
    assert shares(Sides(), Sides(-1.0)) == [pytest.approx((alone[0] + other[0]) / 2, abs=1e-4)] * 3


def test_a_plain_tiff_is_no_view_from_above(tmp_path: Path) -> None:
    case, network = Case("seg", tmp_path), Bright(3)
    georasters.save(tmp_path / "in/a.tif", np.zeros((3, 32, 32), np.uint8), crs=None)
    case.predict([tmp_path / "in/a.tif"], tmp_path / "out", network, tta="flip")
    assert len(network.seen) == 2
    with Image.open(tmp_path / "out/a.png") as found:
        assert found.size == (32, 32)
