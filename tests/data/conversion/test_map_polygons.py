import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pyogrio.raw import write
from rasterio.warp import transform_geom
from shapely import to_wkb
from shapely.geometry import LineString, Point, Polygon, box, mapping, shape

from semikit.data.conversion.convert import convert
from semikit.data.conversion.label_formats import Reading
from semikit.errors import ConfigError, DataError, FileFault
from tests.helpers import label_files as lf
from tests.helpers.georasters import UTM, ramp, save

X, Y = 400000.0, 5800000.0
"""The upper left corner of the rasters, whose pixels have 10 m."""


def pixels(left: float, top: float, right: float, bottom: float) -> Polygon:
    """A rectangle in pixels as map coordinates."""
    return box(X + 10 * left, Y - 10 * bottom, X + 10 * right, Y - 10 * top)


def layer(path: Path, shapes: list[Any], kinds: list[Any] | None, crs: str = UTM) -> Path:
    drivers = {".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".geojson": "GeoJSON"}
    moved = [shape(transform_geom(UTM, crs, mapping(item))) if crs != UTM else item for item in shapes]
    columns, fields = ([np.array(kinds, dtype=object)], ["kind"]) if kinds else ([], [])
    geometry = to_wkb(np.array(moved, dtype=object))
    write(path, geometry, columns, fields, driver=drivers[path.suffix], geometry_type="Polygon", crs=crs)
    return path


def rasters(folder: Path) -> Path:
    save(folder / "scene.tif", ramp(20, 30))
    save(folder / "far.tif", ramp(20, 30), origin=(X + 90000, Y))
    return folder


RING = Polygon(pixels(2, 2, 10, 12).exterior, [pixels(4, 4, 7, 8).exterior])
SHAPES = [pixels(20, 5, 40, 15), RING, pixels(5, 9, 8, 11)]
KINDS = ["field", "lake", "house"]


def wanted() -> lf.Mask:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 20:30] = 1  # field, cut off at the raster's edge
    mask[2:12, 2:10] = 3  # lake
    mask[4:8, 4:7] = 0  # its hole
    mask[9:11, 5:8] = 2  # house, the smaller one, on top
    return mask


def read(path: Path) -> lf.Mask:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1))


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson"])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3857", "EPSG:25832"])
def test_polygons_become_masks_on_the_grids_of_rasters(tmp_path: Path, suffix: str, crs: str) -> None:
    if suffix == ".geojson" and crs not in ("EPSG:4326", UTM):
        pytest.skip("GeoJSON is in degrees")
    source = layer(tmp_path / f"labels{suffix}", SHAPES, KINDS, crs)
    images = rasters(tmp_path / "images")
    done = convert(Reading(source, images=images, attribute="kind"), tmp_path / "out")
    assert done.classes == ("background", "field", "house", "lake")
    np.testing.assert_array_equal(read(tmp_path / "out/masks/scene.tif"), wanted())
    assert not (tmp_path / "out/masks/far.tif").exists()
    assert any("1 of 2 rasters are touched by no polygon" in notice for notice in done.notices)
    with rasterio.open(tmp_path / "out/masks/scene.tif") as mask, rasterio.open(images / "scene.tif") as image:
        assert mask.crs == image.crs
        assert mask.transform == image.transform
    again = convert(Reading(source, images=images, attribute="kind"), tmp_path / "out")
    assert (again.written, again.kept) == (0, 1)


def test_outside_of_the_labelled_area_nothing_counts(tmp_path: Path) -> None:
    from semikit.data.masked_images import load_spec, open_folders

    source = layer(tmp_path / "labels.gpkg", SHAPES, [1, 7, 30])
    area = layer(tmp_path / "area.geojson", [pixels(0, 0, 15, 10)], None, "EPSG:4326")
    images = rasters(tmp_path / "images")
    save(images / "val/empty.tif", ramp(20, 30))
    reading = Reading(source, images=images, attribute="kind", labeled_area=area)
    done = convert(reading, tmp_path / "out")
    assert done.classes == ("background", "1", "7", "30")
    mask = np.full((20, 30), 255, np.uint8)
    mask[:10, :15] = np.choose(wanted()[:10, :15], [0, 1, 3, 2])
    np.testing.assert_array_equal(read(tmp_path / "out/masks/train/scene.tif"), mask)
    parts = open_folders(load_spec(tmp_path / "out/data.yaml"))
    _, valid = parts.train.target(list(parts.train.names).index("scene"))
    np.testing.assert_array_equal(valid, mask != 255)


def test_pairs_get_the_masks_of_the_first_date(tmp_path: Path) -> None:
    from semikit.data.image_pairs import open_pair_folders
    from semikit.data.pair_spec import load_pairs

    source = layer(tmp_path / "labels.gpkg", SHAPES[:1], ["changed"])
    for date in "ab":
        for part in ("train", "val"):
            save(tmp_path / date / part / f"{part}.tif", ramp(20, 30))
    done = convert(Reading(source, images=tmp_path / "a", images_b=tmp_path / "b", attribute="kind"), tmp_path / "out")
    assert done.classes == ("unchanged", "changed")
    parts = open_pair_folders(load_pairs(tmp_path / "out/data.yaml"))
    assert parts.val is not None
    labels, valid = parts.val.target(0)
    assert labels.sum() == 100
    assert valid.all()
    assert parts.val.files(0)[1].samefile(tmp_path / "b/val/val.tif")


def test_what_semikit_predicted_comes_back_by_its_names(tmp_path: Path) -> None:
    source = tmp_path / "map.gpkg"
    geometry = to_wkb(np.array(SHAPES, dtype=object))
    columns = [np.array([1, 2, 1]), np.array(["new", "gone", "new"], dtype=object)]
    write(source, geometry, columns, ["class", "name"], driver="GPKG", geometry_type="Polygon", crs=UTM)
    done = convert(Reading(source, images=rasters(tmp_path / "images"), classes=["background", "new", "gone"]),
                   tmp_path / "out")  # fmt: skip
    assert done.classes == ("background", "new", "gone")
    assert read(tmp_path / "out/masks/scene.tif")[3, 3] == 2


def test_links_to_rasters_keep_their_place_on_the_map(tmp_path: Path) -> None:
    source = layer(tmp_path / "labels.gpkg", SHAPES, KINDS)
    images = tmp_path / "images"
    for part in ("train", "val"):
        bare = save(images / part / f"{part}.tif", ramp(20, 30), crs=None)
        bare.with_suffix(".tfw").write_text("10\n0\n0\n-10\n400005\n5799995\n")
        bare.with_name(f"{part}.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:32633</SRS></PAMDataset>")
    convert(Reading(source, images=images, attribute="kind"), tmp_path / "out")
    for part in ("train", "val"):
        np.testing.assert_array_equal(read(tmp_path / f"out/masks/{part}/{part}/{part}.tif"), wanted())
        with rasterio.open(tmp_path / f"out/images/{part}/{part}/{part}.tif") as file:
            assert file.crs == UTM
            assert (file.transform.c, file.transform.f) == (X, Y)


def test_large_rasters_are_drawn_by_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semikit.data.conversion.mask_store._TILE", 7)
    source = layer(tmp_path / "labels.gpkg", SHAPES, KINDS)
    convert(Reading(source, images=rasters(tmp_path / "images"), attribute="kind"), tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out/masks/scene.tif"), wanted())


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    source = layer(tmp_path / "labels.gpkg", SHAPES, KINDS)
    images = rasters(tmp_path / "images")
    with pytest.raises(ConfigError, match=r"--images DIR"):
        convert(Reading(source), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"--attribute NAME.*kind \(field, house, lake\)"):
        convert(Reading(source, images=images), tmp_path / "out")
    with pytest.raises(DataError, match="has no attribute 'type'; it has kind"):
        convert(Reading(source, images=images, attribute="type"), tmp_path / "out")
    bare = save(tmp_path / "bare/a.tif", ramp(20, 30), crs=None)
    with pytest.raises(DataError, match="1 rasters have no place on the map"):
        convert(Reading(source, images=bare.parent, attribute="kind"), tmp_path / "out")
    far = save(tmp_path / "far/a.tif", ramp(20, 30), origin=(X + 90000, Y))
    with pytest.raises(DataError, match="touches none of the 1 rasters"):
        convert(Reading(source, images=far.parent, attribute="kind"), tmp_path / "out")
    (tmp_path / "labels.geojson").write_text("{}")
    with pytest.raises(FileFault, match="unreadable polygons"):
        convert(Reading(tmp_path / "labels.geojson", images=images, attribute="kind"), tmp_path / "out")


def test_of_several_layers_one_is_asked_for(tmp_path: Path) -> None:
    source = layer(tmp_path / "labels.gpkg", SHAPES[:1], KINDS[:1])
    columns = [np.array(KINDS, dtype=object)]
    geometry = to_wkb(np.array(SHAPES, dtype=object))
    write(
        source, geometry, columns, ["kind"], driver="GPKG", geometry_type="Polygon", crs=UTM, layer="all", append=True
    )
    images = rasters(tmp_path / "images")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for attribute in (None, "kind"):
            with pytest.raises(ConfigError, match=r"has several layers: labels, all\. .*--layer NAME"):
                convert(Reading(source, images=images, attribute=attribute), tmp_path / "out")
        with pytest.raises(ConfigError, match="no layer 'other'"):
            convert(Reading(source, images=images, attribute="kind", layer="other"), tmp_path / "out")
        convert(Reading(source, images=images, attribute="kind", layer="all"), tmp_path / "out")
        plain = layer(tmp_path / "one.gpkg", [pixels(0, 0, 15, 10)], ["field"])
        with pytest.raises(ConfigError, match="save the one that counts as a file of its own"):
            convert(Reading(plain, images=images, attribute="kind", labeled_area=source), tmp_path / "two")
    np.testing.assert_array_equal(read(tmp_path / "out/masks/scene.tif"), wanted())


def test_features_that_are_no_polygons_are_counted(tmp_path: Path) -> None:
    shapes = [*SHAPES, LineString([(X, Y), (X + 50, Y)]), Point(X, Y), Point(X, Y), Polygon(), None]
    columns = [np.array([*KINDS, *["rest"] * 5], dtype=object)]
    source, geometry = tmp_path / "labels.gpkg", to_wkb(np.array(shapes, dtype=object))
    write(source, geometry, columns, ["kind"], driver="GPKG", geometry_type="Unknown", crs=UTM)
    done = convert(Reading(source, images=rasters(tmp_path / "images"), attribute="kind"), tmp_path / "out")
    text = "labels.gpkg also holds 2 points, 1 lines, 2 without a shape, which are no polygons and are left out"
    assert any(text in notice for notice in done.notices)
    np.testing.assert_array_equal(read(tmp_path / "out/masks/scene.tif"), wanted())


def test_rasters_outside_of_the_labelled_area_are_not_said_to_be_without_polygons(tmp_path: Path) -> None:
    source = layer(tmp_path / "labels.gpkg", SHAPES, KINDS)
    area = layer(tmp_path / "area.gpkg", [pixels(9000, 0, 9015, 10)], None)
    done = convert(
        Reading(source, images=rasters(tmp_path / "images"), attribute="kind", labeled_area=area), tmp_path / "out"
    )
    assert any(f"1 of 2 rasters lie outside of {area} and stay unlabelled" in notice for notice in done.notices)


def test_the_only_file_of_polygons_in_a_folder_is_read_and_of_several_one_is_asked_for(tmp_path: Path) -> None:
    images = rasters(tmp_path / "maps/scenes")
    layer(tmp_path / "maps/fields.gpkg", SHAPES, KINDS)
    convert(Reading(tmp_path / "maps", images=images, attribute="kind"), tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out/masks/scene.tif"), wanted())
    layer(tmp_path / "maps/more.shp", SHAPES, KINDS)
    with pytest.raises(ConfigError, match=r"2 files of polygons: .*fields\.gpkg, .*more\.shp\. Give one"):
        convert(Reading(tmp_path / "maps", images=images, attribute="kind"), tmp_path / "out")
