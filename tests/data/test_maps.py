"""Maps that are written piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

from semikit.data.formats.images import read_grid
from semikit.errors import RunError
from semikit.raster.cog import MapFile, class_tags
from semikit.raster.grid import Grid
from semikit.raster.region import tiles
from tests.helpers import georasters

COLOURS = np.array([[40, 44, 52], [250, 200, 60]], np.uint8)


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    (tmp_path / "in").mkdir()
    return read_grid(georasters.save(tmp_path / "in/a.tif", np.zeros((600, 700), np.uint8)))


def filled(path: Path, grid: Grid, values: Any, **more: Any) -> None:
    with MapFile(path, grid, **more) as file:
        for region in tiles(grid.size, 256):
            file.write(region, values[region.slices])


def test_a_map_of_classes(tmp_path: Path, grid: Grid) -> None:
    values = np.random.default_rng(0).integers(0, 2, grid.size, dtype=np.uint8)
    valid = np.ones(grid.size, bool)
    valid[:50] = False
    out = tmp_path / "change.tif"
    with MapFile(out, grid, colours=COLOURS, tags=class_tags(("unchanged", "changed"))) as file:
        for region in tiles(grid.size, 200):
            file.write(region, values[region.slices], valid[region.slices])
    with rasterio.open(out) as read:
        assert np.array_equal(read.read(1), np.where(valid, values, 255))
        assert (read.crs, read.transform, read.bounds) == (grid.crs, grid.transform, read.bounds)
        assert read.nodata == 255
        assert read.colormap(1)[1][:3] == (250, 200, 60)
        assert read.tags()["CLASS_1"] == "changed"
        assert read.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (read.profile["compress"], read.profile["tiled"], read.block_shapes) == ("deflate", True, [(512, 512)])
        assert read.overviews(1) == [2]
    assert cog_validate(out, strict=True) == (True, [], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["change.tif", "in"]


@pytest.mark.parametrize(("rgb", "kinds"), [(True, ["red", "green", "blue"]), (False, ["gray", *["undefined"] * 2])])
def test_three_bands(tmp_path: Path, grid: Grid, rgb: bool, kinds: list[str]) -> None:
    values = np.random.default_rng(0).integers(0, 256, (*grid.size, 3), dtype=np.uint8)
    filled(tmp_path / "o.tif", grid, values, bands=3, rgb=rgb, nodata=None)
    with rasterio.open(tmp_path / "o.tif") as read:
        assert np.array_equal(np.moveaxis(read.read(), 0, -1), values)
        assert [kind.name for kind in read.colorinterp] == kinds
    assert cog_validate(tmp_path / "o.tif", strict=True) == (True, [], [])


def test_without_a_place(tmp_path: Path) -> None:
    filled(tmp_path / "o.tif", Grid((40, 50)), np.ones((40, 50), np.uint8))
    assert not read_grid(tmp_path / "o.tif").placed


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RunError])
def test_an_interruption_leaves_nothing_and_what_was_there_stays(
    tmp_path: Path, grid: Grid, kind: type[BaseException]
) -> None:
    out = tmp_path / "change.tif"
    out.write_text("former")

    def stopped() -> None:
        with MapFile(out, grid) as file:
            file.write(next(tiles(grid.size, 256)), np.ones((256, 256), np.uint8))
            raise kind

    with pytest.raises(kind):
        stopped()
    assert out.read_text() == "former"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["change.tif", "in"]


def test_a_failure_while_it_is_finished_leaves_nothing(
    tmp_path: Path, grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rasterio.shutil.copy", full)
    with pytest.raises(RunError, match=r"could not write .*o.tif: .*No space left"):
        filled(tmp_path / "o.tif", grid, np.ones(grid.size, np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_folder_that_is_not_there(tmp_path: Path, grid: Grid) -> None:
    with pytest.raises(RunError, match="could not write"):
        filled(tmp_path / "no/o.tif", grid, np.ones(grid.size, np.uint8))


def test_a_map_under_its_name_has_the_names_of_its_classes(
    tmp_path: Path, grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, beside = Path.replace, []

    def replace(path: Path, target: Path) -> Path:
        beside.append((target.name, (tmp_path / "o.tif.aux.xml").exists()))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with MapFile(tmp_path / "o.tif", grid, categories=("ground", "roof")) as file:
        file.write(next(tiles(grid.size, 1024)), np.ones(grid.size, np.uint8))
    assert beside == [("o.tif.aux.xml", False), ("o.tif", True)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "o.tif", "o.tif.aux.xml"]


def test_what_lay_beside_a_former_map_goes(tmp_path: Path, grid: Grid) -> None:
    beside = tmp_path / "o.tif.aux.xml"
    beside.write_text("<PAMDataset><SRS>EPSG:3857</SRS></PAMDataset>")
    filled(tmp_path / "o.tif", grid, np.ones(grid.size, np.uint8))
    assert not beside.exists()
    assert read_grid(tmp_path / "o.tif").equals(grid)
