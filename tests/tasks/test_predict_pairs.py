"""Maps of change from pairs: places, nodata, what else is written, and what is refused."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from torch import Tensor, nn

from semikit.core.network import Features, Network
from semikit.core.task import Inference
from semikit.errors import DataError, InputError
from semikit.inference.journal import JOURNAL
from semikit.inference.map_files import MapPredict
from semikit.inference.predict_maps import predict_maps
from semikit.inference.scenes import DatePairs
from tests.helpers import georasters

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
    def test_two_grids_are_aligned_and_said(self, rasters: Any, tmp_path: Path) -> None:
        before, _, truth = rasters
        fine = np.full((3, 180, 220), 10, np.uint8)
        fine[:, 60:120, 80:160] = 240
        after = georasters.save(tmp_path / "in/fine.tif", fine, nodata=0, pixel=5.0)
        done = predict((before, after), tmp_path / "c.tif")
        assert "is brought onto the grid of a.tif" in done.notices[0]
        with rasterio.open(tmp_path / "c.tif") as file:
            assert (file.read(1)[10:] == truth[10:]).mean() > 0.99

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


class TestRefused:
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
            ((before, tmp_path / "*.tif"), "Give two files, two folders, or two patterns in quotes, 'dates/{stem}-"),
        ):
            with pytest.raises(InputError, match=words):
                predict(sources, tmp_path / "c.tif")

    def test_a_missing_partner(self, pair_data: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"images have no partner of the .* date: "):
            predict((pair_data.parent / "val/A", pair_data.parent / "train/B"), tmp_path / "maps")
