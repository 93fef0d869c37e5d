"""Maps of segmentation and of change by the same tests: place, values, files, polygons and areas."""

from __future__ import annotations

import csv
import tracemalloc
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from PIL import Image
from pyproj import Transformer
from rasterio.shutil import copy
from rio_cogeo import cog_validate
from torch import Tensor, nn

from semikit.api import polygons
from semikit.core.network import Features, Network
from semikit.core.task import Inference, Predicted
from semikit.errors import ConfigError, DataError, InputError, RunError
from semikit.inference import scenes
from semikit.inference.in_memory import detect_change, segment
from semikit.inference.journal import JOURNAL
from semikit.inference.map_files import MapPredict
from semikit.inference.predict_maps import predict_maps
from semikit.inference.scenes import DatePairs, SingleDates
from tests.helpers import georasters, photos

INFERENCE = Inference(torch.device("cpu"), nullcontext)
UTM = rasterio.crs.CRS.from_epsg(32633)


class Bright(Network):
    """Classes by the brightness of each pixel; of two dates by the difference of theirs."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.widths, self.embed_dim, self.num_classes, self.multiple = (3,), 3, num_classes, 4
        self.mean, self.std = (0.0,) * 3, (1.0,) * 3
        self.seen: list[tuple[int, ...]] = []

    def encode(self, images: Tensor) -> Features:
        self.seen.append(tuple(images.shape))
        one = images if images.ndim == 4 else (images[:, 1] - images[:, 0]).abs()
        return Features((one,), (images.shape[-2], images.shape[-1]))

    def embed(self, features: Features) -> Tensor:
        return features.levels[0]

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        level = torch.linspace(0, 1, self.num_classes)[None, :, None, None]
        return -20 * (embedding.mean(1, keepdim=True) - level).abs()

    def encoder_parameters(self) -> list[nn.Parameter]:
        return []


@dataclass
class Case:
    """A task, and what it is called with."""

    task: str
    folder: Path

    @property
    def names(self) -> list[str]:
        return ["sky & sea", "road", "car"] if self.task == "seg" else ["unchanged", "changed"]

    @property
    def metadata(self) -> dict[str, Any]:
        colours = [[10, 20, 30], [200, 0, 0], [0, 0, 200]][: len(self.names)]
        known: dict[str, Any] = {"class_names": self.names, "palette": colours, "evaluate": {}, "crop": 32}
        return {**known, "mean": [0.0] * 3, "bands": None, "scale": None}

    def raster(self, classes: Any, name: str = "a", **profile: Any) -> list[Path]:
        """Rasters whose map is `classes` (H, W); where it is 255 they have no data (0)."""
        bright = np.where(classes == 255, 0, 1 + np.round(classes * 254.0 / (len(self.names) - 1))).astype(np.uint8)
        values = np.repeat(bright[None], 3, 0)
        files = [georasters.save(self.folder / f"in/{name}.tif", values, nodata=0, **profile)]
        if self.task == "cd":
            plain = np.ones_like(values)
            files.insert(0, georasters.save(self.folder / f"before/{name}.tif", plain, nodata=0, **profile))
        return files

    def photo(self, classes: Any, name: str = "a", suffix: str = "png") -> list[Path]:
        """As `raster`, without a place."""
        values = np.repeat(np.round(classes * 255.0 / (len(self.names) - 1))[..., None], 3, 2)
        files = [photos.save(self.folder / f"in/{name}.{suffix}", values)]
        if self.task == "cd":
            files.insert(0, photos.save(self.folder / f"before/{name}.{suffix}", np.zeros_like(values)))
        return files

    @property
    def plural(self) -> str:
        return "images" if self.task == "seg" else "pairs"

    @property
    def folders(self) -> list[Path]:
        return [self.folder / "before", self.folder / "in"][-1 if self.task == "seg" else 0 :]

    def predict(
        self, sources: list[Path], out: Path, *networks: Network, progress: Any = None, **options: Any
    ) -> Predicted:
        wanted = MapPredict(**options)
        reader = (SingleDates if self.task == "seg" else DatePairs).of(self.metadata, wanted)
        given, told = [str(path) for path in sources], progress or (lambda *at: None)
        made = networks or [Bright(len(self.names))]
        return predict_maps(made, self.metadata, reader, given, out, wanted, INFERENCE, told)


@pytest.fixture(params=["seg", "cd"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(request.param, tmp_path)


def blocks(case: Case, size: tuple[int, int] = (92, 112), empty: int = 10) -> Any:
    """Rectangles of every class, some with a hole, and rows without data."""
    classes = np.zeros(size, np.uint8)
    classes[30:60, 40:80] = 1
    classes[40:50, 50:60] = 0
    classes[70:75, 5:9] = len(case.names) - 1
    classes[:empty] = 255
    return classes


def opened(path: Path) -> Any:
    with rasterio.open(path) as file:
        return file.read()[0]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != JOURNAL)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class TestMaps:
    def test_its_place_values_colours_and_names(self, case: Case, tmp_path: Path) -> None:
        classes = blocks(case)
        sources = case.raster(classes)
        told: list[tuple[str, int, int]] = []
        done = case.predict(sources, tmp_path / "map.tif", progress=lambda *at: told.append(at))
        assert (done.count, list(done.notices)) == (1, [])
        assert told[-1][1] == told[-1][2] > 1
        with rasterio.open(tmp_path / "map.tif") as file, rasterio.open(sources[0]) as source:
            assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
            assert (file.nodata, file.dtypes, file.descriptions) == (255, ("uint8",), ("class",))
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert file.tags()["CLASS_1"] == case.names[1]
            assert [list(file.colormap(1)[k][:3]) for k in range(len(case.names))] == case.metadata["palette"]
            np.testing.assert_array_equal(file.read(1), classes)
        found = ElementTree.parse(tmp_path / "map.tif.aux.xml").getroot()
        assert [one.text for one in found.findall("PAMRasterBand[@band='1']/CategoryNames/Category")] == case.names

    def test_probabilities_in_percent(self, case: Case, tmp_path: Path) -> None:
        classes = blocks(case)
        case.predict(case.raster(classes), tmp_path / "map.tif", confidence=True, probability=True)
        with rasterio.open(tmp_path / "map-confidence.tif") as file:
            sure = file.read(1)
            assert (file.descriptions, file.tags()["UNIT"], file.nodata) == (("confidence",), "percent", 255)
        with rasterio.open(tmp_path / "map-probability.tif") as file:
            shares = file.read()
            assert file.descriptions == (("change",) if case.task == "cd" else tuple(case.names))
        valid = classes != 255
        assert (sure[~valid] == 255).all()
        assert (shares[:, ~valid] == 255).all()
        every = shares if case.task == "seg" else np.stack([100 - shares[0], shares[0]])
        np.testing.assert_array_equal(every.max(0)[valid], sure[valid])
        np.testing.assert_array_equal(every.argmax(0)[valid], classes[valid])
        assert np.abs(every.astype(int).sum(0)[valid] - 100).max() <= 1

    def test_the_probability_of_some_classes(self, case: Case, tmp_path: Path) -> None:
        classes = blocks(case)
        sources, last = case.raster(classes), case.names[-1]
        case.predict(sources, tmp_path / "map.tif", probability=True)
        case.predict(sources, tmp_path / "one.tif", probability_of=last)
        with rasterio.open(tmp_path / "one-probability.tif") as file:
            assert (file.count, file.descriptions, file.dtypes) == (1, (last,), ("uint8",))
            assert (file.tags()["UNIT"], file.tags()["VALUES"]) == ("percent", "0 to 100 percent; 255: no data")
            with rasterio.open(tmp_path / "map-probability.tif") as every:
                np.testing.assert_array_equal(file.read(1), every.read(every.count))
        case.predict(case.photo(blocks(case, empty=0)), tmp_path / "out", probability_of=(last,))
        assert names(tmp_path / "out") == ["a-probability.png", "a.png"]
        with pytest.raises(ConfigError, match=f"--probability-of lake: .* it has {', '.join(case.names)}"):
            case.predict(sources, tmp_path / "no.tif", probability_of=("lake",))

    def test_a_legend(self, case: Case, tmp_path: Path) -> None:
        """Colours as in the map and, beside it, as in an overlay over dark and light."""
        classes = blocks(case, empty=0)
        case.predict(case.photo(classes), tmp_path / "out", legend=True)
        case.predict(case.raster(classes), tmp_path / "map.tif", legend=True)
        assert names(tmp_path / "out") == ["a.png", "legend.png"]
        with Image.open(tmp_path / "out/legend.png") as image, Image.open(tmp_path / "map-legend.png") as other:
            shown = np.array(image)
            assert np.array_equal(shown, np.array(other))
        seen = set(map(tuple, shown.reshape(-1, 3).tolist()))
        assert {tuple(colour) for colour in case.metadata["palette"]} <= seen
        last, dark = np.array(case.metadata["palette"][-1]), np.array([40, 46, 52])
        assert tuple(((last + dark) / 2).round().astype(int).tolist()) in seen
        assert (tuple(dark.tolist()) in seen) == (case.task == "cd"), "of change the background shows the image"

    def test_a_style_beside_the_map(self, case: Case, tmp_path: Path) -> None:
        case.predict(case.raster(blocks(case)), tmp_path / "map.tif", qml=True)
        style = ElementTree.parse(tmp_path / "map.qml").getroot()
        (renderer,) = style.findall("pipe/rasterrenderer")
        assert (style.tag, renderer.attrib["type"], renderer.attrib["band"]) == ("qgis", "paletted", "1")
        found = [one.attrib for one in renderer.findall("colorPalette/paletteEntry")]
        assert [(one["value"], one["label"]) for one in found] == [(str(k), name) for k, name in enumerate(case.names)]
        assert [list(bytes.fromhex(one["color"][1:])) for one in found] == case.metadata["palette"]

    @pytest.mark.parametrize("size", [(92, 112), (520, 600)])
    def test_every_file_is_cloud_optimised(self, case: Case, tmp_path: Path, size: tuple[int, int]) -> None:
        options = {"confidence": True, "probability": True, "overlay": True, "min_area": 500.0, "tile": 256}
        case.predict(case.raster(blocks(case, size)), tmp_path / "out/map.tif", **options)
        written = sorted((tmp_path / "out").glob("*.tif"))
        assert len(written) == 4
        for path in written:
            assert cog_validate(path, strict=True) == (True, [], []), path

    def test_an_overlay_shows_the_last_date(self, case: Case, tmp_path: Path) -> None:
        classes = blocks(case)
        sources = case.raster(classes)
        case.predict(sources, tmp_path / "map.tif", overlay=True)
        with rasterio.open(tmp_path / "map-overlay.tif") as file, rasterio.open(sources[-1]) as source:
            shown, image = (np.moveaxis(one.read(), 0, -1) for one in (file, source))
        assert (shown[classes == 255] == 0).all()
        mixed = (image[35, 45] + np.array([200.0, 0.0, 0.0])) / 2
        assert np.abs(shown[35, 45] - mixed).max() <= 0.5
        bare = np.array_equal(shown[20, 20], image[20, 20])
        assert bare == (case.task == "cd"), "of change the background shows the image"

    @pytest.mark.parametrize("size", [(33, 32), (32, 33), (5, 90), (1, 1), (3, 200), (64, 200), (31, 31)])
    def test_any_size_and_tile(self, case: Case, tmp_path: Path, size: tuple[int, int]) -> None:
        """Also one pixel more than a tile, narrower than the overlap, smaller than the crop."""
        classes = np.random.default_rng(0).integers(0, len(case.names), size).astype(np.uint8)
        sources = case.raster(classes)
        for tile, overlap in ((32, None), (16, 8), (16, 0), (256, 3)):
            case.predict(sources, tmp_path / f"{tile}.tif", tile=tile, overlap=overlap)
            np.testing.assert_array_equal(opened(tmp_path / f"{tile}.tif"), classes)

    @pytest.mark.parametrize(
        "transform", [Affine.translation(4e5, 5.8e6) @ Affine.rotation(30) @ Affine.scale(10, -10),
                      Affine(10, 0, 4e5, 0, 10, 5.8e6), Affine(0.5, 0, 4e5, 0, -2, 5.8e6)],
    )  # fmt: skip
    def test_any_orientation(self, case: Case, tmp_path: Path, transform: Affine) -> None:
        classes = blocks(case)
        case.predict(case.raster(classes, transform=transform), tmp_path / "map.tif", polygons=tmp_path / "map.gpkg")
        with rasterio.open(tmp_path / "map.tif") as file:
            assert file.transform == transform
            np.testing.assert_array_equal(file.read(1), classes)
        _, _, found, fields = pyogrio.raw.read(tmp_path / "map.gpkg", columns=["class"])
        last = shapely.from_wkb(found)[fields[0] == len(case.names) - 1]
        corners = [transform @ corner for corner in ((5, 70), (9, 70), (9, 75), (5, 75))]
        assert any(shapely.equals(one, shapely.Polygon(corners)) for one in last)

    def test_nothing_valid_is_said(self, case: Case, tmp_path: Path) -> None:
        done = case.predict(case.raster(np.full((40, 40), 255)), tmp_path / "map.tif")
        assert "no pixel is valid" in done.notices[0]
        assert (opened(tmp_path / "map.tif") == 255).all()

    def test_only_windows_go_through_the_network(self, case: Case, tmp_path: Path) -> None:
        """9 million pixels, nearly all of them without data, in the memory of some windows."""
        size = (3000, 3000)
        values = np.zeros((3, 64, 64), np.uint8)
        values[:, 10:20] = 255
        sources = []
        for name in ("a", "b"):
            path = georasters.save(tmp_path / f"{name}.tif", np.zeros((3, 8, 8), np.uint8))
            with rasterio.open(path) as small:
                profile = {**small.profile, "height": size[0], "width": size[1], "nodata": 0, "compress": "deflate"}
            tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True}
            with rasterio.open(path, "w", **{**profile, **tiles}) as file:
                file.write(values, window=((1500, 1564), (1500, 1564)))
            sources.append(path)
        network = Bright(len(case.names))
        tracemalloc.start()
        try:
            case.predict(sources[: len(case.folders)], tmp_path / "map.tif", network, tile=256)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert {shape[-2:] for shape in network.seen} == {(256, 256)}
        assert peak < 3 * size[0] * size[1] / 2
        assert (opened(tmp_path / "map.tif") != 255).sum() == 640

    def test_in_memory_the_map_is_the_same(self, case: Case, tmp_path: Path) -> None:
        sources = case.raster(blocks(case))
        case.predict(sources, tmp_path / "map.tif")
        network = Bright(len(case.names))
        if case.task == "seg":
            found = segment(network, case.metadata, sources[0], INFERENCE)
        else:
            found = detect_change(network, case.metadata, sources, INFERENCE)
        np.testing.assert_array_equal(found.classes, opened(tmp_path / "map.tif"))

    def test_deep_values_have_one_range(self, case: Case, tmp_path: Path) -> None:
        """Percentiles of each window alone would give other classes from window to window."""
        values = np.linspace(200, 9000, 96 * 96).reshape(96, 96)
        classes = np.round(np.clip((values - 376) / (8824 - 376), 0, 1) * (len(case.names) - 1))
        deep = np.repeat(values[None], 3, 0).astype(np.uint16)
        sources = [georasters.save(tmp_path / "in/a.tif", deep)]
        if case.task == "cd":
            sources.insert(0, georasters.save(tmp_path / "before/a.tif", np.full_like(deep, 200)))
        done = case.predict(sources, tmp_path / "map.tif")
        assert "the model was trained on 8-bit images" in done.notices[0]
        assert (opened(tmp_path / "map.tif") == classes).mean() > 0.9

    def test_an_interruption_leaves_nothing(self, case: Case, tmp_path: Path) -> None:
        def stop(what: str, done: int, total: int) -> None:
            raise KeyboardInterrupt

        sources = case.raster(blocks(case))
        before = names(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            case.predict(sources, tmp_path / "map.tif", progress=stop, probability=True, polygons=tmp_path / "m.gpkg")
        assert names(tmp_path) == before


class TestFiles:
    def test_what_has_a_place_gives_a_map_and_photos_a_picture(self, case: Case, tmp_path: Path) -> None:
        classes = blocks(case, empty=0)
        case.raster(classes, "place")
        case.photo(classes, "photo")
        told: list[tuple[str, int, int]] = []
        done = case.predict(
            case.folders, tmp_path / "out", confidence=True, overlay=True, progress=lambda *at: told.append(at)
        )
        assert (done.count, list(done.notices)) == (2, [])
        assert {what for what, _, _ in told} == {f"2 {case.plural}"}
        assert names(tmp_path / "out") == [
            "photo-confidence.png", "photo-overlay.png", "photo.png",
            "place-confidence.tif", "place-overlay.tif", "place.tif", "place.tif.aux.xml",
        ]  # fmt: skip
        with Image.open(tmp_path / "out/photo-overlay.png") as image:
            assert (image.mode, image.size) == ("RGB", (112, 92))
        with Image.open(tmp_path / "out/photo.png") as image:
            assert image.mode == "P"
            assert image.getpalette()[: 3 * len(case.names)] == np.ravel(case.metadata["palette"]).tolist()  # type: ignore[index]
            np.testing.assert_array_equal(np.array(image), classes)
        with Image.open(tmp_path / "out/photo-confidence.png") as image:
            assert np.array(image).min() > 250, "0 to 255, as a viewer shows it"

    def test_a_photo_as_a_map_and_a_raster_as_a_picture(self, case: Case, tmp_path: Path) -> None:
        classes = blocks(case, empty=0)
        photo, raster = case.photo(classes, "photo"), case.raster(classes, "place")
        case.predict(photo, tmp_path / "named.tif")
        np.testing.assert_array_equal(opened(tmp_path / "named.tif"), classes)
        case.predict(photo, tmp_path / "asked", format="tif")
        np.testing.assert_array_equal(opened(tmp_path / "asked/photo.tif"), classes)
        case.predict(raster, tmp_path / "asked", format="png")
        np.testing.assert_array_equal(opened(tmp_path / "asked/place.png"), classes)
        with pytest.raises(InputError, match=r"no map is written as \.png\. .* --format png writes a picture without"):
            case.predict(raster, tmp_path / "named.png")
        with pytest.raises(
            InputError, match=r"as \.jpg\. Allowed here: \.png, \.tif, \.tiff; a name without suffix is"
        ):
            case.predict(photo, tmp_path / "named.jpg")
        with pytest.raises(InputError, match=r"no map is written as \.tif\. Allowed here: \.png"):
            case.predict(photo, tmp_path / "other.tif", format="png")

    def test_the_place_is_read_once(self, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Path] = []
        plain = scenes.read_grid
        monkeypatch.setattr(scenes, "read_grid", lambda path, upright: asked.append(path) or plain(path, upright))
        sources = case.raster(blocks(case))
        case.predict(sources, tmp_path / "map.tif", areas=True, polygons=tmp_path / "map.gpkg", min_area=500.0)
        assert asked == sources[:1]

    def test_a_name_without_suffix_is_a_folder(self, case: Case, tmp_path: Path) -> None:
        case.predict(case.raster(blocks(case)), tmp_path / "maps")
        assert names(tmp_path / "maps") == ["a.tif", "a.tif.aux.xml"]

    def test_a_file_for_a_folder(self, case: Case, tmp_path: Path) -> None:
        case.raster(blocks(case))
        with pytest.raises(InputError, match=r"-o .*map\.tif: of several images it takes a folder"):
            case.predict(case.folders, tmp_path / "map.tif")
        assert not (tmp_path / "map.tif").exists()

    def test_a_plain_tiff_is_a_photo(self, tmp_path: Path) -> None:
        """Predicted as a whole, as it is evaluated; a large one by windows."""
        case = Case("seg", tmp_path)
        for name, size in (("small", (40, 48)), ("large", (40, 2400))):
            network = Bright(3)
            classes = np.random.default_rng(0).integers(0, 3, size).astype(np.uint8)
            case.predict(case.raster(classes, name, crs=None), tmp_path / "out", network)
            np.testing.assert_array_equal(opened(tmp_path / f"out/{name}.png"), classes)
            assert {shape[-2:] for shape in network.seen} == {size if name == "small" else (32, 32)}

    def test_a_place_in_no_reference_system(self, case: Case, tmp_path: Path) -> None:
        """As a world file gives it."""
        classes = blocks(case)
        done = case.predict(case.raster(classes, crs=None, transform=Affine(2, 0, 7, 0, -2, 9)), tmp_path / "out")
        assert "no coordinate reference system, and neither has the map" in done.notices[0]
        with rasterio.open(tmp_path / "out/a.tif") as file:
            assert file.transform == Affine(2, 0, 7, 0, -2, 9)
            np.testing.assert_array_equal(file.read(1), classes)

    @pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
    @pytest.mark.parametrize("kind", georasters.LOOSE)
    def test_a_place_that_is_no_grid_is_not_lost(self, case: Case, tmp_path: Path, kind: str) -> None:
        classes = blocks(case, empty=0)
        case.raster(classes, "a", crs=None)
        path = case.raster(classes, "b", crs=None)[-1]
        georasters.place_loosely(path, kind)
        done = case.predict(case.folders, tmp_path / "out")
        assert (done.count, [Path(fault.file).name for fault in done.failed]) == (1, ["b.tif"])
        (notice,) = [text for text in done.notices if "1 of 2 not predicted" in text]
        by = georasters.LOOSE[kind]
        assert f"place that is no grid on the map: {path} (by {by}). Bring it onto a grid" in notice
        done = case.predict(case.folders, tmp_path / "asked", format="png")
        assert done.count == 2
        assert (
            f"1 rasters are placed on the map by points or functions, which are not used; their pixels are taken as "
            f"they are stored: {path} ({by})" in done.notices[-1]
        )

    def test_probabilities_of_a_photo(self, case: Case, tmp_path: Path) -> None:
        """Bands of a picture would be colours, so that those of several classes are a TIFF."""
        case.predict(case.photo(blocks(case, empty=0)), tmp_path / "out", probability=True)
        assert names(tmp_path / "out") == ["a-probability.tif" if case.task == "seg" else "a-probability.png", "a.png"]

    def test_no_image_is_overwritten(self, case: Case, tmp_path: Path) -> None:
        sources = case.raster(blocks(case))
        content = sources[-1].read_bytes()
        with pytest.raises(InputError, match=r"a\.tif is one of the images to predict; it would be overwritten"):
            case.predict(sources, sources[-1])
        virtual = tmp_path / "v.vrt"
        copy(sources[-1], virtual, driver="VRT")
        with pytest.raises(InputError, match=r"a\.tif is one of the images to predict"):
            case.predict([*sources[:-1], virtual], sources[-1])
        assert sources[-1].read_bytes() == content
        photo = case.photo(blocks(case, empty=0), "b-overlay")
        with pytest.raises(InputError, match=r"b-overlay\.png is one of the images to predict"):
            case.predict(photo, photo[-1].with_name("b.png"), overlay=True)

    def test_a_map_that_cannot_be_written_leaves_nothing(
        self, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def half(image: Image.Image, path: Path, **settings: str) -> None:
            path.write_bytes(b"half of it")
            raise OSError(28, "No space left on device")

        photo = case.photo(blocks(case, empty=0))
        monkeypatch.setattr(Image.Image, "save", half)
        with pytest.raises(RunError, match=r"could not write .*out/a\.png: .*No space left.* choose another -o\."):
            case.predict(photo, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("place", [{}, {"crs": None}], ids=["raster", "photo"])
    def test_other_channels(self, case: Case, tmp_path: Path, place: Any) -> None:
        sources = case.raster(blocks(case), **place)
        for path in [path.with_name(f"{name}.tif") for path in sources for name in "bc"]:
            georasters.save(path, georasters.ramp(40, 40, 5), **place)
        with pytest.raises(DataError, match="the images have 5 channels, but the model was made for 3"):
            case.predict([path.with_name("b.tif") for path in sources], tmp_path / "b.tif")
        assert not (tmp_path / "b.tif").exists()
        done = case.predict(case.folders, tmp_path / "out")
        assert (done.count, [Path(fault.file).name for fault in done.failed]) == (1, ["b.tif", "c.tif"])
        for path in sources:
            path.unlink()
        with pytest.raises(DataError, match="none of 2 files could be predicted"):
            case.predict(case.folders, tmp_path / "out")
        assert (tmp_path / "out/errors.csv").read_text().count("other channels") == 2

    def test_what_is_told_of_many_is_told_once(self, case: Case, tmp_path: Path) -> None:
        for k in range(5):
            case.raster(blocks(case), str(k), crs=None, transform=Affine(2, 0, 7, 0, -2, 9))
        (told,) = case.predict(case.folders, tmp_path / "maps").notices
        assert told.startswith(f"5 {case.plural} have no coordinate reference system: ")
        assert told.endswith(" and 2 more")

    def test_two_maps_of_one_name(self, case: Case, tmp_path: Path) -> None:
        for name in ("a", "a-overlay"):
            case.raster(blocks(case), name)
        with pytest.raises(InputError, match=r"two outputs would be .*a-overlay\.tif, of the images a and a-overlay"):
            case.predict(case.folders, tmp_path / "out", overlay=True)

    def test_what_can_no_longer_be_read_leaves_no_map(self, case: Case, tmp_path: Path) -> None:
        for name in ("a", "b"):
            path = case.raster(blocks(case), name)[-1]
        case.predict(case.folders, tmp_path / "out")
        path.write_bytes(path.read_bytes()[:200])
        assert case.predict(case.folders, tmp_path / "out").count == 1
        assert names(tmp_path / "out") == ["a.tif", "a.tif.aux.xml", "errors.csv"]

    def test_tiles_that_do_not_fit(self, case: Case, tmp_path: Path) -> None:
        sources = case.raster(blocks(case))
        with pytest.raises(ConfigError, match=r"--tile 30 is not a multiple of the patch, 4\. Use 28"):
            case.predict(sources, tmp_path / "map.tif", tile=30)
        with pytest.raises(ConfigError, match="--overlap 20 is more than half of the tile, 32"):
            case.predict(sources, tmp_path / "map.tif", overlap=20)


class TestPolygons:
    @pytest.mark.parametrize("suffix", ["geojson", "gpkg", "shp", "fgb"])
    def test_class_name_area_and_probability(self, case: Case, tmp_path: Path, suffix: str) -> None:
        classes = blocks(case)
        out = tmp_path / f"map.{suffix}"
        done = case.predict(case.raster(classes), tmp_path / "map.tif", polygons=out, confidence=True)
        info, _, found, columns = pyogrio.raw.read(out)
        fields = dict(zip(info["fields"], columns, strict=True))
        fields["probability"] = fields.pop("probability" if suffix != "shp" else "probabilit")
        assert list(fields) == ["class", "name", "area_m2", "probability"]
        assert done.notices[-1].startswith(f"{len(found)} polygons of ")
        expected = sorted({0: 2, 1: 1, len(case.names) - 1: 1}.items()) if case.task == "seg" else [(1, 2)]
        assert [(k, int((fields["class"] == k).sum())) for k in np.unique(fields["class"])] == expected
        assert [case.names[k] for k in fields["class"]] == fields["name"].tolist()
        sure, shapes = opened(tmp_path / "map-confidence.tif"), shapely.from_wkb(found)
        if suffix == "geojson":
            to_utm = Transformer.from_crs("EPSG:4326", UTM, always_xy=True)
            shapes = shapely.transform(shapes, lambda points: np.column_stack(to_utm.transform(*points.T)))
        with rasterio.open(tmp_path / "map.tif") as file:
            for one, k, area, mean in zip(
                shapes, fields["class"], fields["area_m2"], fields["probability"], strict=True
            ):
                inside = rasterio.features.rasterize([one], file.shape, transform=file.transform).astype(bool)
                assert (classes[inside] == k).all()
                assert area == pytest.approx(inside.sum() * 100, rel=2e-3)
                assert mean == pytest.approx(sure[inside].mean() / 100, abs=1e-4)

    def test_of_several_images(self, case: Case, tmp_path: Path) -> None:
        for name in ("a", "b"):
            case.raster(blocks(case), name)
        case.predict(case.folders, tmp_path / "maps", polygons=tmp_path / "outlines")
        assert names(tmp_path / "outlines") == ["a.geojson", "b.geojson"]
        case.predict(case.folders, tmp_path / "maps", polygons=tmp_path / "others", polygons_format="fgb")
        assert names(tmp_path / "others") == ["a.fgb", "b.fgb"]
        with pytest.raises(InputError, match=r"of several images it takes a folder, .* --polygons-format"):
            case.predict(case.folders, tmp_path / "maps", polygons=tmp_path / "outlines.gpkg")
        for out, words in ((tmp_path / "a.kml", "written as .geojson, .json, .gpkg, .shp, .fgb"),
                                (tmp_path / "a.gpkg", r"--polygons-format fgb is for several images")):  # fmt: skip
            with pytest.raises(InputError, match=words):
                case.predict(case.raster(blocks(case)), tmp_path / "m.tif", polygons=out, polygons_format="fgb")

    @pytest.mark.parametrize("options", [{"polygons": Path("a.gpkg")}, {"areas": True}])
    def test_of_a_picture_there_are_none(self, case: Case, tmp_path: Path, options: Any) -> None:
        with pytest.raises(InputError, match=r"drawn from a GeoTIFF, and a\.png is a picture; .* --format tif"):
            case.predict(case.photo(blocks(case, empty=0)), tmp_path / "out", **options)

    def test_a_system_that_is_not_tied_to_the_earth(self, case: Case, tmp_path: Path) -> None:
        """Found before anything is predicted, and the input is named."""
        sources = case.raster(blocks(case), crs='LOCAL_CS["site",UNIT["metre",1]]')
        for options in ({"polygons": tmp_path / "c.gpkg"}, {"areas": True}):
            with pytest.raises(DataError, match=r"belong to: .*a\.tif"):
                case.predict(sources, tmp_path / "out/c.tif", **options)
            assert not (tmp_path / "out").exists()


class TestSmallAreas:
    @pytest.mark.parametrize("place", [{}, {"crs": None}], ids=["metres", "pixels"])
    def test_of_the_map_its_polygons_areas_and_overlay(self, case: Case, tmp_path: Path, place: Any) -> None:
        """The smallest rectangle has 20 pixels; what surrounds it is the first class."""
        classes = blocks(case)
        expected = np.where(classes == 1, 1, np.where(classes == 255, 255, 0))
        expected[70:75, 5:9] = 0
        sources = case.raster(classes, **place)
        if case.task == "seg" and place:
            sources = case.photo(np.where(classes == 255, 0, classes))
            expected[classes == 255] = 0
        outputs = {"polygons": tmp_path / "map.gpkg", "areas": True, "overlay": True}
        least = 2500.0 if not place else 25.0
        done = case.predict(sources, tmp_path / "map.tif", min_area=least, **outputs)
        unit, became = ("pixels" if place else "m2"), ("became unchanged" if case.task == "cd" else "the class around")
        assert any(f"1 area smaller than {least:g} {unit}" in text and became in text for text in done.notices)
        np.testing.assert_array_equal(opened(tmp_path / "map.tif"), expected)
        _, _, found, _ = pyogrio.raw.read(tmp_path / "map.gpkg")
        assert len(found) == (1 if case.task == "cd" else 3), "the hole of 100 pixels stays"
        rows = table(tmp_path / "map-areas.csv")
        assert [int(row["pixels"]) for row in rows] == [int((expected == k).sum()) for k in range(len(case.names))]
        with rasterio.open(tmp_path / "map-overlay.tif") as file:
            shown = file.read()
        bare = np.array([255.0, 255, 255])
        mixed = bare if case.task == "cd" else (bare + case.metadata["palette"][0]) / 2
        assert np.abs(shown[:, 72, 7] - mixed).max() <= 0.5

    def test_of_a_picture(self, case: Case, tmp_path: Path) -> None:
        classes = blocks(case, empty=0)
        done = case.predict(case.photo(classes), tmp_path / "out", min_area=21.0)
        assert "smaller than 21 pixels" in done.notices[0]
        with Image.open(tmp_path / "out/a.png") as image:
            assert np.array(image)[70:75, 5:9].max() == 0
        assert not case.predict(case.photo(classes), tmp_path / "out", min_area=20.0).notices

    def test_a_system_that_is_not_tied_to_the_earth(self, case: Case, tmp_path: Path) -> None:
        sources = case.raster(blocks(case), crs='LOCAL_CS["site",UNIT["metre",1]]')
        with pytest.raises(DataError, match=r"belong to: .*a\.tif"):
            case.predict(sources, tmp_path / "out/c.tif", min_area=9.0)
        assert not (tmp_path / "out").exists()


class TestThresholds:
    @pytest.mark.parametrize("threshold", [0.02, 0.5, 0.98, "{}=0.02", {"{}": 0.98}])
    def test_by_the_probabilities(self, case: Case, tmp_path: Path, threshold: Any) -> None:
        """Brightness from class to class, so that there is every probability."""
        ramp = np.linspace(0, len(case.names) - 1, 90)[None].repeat(70, 0)
        last = case.names[-1]
        given = threshold.format(last) if isinstance(threshold, str) else threshold
        given = {last: threshold["{}"]} if isinstance(threshold, dict) else given
        sources = case.raster(ramp)
        case.predict(sources, tmp_path / "plain.tif", confidence=True)
        case.predict(sources, tmp_path / "map.tif", threshold=given, probability=True, confidence=True)
        found, plain = opened(tmp_path / "map.tif"), opened(tmp_path / "plain.tif")
        with rasterio.open(tmp_path / "map-probability.tif") as file:
            shares = file.read() / 100
        sure = opened(tmp_path / "map-confidence.tif") / 100
        share = float(str(given if not isinstance(given, dict) else given[last]).rpartition("=")[2])
        clear = np.abs(shares - share).min(0) > 0.006
        if case.task == "cd":
            expected = (shares[0] >= share).astype(int)
        elif isinstance(threshold, float):
            expected = np.where(shares.max(0) >= share, shares.argmax(0), 255)
        else:
            expected = np.where(shares[-1] >= share, 2, shares[:-1].argmax(0))
        np.testing.assert_array_equal(found[clear], expected[clear])
        assert (found != plain).any() == (share != 0.5 and not (case.task == "seg" and threshold == 0.02))
        every = shares if case.task == "seg" else np.stack([1 - shares[0], shares[0]])
        own = np.take_along_axis(every, np.where(found == 255, every.argmax(0), found).astype(int)[None], 0)[0]
        np.testing.assert_allclose(own, sure, atol=0.011)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("lake=0.3", "--threshold lake=0.3: there is no class 'lake'; it has {names}"),
            ("30", r"--threshold 30(\.0)?: a probability is from 0 to 1"),
            ("road", "--threshold road: 'road' is no number"),
            ("auto", "--threshold auto: a threshold is chosen in training"),
            (-0.1, "--threshold -0.1: a probability is from 0 to 1"),
        ],
    )
    def test_what_is_none(self, case: Case, tmp_path: Path, given: Any, words: str) -> None:
        with pytest.raises(ConfigError, match=words.format(names=", ".join(case.names))):
            case.predict(case.raster(blocks(case)), tmp_path / "map.tif", threshold=given)
        assert not (tmp_path / "map.tif").exists()


class TestAreaOfInterest:
    def polygons(self, folder: Path, suffix: str = "gpkg", name: str = "Name") -> Path:
        """Two features in longitude and latitude: rows 30 to 60, columns 40 to 70, in two parts, and a triangle."""
        corner, shapes = (4e5, 5.8e6), []
        for parts in (((40, 30, 50, 60), (50, 30, 70, 60)), ()):
            boxes = [shapely.box(corner[0] + a * 10, corner[1] - d * 10, corner[0] + c * 10, corner[1] - b * 10)
                     for a, b, c, d in parts]  # fmt: skip
            points = [(corner[0] + x * 10, corner[1] - y * 10) for x, y in ((0, 60), (30, 90), (0, 90))]
            shapes.append(shapely.MultiPolygon(boxes or [shapely.Polygon(points)]))
        to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
        placed = shapely.transform(np.array(shapes), lambda p: np.column_stack(to_degrees.transform(*p.T)))
        columns = [np.array(["field", "wood"], dtype=object)]
        pyogrio.raw.write(folder / f"aoi.{suffix}", shapely.to_wkb(placed), columns, [name],
                          geometry_type="MultiPolygon", crs="EPSG:4326")  # fmt: skip
        return folder / f"aoi.{suffix}"

    @pytest.mark.parametrize("suffix", ["gpkg", "geojson", "shp"])
    def test_the_map_within_and_nodata_elsewhere(self, case: Case, tmp_path: Path, suffix: str) -> None:
        sources = case.raster(blocks(case))
        aoi = self.polygons(tmp_path, suffix)
        few, every = Bright(len(case.names)), Bright(len(case.names))
        outputs = {"probability": True, "overlay": True}
        case.predict(sources, tmp_path / "all.tif", every, **outputs)
        case.predict(sources, tmp_path / "map.tif", few, aoi=aoi, areas=True, **outputs)
        rows, columns = np.mgrid[:92, :112] + 0.5
        field = (rows > 30) & (rows < 60) & (columns > 40) & (columns < 70)
        inside = field | ((columns < rows - 60) & (rows < 90))
        for kind in ("", "-probability", "-overlay"):
            with rasterio.open(tmp_path / f"all{kind}.tif") as file, rasterio.open(tmp_path / f"map{kind}.tif") as part:
                np.testing.assert_array_equal(
                    part.read(), np.where(inside, file.read(), 0 if kind == "-overlay" else 255)
                )
        assert sum(shape[0] for shape in few.seen) < sum(shape[0] for shape in every.seen)
        table_rows, classes = table(tmp_path / "map-areas.csv"), opened(tmp_path / "map.tif")
        assert [(row["feature"], row["feature_name"], row["class"]) for row in table_rows] == [
            (str(number), name, str(k)) for number, name in ((1, "field"), (2, "wood")) for k in range(len(case.names))
        ]
        for row in table_rows:
            there = field if row["feature"] == "1" else inside & ~field
            pixels = int((classes[there] == int(row["class"])).sum())
            assert (int(row["pixels"]), float(row["share"])) == (pixels, pytest.approx(pixels / there.sum(), abs=1e-6))
            assert float(row["area_m2"]) == pytest.approx(pixels * 100, rel=2e-3)

    def test_areas_are_those_of_the_polygons(self, case: Case, tmp_path: Path) -> None:
        options = {"aoi": self.polygons(tmp_path, name="id"), "areas": True, "polygons": tmp_path / "map.gpkg"}
        case.predict(case.raster(blocks(case)), tmp_path / "map.tif", **options)
        rows = table(tmp_path / "map-areas.csv")
        assert {row["feature_name"] for row in rows} == {""}
        info, _, _, columns = pyogrio.raw.read(tmp_path / "map.gpkg")
        fields = dict(zip(info["fields"], columns, strict=True))
        total = sum(float(row["area_m2"]) for row in rows if int(row["class"]) or case.task == "seg")
        assert total == pytest.approx(fields["area_m2"].sum(), rel=1e-5)

    def test_what_is_not_there(self, case: Case, tmp_path: Path) -> None:
        aoi = self.polygons(tmp_path)
        far = case.raster(blocks(case), "far", origin=(5e5, 5.8e6))
        with pytest.raises(
            DataError, match=r"image outside of --aoi: .*far\.tif \(EPSG:32633, x 500000 to .*aoi\.gpkg"
        ):
            case.predict(far, tmp_path / "out/m.tif", aoi=aoi)
        assert not (tmp_path / "out").exists()
        case.raster(blocks(case), "near")
        done = case.predict(case.folders, tmp_path / "out", aoi=aoi)
        assert (done.count, [fault.kind for fault in done.failed]) == (1, ["image outside of --aoi"])
        with pytest.raises(DataError, match=r"image without a place on the map, for --aoi: .*photo\.png"):
            case.predict(case.photo(blocks(case, empty=0), "photo"), tmp_path / "photo", aoi=aoi)
        (tmp_path / "bad.geojson").write_text("{}")
        with pytest.raises(DataError, match=r"unreadable polygons: .*bad\.geojson \(not recognized as [^;]*\)\."):
            case.predict(far, tmp_path / "out/m.tif", aoi=tmp_path / "bad.geojson")


class TestFromMaps:
    """Polygons and areas of a map that lies there, by `semikit polygons`."""

    def test_of_probabilities_as_predicted(self, case: Case, tmp_path: Path) -> None:
        sources, least = case.raster(blocks(case)), 2500.0
        outputs = {"threshold": 0.6, "min_area": least, "simplify": 12.0}
        case.predict(sources, tmp_path / "plain.tif", probability=True)
        case.predict(sources, tmp_path / "map.tif", polygons=tmp_path / "map.gpkg", areas=True, **outputs)
        notices = polygons(
            tmp_path / "plain-probability.tif",
            out=tmp_path / "new.gpkg",
            areas=True,
            map=tmp_path / "new.tif",
            **outputs,
        )
        assert "1 area smaller than 2500 m2" in notices[0]
        assert "polygon" in notices[-1]
        with rasterio.open(tmp_path / "new.tif") as new, rasterio.open(tmp_path / "map.tif") as first:
            np.testing.assert_array_equal(new.read(), first.read())
            assert (new.colormap(1), new.tags()) == (first.colormap(1), first.tags())
        rows, found = [], []
        for name in ("map", "new"):
            info, _, shapes, columns = pyogrio.raw.read(tmp_path / f"{name}.gpkg")
            found.append({**dict(zip(info["fields"], map(list, columns), strict=True)), "shapes": list(shapes)})
            rows.append([{**row, "file": ""} for row in table(tmp_path / f"{name}-areas.csv")])
        assert found[0] == found[1]
        assert rows[0] == rows[1]

    def test_of_classes(self, case: Case, tmp_path: Path) -> None:
        case.predict(case.raster(blocks(case)), tmp_path / "map.tif", polygons=tmp_path / "map.gpkg", areas=True)
        polygons(tmp_path / "map.tif", out=tmp_path / "new.shp", areas=True)
        first, new = (pyogrio.raw.read(tmp_path / name, columns=["class", "name"]) for name in ("map.gpkg", "new.shp"))
        assert [list(one) for one in first[3]] == [list(one) for one in new[3]]
        assert table(tmp_path / "map-areas.csv") == table(tmp_path / "new-areas.csv")
        with pytest.raises(ConfigError, match=r"--threshold: .*map\.tif is a map of classes, which no longer knows"):
            polygons(tmp_path / "map.tif", out=tmp_path / "no.gpkg", threshold=0.3)

    def test_of_one_class(self, case: Case, tmp_path: Path) -> None:
        """The others are the background; a threshold is compared with the percents of the file."""
        last, ramp = case.names[-1], np.linspace(0, len(case.names) - 1, 90)[None].repeat(70, 0)
        case.predict(case.raster(ramp), tmp_path / "map.tif", probability_of=(last,))
        with rasterio.open(tmp_path / "map-probability.tif") as file:
            shares = file.read(1)
        found = sorted({int(share) for share in shares[0] if 0 < share <= 100})
        for threshold in (*found[::15], found[-1]):
            polygons(
                tmp_path / "map-probability.tif", out=tmp_path / "new.gpkg", map=tmp_path / "new.tif",
                threshold=float(f"0.{threshold:02d}") if threshold < 100 else 1.0,
            )  # fmt: skip
            np.testing.assert_array_equal(opened(tmp_path / "new.tif") == 1, shares >= threshold)
        assert set(pyogrio.raw.read(tmp_path / "new.gpkg")[3][1]) == {last}

    def test_of_probabilities_of_another_program(self, tmp_path: Path) -> None:
        values = np.zeros((40, 50), np.float32)
        values[3:9, 4:8], values[20:30] = 0.4, np.nan
        path = georasters.save(tmp_path / "p.tif", values)
        polygons(path, out=tmp_path / "p.gpkg", threshold=0.3, map=tmp_path / "map.tif")
        np.testing.assert_array_equal(opened(tmp_path / "map.tif"), np.where(np.isnan(values), 255, values > 0.3))

    def test_what_is_no_map(self, case: Case, tmp_path: Path) -> None:
        image = case.raster(blocks(case))[-1]
        (tmp_path / "text.tif").write_text("no raster")
        for path, words in ((image, "no map: .*without names of classes"), (tmp_path / "text.tif", "no map: ")):
            with pytest.raises(DataError, match=words):
                polygons(path, out=tmp_path / "no.gpkg")
        large = np.random.default_rng(0).integers(0, 2, (700, 700))
        case.predict(case.raster(large), tmp_path / "large.tif", probability=True, tile=256)
        damaged = tmp_path / "large-probability.tif"
        damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size * 3 // 4])
        with pytest.raises(DataError, match=r"large-probability\.tif"):
            polygons(damaged, out=tmp_path / "no.gpkg")
        assert not (tmp_path / "no.gpkg").exists()
        case.predict([*case.raster(blocks(case))], tmp_path / "map.tif", probability=True)
        for out, more, words in (
            (tmp_path / "a.kml", {}, r"must end in \.geojson"),
            (tmp_path / "a.gpkg", {"map": tmp_path / "map-probability.tif"}, "beside the one that is read"),
            (tmp_path / "a.gpkg", {"threshold": "lake=0.3"}, "there is no class 'lake'"),
        ):
            with pytest.raises(InputError, match=words):
                polygons(tmp_path / "map-probability.tif", out=out, **more)
        assert not (tmp_path / "a.gpkg").exists()


class TestAreas:
    def test_of_every_class_as_of_the_polygons(self, case: Case, tmp_path: Path) -> None:
        classes = blocks(case)
        case.predict(case.raster(classes), tmp_path / "map.tif", areas=True, polygons=tmp_path / "map.gpkg")
        rows = table(tmp_path / "map-areas.csv")
        assert [row["name"] for row in rows] == case.names
        assert [int(row["pixels"]) for row in rows] == [int((classes == k).sum()) for k in range(len(rows))]
        assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-5)
        assert {row["file"] for row in rows} == {str(tmp_path / "map.tif")}
        info, _, _, columns = pyogrio.raw.read(tmp_path / "map.gpkg")
        fields = dict(zip(info["fields"], columns, strict=True))
        for k in np.unique(fields["class"]):
            assert float(rows[k]["area_m2"]) == pytest.approx(fields["area_m2"][fields["class"] == k].sum(), abs=0.01)

    def test_of_a_folder_one_table(self, case: Case, tmp_path: Path) -> None:
        for name in ("a", "b"):
            case.raster(blocks(case), name)
        case.predict(case.folders, tmp_path / "maps", areas=True)
        rows = table(tmp_path / "maps/areas.csv")
        assert [Path(row["file"]).name for row in rows] == ["a.tif"] * len(case.names) + ["b.tif"] * len(case.names)
        assert names(tmp_path / "maps") == ["a.tif", "a.tif.aux.xml", "areas.csv", "b.tif", "b.tif.aux.xml"]

    def test_without_a_system_there_are_no_metres(self, case: Case, tmp_path: Path) -> None:
        case.predict(case.raster(blocks(case), crs=None), tmp_path / "map.tif", areas=True)
        rows = table(tmp_path / "map-areas.csv")
        assert {row["area_m2"] for row in rows} == {""}
        assert float(rows[1]["share"]) == pytest.approx(int(rows[1]["pixels"]) / (82 * 112), abs=1e-6)
