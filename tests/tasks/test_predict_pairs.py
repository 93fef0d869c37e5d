"""Maps of change from pairs: places, nodata, what else is written, and what is refused."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from torch import Tensor, nn

from semikit.core.network import Features, Network
from semikit.core.task import Inference
from semikit.errors import ConfigError, DataError, InputError
from semikit.inference.journal import JOURNAL
from semikit.inference.map_files import MapPredict
from semikit.inference.predict_maps import predict_maps
from semikit.inference.scenes import DatePairs
from tests.helpers import georasters, pairs

INFERENCE = Inference(torch.device("cpu"), nullcontext)
METADATA: dict[str, Any] = {
    "class_names": ["unchanged", "changed"],
    "palette": [[40, 44, 52], [250, 200, 60]],
    "evaluate": {},
    "crop": 32,
    "bands": None,
    "scale": None,
}


class Difference(Network):
    """Changed where the dates differ by more than half of the range."""

    def __init__(self) -> None:
        super().__init__()
        self.widths, self.embed_dim, self.num_classes, self.multiple = (3,), 3, 2, 4
        self.mean, self.std = (0.0,) * 3, (1.0,) * 3

    def encode(self, images: Tensor) -> Features:
        assert images.shape[1] == 2
        return Features(((images[:, 0] - images[:, 1]).abs(),), (images.shape[-2], images.shape[-1]))

    def embed(self, features: Features) -> Tensor:
        return features.levels[0]

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        change = 20 * (embedding.mean(1) - 0.5)
        return torch.stack([-change, change], 1)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return []


def predict(sources: Any, out: Path, progress: Any = None, metadata: Any = None, **options: Any) -> Any:
    told = progress or (lambda what, done, total: None)
    given = [str(source) for source in sources]
    known = {**METADATA, **(metadata or {})}
    return predict_maps([Difference()], known, DatePairs.of(known), given, out, MapPredict(**options), INFERENCE, told)


@pytest.fixture
def rasters(tmp_path: Path) -> tuple[Path, Path, Any]:
    """A pair of 90 x 110 pixels and its truth; the first 10 rows of A have no data."""
    dark = np.full((3, 90, 110), 10, np.uint8)
    bright = dark.copy()
    bright[:, 30:60, 40:80] = 240
    dark[:, :10] = 0
    paths = [georasters.save(tmp_path / f"in/{k}.tif", v, nodata=0) for k, v in (("a", dark), ("b", bright))]
    return paths[0], paths[1], bright[0] == 240


class TestRasters:
    def test_classes_in_their_place(self, rasters: Any, tmp_path: Path) -> None:
        before, after, truth = rasters
        told: list[tuple[str, int, int]] = []
        done = predict((before, after), tmp_path / "change.tif", lambda *at: told.append(at))
        assert (done.count, list(done.notices)) == (1, [])
        with rasterio.open(tmp_path / "change.tif") as file, rasterio.open(before) as first:
            values = file.read(1)
            assert (file.crs, file.transform, file.bounds) == (first.crs, first.transform, first.bounds)
            assert file.nodata == 255
            assert file.tags()["CLASS_1"] == "changed"
        assert (values[:10] == 255).all()
        assert np.array_equal(values[10:] == 1, truth[10:])
        assert told[-1][1] == told[-1][2] > 1

    def test_probability_and_confidence_in_percent(self, rasters: Any, tmp_path: Path) -> None:
        before, after, truth = rasters
        predict((before, after), tmp_path / "c.tif", probability=True, confidence=True)
        with rasterio.open(tmp_path / "c-probability.tif") as file:
            chance = file.read(1)
            assert file.tags()["UNIT"] == "percent"
        with rasterio.open(tmp_path / "c-confidence.tif") as file:
            sure = file.read(1)
        shown = np.s_[10:]
        assert set(np.unique(chance[:10])) == {255}
        assert chance[shown][truth[shown]].min() > 95
        assert chance[shown][~truth[shown]].max() < 5
        assert np.array_equal(sure[shown], np.where(truth, chance, 100 - chance)[shown])

    def test_polygons(self, rasters: Any, tmp_path: Path) -> None:
        before, after, truth = rasters
        done = predict((before, after), tmp_path / "c.tif", polygons=tmp_path / "c.geojson")
        features = json.loads((tmp_path / "c.geojson").read_text())["features"]
        assert [feature["properties"]["name"] for feature in features] == ["changed"]
        # UTM's scale is 0.99961 at 100 km west of its central meridian, so 10 m of the grid are a little more.
        assert features[0]["properties"]["area_m2"] == pytest.approx(truth.sum() * 100, rel=2e-3)
        assert "1 polygon" in done.notices[-1]

    def test_an_overlay_shows_the_second_date(self, rasters: Any, tmp_path: Path) -> None:
        before, after, truth = rasters
        predict((before, after), tmp_path / "c.tif", overlay=True)
        with rasterio.open(tmp_path / "c-overlay.tif") as file:
            shown = np.moveaxis(file.read(), 0, -1)
        assert (shown[:10] == 0).all()
        assert (shown[10:][~truth[10:]] == 10).all()
        assert shown[40, 50].tolist() == [245, 220, 150]

    def test_the_tile_changes_nothing(self, rasters: Any, tmp_path: Path) -> None:
        before, after, _ = rasters
        maps = []
        for tile in (16, 32, 128):
            predict((before, after), tmp_path / f"{tile}.tif", tile=tile)
            with rasterio.open(tmp_path / f"{tile}.tif") as file:
                maps.append(file.read(1))
        assert np.array_equal(maps[0], maps[1])
        assert np.array_equal(maps[0], maps[2])

    def test_two_grids_are_aligned_and_said(self, rasters: Any, tmp_path: Path) -> None:
        before, _, truth = rasters
        fine = np.full((3, 180, 220), 10, np.uint8)
        fine[:, 60:120, 80:160] = 240
        after = georasters.save(tmp_path / "in/fine.tif", fine, nodata=0, pixel=5.0)
        done = predict((before, after), tmp_path / "c.tif")
        assert "is brought onto the grid of a.tif" in done.notices[0]
        with rasterio.open(tmp_path / "c.tif") as file:
            assert (file.read(1)[10:] == truth[10:]).mean() > 0.99

    def test_without_a_system_it_works_and_is_said(self, tmp_path: Path) -> None:
        paths = [georasters.save(tmp_path / f"{k}.tif", georasters.ramp(40, 40), crs=None) for k in "ab"]
        done = predict(paths, tmp_path / "c.tif")
        assert "no coordinate reference system, and neither has the map" in done.notices[0]

    def test_deeper_values_than_the_model_saw_have_one_range(self, tmp_path: Path) -> None:
        """Percentiles of each window alone would show changes that are none."""
        rng = np.random.default_rng(0)
        before = (rng.integers(200, 260, (3, 96, 96)) + np.mgrid[0:96, 0:96][1] * 60).astype(np.uint16)
        after = before.copy()
        after[:, 40:70, 10:30] = 6000
        paths = [georasters.save(tmp_path / f"{k}.tif", v) for k, v in (("a", before), ("b", after))]
        done = predict(paths, tmp_path / "c.tif")
        assert "the model was trained on 8-bit images" in done.notices[0]
        with rasterio.open(tmp_path / "c.tif") as file:
            assert np.array_equal(file.read(1) == 1, (after != before)[0])

    def test_of_many_pairs_one_sentence_says_what_does_not_fit(self, tmp_path: Path) -> None:
        for date in "ab":
            for name in ("one", "two"):
                values = np.linspace(0, 1, 3 * 1600, dtype=np.float32).reshape(3, 40, 40)
                georasters.save(tmp_path / date / f"{name}.tif", values)
        done = predict(
            (tmp_path / "a", tmp_path / "b"), tmp_path / "out", metadata={"scale": {"min": 877, "max": 1825}}
        )
        (notice,) = [text for text in done.notices if "learned from" in text]
        assert "100% of the values lie outside" in notice
        assert "and 1 more" in notice

    def test_pairs_of_which_none_fits_are_listed_all_the_same(self, tmp_path: Path) -> None:
        for date in "ab":
            for name in ("one", "two"):
                georasters.save(tmp_path / date / f"{name}.tif", np.zeros((5, 40, 40), np.uint8))
        with pytest.raises(DataError, match="none of 2 files could be predicted"):
            predict((tmp_path / "a", tmp_path / "b"), tmp_path / "out")
        assert (tmp_path / "out/errors.csv").read_text().count("other channels") == 2

    @pytest.mark.parametrize("kind", ["int32", "float64"])
    def test_whole_numbers_of_a_byte_are_8_bits_in_any_type(self, rasters: Any, tmp_path: Path, kind: str) -> None:
        predict(rasters[:2], tmp_path / "byte.tif")
        paths = []
        for path in rasters[:2]:
            paths.append(tmp_path / f"{kind}-{path.name}")
            with rasterio.open(path) as file, rasterio.open(paths[-1], "w", **{**file.profile, "dtype": kind}) as wide:
                wide.write(file.read().astype(kind))
        assert not predict(paths, tmp_path / "wide.tif").notices
        with rasterio.open(tmp_path / "byte.tif") as one, rasterio.open(tmp_path / "wide.tif") as other:
            np.testing.assert_array_equal(one.read(1), other.read(1))

    def test_nothing_valid(self, tmp_path: Path) -> None:
        empty = georasters.save(tmp_path / "a.tif", np.zeros((3, 40, 40), np.uint8), nodata=0)
        other = georasters.save(tmp_path / "b.tif", georasters.ramp(40, 40) + 1)
        done = predict((empty, other), tmp_path / "c.tif")
        with rasterio.open(tmp_path / "c.tif") as file:
            assert (file.read(1) == 255).all()
        assert "no pixel" in " ".join(done.notices)

    def test_8_bits_where_the_model_saw_more_are_said(self, rasters: Any, tmp_path: Path) -> None:
        done = predict(rasters[:2], tmp_path / "c.tif", metadata={"scale": {"min": 0, "max": 10000}})
        assert "values are taken from 0 to 10000, and these rasters hold 8 bits" in done.notices[0]
        assert "in/a.tif" in done.notices[0]
        assert not predict(rasters[:2], tmp_path / "d.tif", metadata={"scale": {"min": 0, "max": 250}}).notices

    def test_deeper_values_than_the_stated_range_are_said(self, tmp_path: Path) -> None:
        paths = [georasters.save(tmp_path / f"{k}.tif", georasters.ramp(40, 40, 3, "uint16") * 9) for k in "ab"]
        done = predict(paths, tmp_path / "c.tif", metadata={"scale": {"min": 0, "max": 255}})
        assert (
            "of the values lie outside of the range that was learned from, 0 to 255; these images hold"
            in done.notices[0]
        )

    def test_one_file_for_both_dates_is_said(self, rasters: Any, tmp_path: Path) -> None:
        done = predict((rasters[0], rasters[0]), tmp_path / "c.tif")
        assert "was given for both dates" in done.notices[0]

    def test_an_interruption_leaves_nothing(self, rasters: Any, tmp_path: Path) -> None:
        def stop(what: str, done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            predict(rasters[:2], tmp_path / "c.tif", stop, overlay=True, probability=True)
        assert [path.name for path in tmp_path.iterdir()] == ["in"]


class TestPhotos:
    def test_a_pair(self, tmp_path: Path) -> None:
        before, after = np.zeros((20, 30, 3)), np.zeros((20, 30, 3))
        after[4:12, 8:20] = 255
        sources = pairs.save(tmp_path / "a.png", before), pairs.save(tmp_path / "b.png", after)
        predict(sources, tmp_path / "out/c.png", overlay=True, probability=True)
        with Image.open(tmp_path / "out/c.png") as image:
            assert image.mode == "P"
            assert image.getpalette()[3:6] == [250, 200, 60]  # type: ignore[index]
            assert np.array_equal(np.asarray(image) == 1, after[..., 0] > 0)
        assert (np.asarray(Image.open(tmp_path / "out/c-probability.png"))[4:12, 8:20] > 95).all()
        assert np.asarray(Image.open(tmp_path / "out/c-overlay.png")).shape == (20, 30, 3)

    def test_folders(self, pair_data: Path, tmp_path: Path) -> None:
        val = pair_data.parent / "val"
        done = predict((val / "A", val / "B"), tmp_path / "maps")
        assert (done.count, list(done.notices)) == (3, [])
        assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["val0.png", "val1.png", "val2.png"]

    def test_one_bar_for_all_pairs(self, pair_data: Path, tmp_path: Path) -> None:
        val = pair_data.parent / "val"
        told: list[tuple[str, int, int]] = []
        predict((val / "A", val / "B"), tmp_path / "maps", lambda *seen: told.append(seen))
        assert told == [("3 pairs", 1, 3), ("3 pairs", 2, 3), ("3 pairs", 3, 3)]


def test_what_is_told_of_many_pairs_is_told_once(tmp_path: Path) -> None:
    for date in "ab":
        for k in range(5):
            georasters.save(tmp_path / f"{date}/{k}.tif", georasters.ramp(40, 40), crs=None)
    done = predict((tmp_path / "a", tmp_path / "b"), tmp_path / "maps")
    (told,) = done.notices
    assert told.startswith("5 pairs have no coordinate reference system: ")
    assert told.endswith(" and 2 more")


class TestRefused:
    @pytest.mark.parametrize(
        ("out", "options", "words"),
        [
            ("in/a.tif", {}, "it would be overwritten"),
            ("c.xyz", {}, r"no map is written as .xyz. Allowed here: .tif, .tiff"),
            ("c.png", {}, "no map is written as .png"),
            ("c.tif", {"polygons": Path("c.kml")}, "polygons are written as .geojson, .json, .gpkg, .shp, .fgb"),
        ],
    )
    def test_outputs(self, rasters: Any, tmp_path: Path, out: str, options: Any, words: str) -> None:
        kept = rasters[0].read_bytes()
        with pytest.raises(InputError, match=words):
            predict(rasters[:2], tmp_path / out, **options)
        assert rasters[0].read_bytes() == kept

    def test_the_file_behind_a_virtual_raster(self, rasters: Any, tmp_path: Path) -> None:
        from rasterio.shutil import copy

        copy(rasters[0], tmp_path / "v.vrt", driver="VRT")
        with pytest.raises(InputError, match=r"a.tif is one of the images to predict"):
            predict((tmp_path / "v.vrt", rasters[1]), rasters[0])

    def test_outputs_of_two_pairs(self, rasters: Any, tmp_path: Path) -> None:
        for date, path in zip("AB", rasters[:2], strict=True):
            for name in ("x", "x-overlay"):
                (tmp_path / date).mkdir(exist_ok=True)
                (tmp_path / date / f"{name}.tif").write_bytes(path.read_bytes())
        with pytest.raises(InputError, match=r"two outputs would be .*x-overlay.tif"):
            predict((tmp_path / "A", tmp_path / "B"), tmp_path / "out", overlay=True)

    def test_one_pair_of_many_that_does_not_fit(self, rasters: Any, tmp_path: Path) -> None:
        for date, path in zip("AB", rasters[:2], strict=True):
            (tmp_path / date).mkdir()
            (tmp_path / date / "a.tif").write_bytes(path.read_bytes())
            georasters.save(tmp_path / date / "b.tif", georasters.ramp(9, 9), origin=(4e5 + 9e3 * (date == "B"), 5.8e6))
        done = predict((tmp_path / "A", tmp_path / "B"), tmp_path / "out")
        assert (done.count, len(done.failed)) == (1, 1)
        assert "1 of 2 not predicted, dates without a place in common" in " ".join(done.notices)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            JOURNAL, "a.tif", "a.tif.aux.xml", "errors.csv",
        ]  # fmt: skip

    def test_what_belongs_to_polygons_without_them(self) -> None:
        with pytest.raises(ValueError, match="give --polygons too"):
            MapPredict(simplify=3.0)

    def test_an_extra_output_over_an_input(self, rasters: Any, tmp_path: Path) -> None:
        second = rasters[1].rename(rasters[1].with_name("c-overlay.tif"))
        with pytest.raises(InputError, match=r"c-overlay.tif is one of the images to predict"):
            predict((rasters[0], second), tmp_path / "in/c.tif", overlay=True)

    def test_a_system_that_is_not_tied_to_the_earth(self, tmp_path: Path) -> None:
        """Found before anything is predicted, and the input is named."""
        local = 'LOCAL_CS["site",UNIT["metre",1]]'
        paths = [georasters.save(tmp_path / f"{k}.tif", georasters.ramp(40, 40), crs=local) for k in "ab"]
        told: list[Any] = []
        with pytest.raises(DataError, match=r"belong to: .*a\.tif"):
            predict(paths, tmp_path / "out/c.tif", lambda *seen: told.append(seen), polygons=tmp_path / "c.gpkg")
        assert not told
        assert not (tmp_path / "out").exists()

    def test_the_second_of_two_pairs_is_looked_at_first(self, tmp_path: Path) -> None:
        for date in "ab":
            for name, bands in (("one", 3), ("two", 5)):
                georasters.save(tmp_path / date / f"{name}.tif", georasters.ramp(40, 40, bands))
        georasters.save(tmp_path / "b/two.tif", georasters.ramp(40, 40, 4))
        with pytest.raises(DataError, match="other numbers of channels"):
            predict((tmp_path / "a", tmp_path / "b"), tmp_path / "maps", fail_fast=True)
        assert not (tmp_path / "maps").exists()

    def test_sources(self, rasters: Any, tmp_path: Path) -> None:
        before, after, _ = rasters
        for sources, words in (
            ((before,), "give two files or two folders, the earlier date first, not 1"),
            ((before, after, after), "not 3"),
            ((before, ""), "an empty SOURCE does not exist"),
            ((before, tmp_path), "one is a folder"),
            ((before, tmp_path / "gone.tif"), "does not exist"),
        ):
            with pytest.raises(InputError, match=words):
                predict(sources, tmp_path / "c.tif")

    def test_a_missing_partner(self, pair_data: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"images have no partner of the .* date: "):
            predict((pair_data.parent / "val/A", pair_data.parent / "train/B"), tmp_path / "maps")

    def test_tiles(self, rasters: Any, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"--tile 30 is not a multiple of the patch, 4. Use 28"):
            predict(rasters[:2], tmp_path / "c.tif", tile=30)
        with pytest.raises(ConfigError, match=r"--overlap 20 is more than half of the tile, 32"):
            predict(rasters[:2], tmp_path / "c.tif", overlap=20)

    def test_other_channels(self, tmp_path: Path) -> None:
        paths = [georasters.save(tmp_path / f"{k}.tif", georasters.ramp(40, 40, 5)) for k in "ab"]
        with pytest.raises(DataError, match="the images have 5 channels, but the model was made for 3"):
            predict(paths, tmp_path / "c.tif")
        assert not (tmp_path / "c.tif").exists()
