"""Made maps whose polygons, areas and places are known."""

from __future__ import annotations

import json
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from math import pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from rasterio import Affine
from shapely.geometry import shape

from semikit.errors import ConfigError, DataError, FileFault
from semikit.raster import tracing
from semikit.raster.geodesic import Geodesic
from semikit.raster.polygons import PolygonReport, write_polygons

NAMES = ["unchanged", "built", "gone"]
UTM = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 6650000)}
NORTH = {"crs": "EPSG:4326", "transform": Affine(0.001, 0, 10, 0, -0.001, 60)}
FINE = {"crs": "EPSG:32633", "transform": Affine(0.3, 0, 612345.6, 0, -0.3, 6654321.9)}

AREAS = ("area_m2", "area_px")
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a map (H, W), or bands (N, H, W)."""

    def write(values: NDArray[Any], name: str = "map.tif", **profile: Any) -> Path:
        bands = values if values.ndim == 3 else values[None]
        count, height, width = bands.shape
        size = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(tmp_path / name, "w", driver="GTiff", **{"nodata": 255, **size, **profile}) as file:
                file.write(bands)
        return tmp_path / name

    return write


def blank(height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    return np.zeros((height, width), dtype=np.uint8)


def noise(seed: int, size: int = 40) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).choice(np.array([0, 0, 1, 2, 255], dtype=np.uint8), (size, size))


def features(path: Path) -> list[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["type"] == "FeatureCollection"
    return sorted(content["features"], key=lambda feature: -max(feature["properties"].get(k, 0) for k in AREAS))


def rows(path: Path) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    meta, _, geometries, columns = pyogrio.raw.read(path)
    return shapely.from_wkb(geometries), dict(zip(meta["fields"], columns, strict=True))


def test_a_block_is_a_feature_with_class_name_and_area(make: Make, tmp_path: Path) -> None:
    """3 x 4 pixels of 10 m; UTM is 0.04 % too small at its middle, so areas agree to 0.1 %."""
    values = blank()
    values[5:8, 10:14] = 1
    report = write_polygons(make(values, **UTM), tmp_path / "out.geojson", NAMES)
    (feature,) = features(tmp_path / "out.geojson")
    assert feature["type"] == "Feature"
    assert set(feature["properties"]) == {"class", "name", "area_m2"}
    assert (feature["properties"]["class"], feature["properties"]["name"]) == (1, "built")
    assert feature["properties"]["area_m2"] == pytest.approx(1200 / 0.9996**2, rel=1e-4)
    assert report.count == 1
    assert report.area == pytest.approx(1200, rel=1e-3)
    (ring,) = feature["geometry"]["coordinates"]
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True).transform(*np.array(ring).T)
    assert ring[0] == ring[-1]
    assert {(round(a, 2), round(b, 2)) for a, b in zip(x, y, strict=True)} == {
        (500100, 6649950),
        (500140, 6649950),
        (500140, 6649920),
        (500100, 6649920),
    }


def test_an_area_in_degrees_is_geodesic(make: Make, tmp_path: Path) -> None:
    values = blank()
    values[5:8, 10:14] = 2
    report = write_polygons(make(values, **NORTH), tmp_path / "out.geojson", NAMES)
    (feature,) = features(tmp_path / "out.geojson")
    lon, lat = [10.01, 10.014, 10.014, 10.01], [59.992, 59.992, 59.995, 59.995]
    area = Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0]
    assert 70_000 < area < 80_000
    assert report.area == pytest.approx(area, rel=1e-6)
    assert feature["properties"]["area_m2"] == pytest.approx(area, rel=1e-6)
    assert shape(feature["geometry"]).equals(shapely.box(10.01, 59.992, 10.014, 59.995))


@pytest.mark.parametrize("place", [UTM, {}, {"transform": Affine(2, 0, 500000, 0, 2, 0), "crs": "EPSG:32633"}])
def test_a_hole_is_subtracted_and_rings_are_right_handed(make: Make, tmp_path: Path, place: dict[str, Any]) -> None:
    values = blank()
    values[2:12, 3:13] = 1
    values[5:8, 6:10] = 0
    classes = make(values, **place)
    for suffix in ("geojson", "gpkg"):
        report = write_polygons(classes, tmp_path / f"out.{suffix}", NAMES)
        pixel = abs(place["transform"].a) ** 2 if place else 1
        assert report.area == pytest.approx(88 * pixel, rel=2e-3)
        found, _ = rows(tmp_path / f"out.{suffix}")
        (hole,) = found[0].interiors
        assert found[0].exterior.is_ccw
        assert not hole.is_ccw


def test_classes_and_corners_part_polygons(make: Make, tmp_path: Path) -> None:
    values = blank()
    values[2:5, 2:6] = 1
    values[2:5, 6:8] = 2
    values[5:7, 8:10] = 2
    values[10:, :] = 255
    report = write_polygons(make(values), tmp_path / "out.geojson", NAMES)
    assert report == PolygonReport(count=3, area=22)
    found = [(f["properties"]["name"], f["properties"]["area_px"]) for f in features(tmp_path / "out.geojson")]
    assert sorted(found) == [("built", 12), ("gone", 4), ("gone", 6)]


def test_a_polygon_across_many_blocks_is_one_feature(make: Make, tmp_path: Path) -> None:
    """A comb over 8 x 8 blocks: one back, 25 teeth."""
    values = blank(128, 128)
    values[::5] = 1
    values[:, 60:63] = 1
    classes = make(values, **UTM, tiled=True, blockxsize=16, blockysize=16)
    report = write_polygons(classes, tmp_path / "out.gpkg", NAMES)
    (comb,), _ = rows(tmp_path / "out.gpkg")
    assert report.count == 1
    assert comb.area == int(values.sum()) * 100
    assert comb.is_valid


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("simplify", [0.0, 0.5])
def test_noise_gives_the_same_valid_polygons_in_all_formats(
    make: Make, tmp_path: Path, seed: int, simplify: float
) -> None:
    classes = make(noise(seed), **FINE)
    reports, found = [], []
    for suffix in ("geojson", "gpkg", "shp", "fgb"):
        reports.append(write_polygons(classes, tmp_path / f"out.{suffix}", NAMES, simplify=simplify))
        found.append(rows(tmp_path / f"out.{suffix}"))
    assert len(set(reports)) == 1
    assert len(features(tmp_path / "out.geojson")) == len(found[0][0]) == len(found[1][0]) == reports[0].count > 100
    for geometries, columns in found:
        assert shapely.is_valid(geometries).all()
        assert reports[0].area == pytest.approx(columns["area_m2"].sum(), rel=1e-5)
        assert reports[0].area == pytest.approx(0.09 * np.isin(noise(seed), [1, 2]).sum(), rel=1e-3)
    for key in ("class", "name", "area_m2"):
        for _, columns in found[1:3]:
            assert found[0][1][key].tolist() == columns[key].tolist()
        assert sorted(found[0][1][key]) == sorted(found[3][1][key]), "FlatGeobuf sorts by place"


def test_a_geopackage_keeps_the_crs_and_the_names(make: Make, tmp_path: Path) -> None:
    values = blank()
    values[5:8, 10:14] = 1
    values[0, 0] = 2
    write_polygons(make(values, **UTM), tmp_path / "changes.gpkg", ["no", "bâti", "対"])
    info = pyogrio.read_info(tmp_path / "changes.gpkg")
    assert (info["crs"], info["geometry_type"], info["layer_name"]) == ("EPSG:32633", "Polygon", "changes")
    found, columns = rows(tmp_path / "changes.gpkg")
    assert sorted(columns["name"]) == ["bâti", "対"]
    block = found[columns["class"].tolist().index(1)]
    assert block.equals(shapely.box(500100, 6649920, 500140, 6649950))
    write_polygons(tmp_path / "map.tif", tmp_path / "out.geojson", NAMES)
    assert pyogrio.read_info(tmp_path / "out.geojson")["crs"] == "EPSG:4326"


@pytest.mark.parametrize("place", [UTM, NORTH, {}], ids=["metres", "degrees", "pixels"])
def test_simplify_straightens_stairs(make: Make, tmp_path: Path, place: dict[str, Any]) -> None:
    """A circle of 80 pixels; a tolerance of two pixels, told in metres, does the same in each CRS."""
    row, column = np.mgrid[:180, :360] - np.array([89.5, 179.5])[:, None, None]
    stretch = 2 if place is NORTH else 1  # a degree of longitude is half as long there
    values = (row**2 + (column / stretch) ** 2 < 80**2).astype(np.uint8)
    classes = make(values, **place)
    metres = {"EPSG:32633": 10.0, "EPSG:4326": 111.4}.get(place.get("crs", ""), 1.0)
    plain = write_polygons(classes, tmp_path / "plain.gpkg", NAMES)
    fewer = write_polygons(classes, tmp_path / "fewer.gpkg", NAMES, simplify=2 * metres)
    assert plain == fewer, "areas are those of the pixels"
    (stairs,), (smooth,) = rows(tmp_path / "plain.gpkg")[0], rows(tmp_path / "fewer.gpkg")[0]
    assert len(smooth.exterior.coords) < len(stairs.exterior.coords) / 4
    assert smooth.is_valid
    assert smooth.area == pytest.approx(stairs.area, rel=0.02)
    if not place:
        assert smooth.area == pytest.approx(pi * 80**2, rel=0.02)
        assert smooth.hausdorff_distance(stairs) <= 2.0
    assert {*smooth.exterior.coords} <= {*stairs.exterior.coords}


def test_a_rotated_raster(make: Make, tmp_path: Path) -> None:
    root = sqrt(3) / 2
    values = blank()
    values[5:8, 10:14] = 1
    turned = Affine(10 * root, 5, 500000, 5, -10 * root, 6650000)
    report = write_polygons(make(values, crs="EPSG:32633", transform=turned), tmp_path / "out.gpkg", NAMES)
    (block,), _ = rows(tmp_path / "out.gpkg")
    assert report.area == pytest.approx(1200, rel=1e-3)
    assert block.area == pytest.approx(1200)
    expected = [(500000 + 10 * root * c + 5 * r, 6650000 + 5 * c - 10 * root * r) for c, r in ((10, 5), (14, 8))]
    for corner in expected:
        assert block.exterior.distance(shapely.Point(corner)) < 1e-6


@pytest.mark.parametrize("profile", [{}, {"transform": Affine(7, 0, 100, 0, -7, 900)}])
def test_without_crs_coordinates_and_areas_are_pixels(make: Make, tmp_path: Path, profile: dict[str, Any]) -> None:
    values = blank()
    values[5:8, 10:14] = 1
    classes = make(values, **profile)
    for suffix in ("geojson", "gpkg"):
        assert write_polygons(classes, tmp_path / f"out.{suffix}", NAMES) == PolygonReport(1, 12)
        (block,), columns = rows(tmp_path / f"out.{suffix}")
        assert block.equals(shapely.box(10, 5, 14, 8))
        assert list(columns) == ["class", "name", "area_px"]
    assert "no CRS" in json.loads((tmp_path / "out.geojson").read_text())["notice"]
    info = pyogrio.read_info(tmp_path / "out.gpkg")
    assert "no CRS" in info["layer_metadata"]["DESCRIPTION"]
    assert info["crs"].startswith('LOCAL_CS["Undefined Cartesian SRS"')
    write_polygons(make(values, **UTM), tmp_path / "out.geojson", NAMES)
    assert "notice" not in json.loads((tmp_path / "out.geojson").read_text())


@pytest.mark.parametrize("place", [UTM, {}])
@pytest.mark.parametrize("value", [0, 255])
def test_no_polygons_make_a_valid_empty_file(make: Make, tmp_path: Path, place: dict[str, Any], value: int) -> None:
    classes = make(np.full((20, 30), value, dtype=np.uint8), **place)
    for suffix in ("geojson", "gpkg"):
        assert write_polygons(classes, tmp_path / f"out.{suffix}", NAMES) == PolygonReport(0, 0)
    assert features(tmp_path / "out.geojson") == []
    info = pyogrio.read_info(tmp_path / "out.gpkg")
    assert (info["features"], info["geometry_type"]) == (0, "Polygon")
    assert info["fields"].tolist() == ["class", "name", "area_m2" if place else "area_px"]
    assert info["dtypes"].tolist() == ["int32", "object", "float64"]


@pytest.mark.parametrize("name", ["out.geojson", "out.gpkg"])
@pytest.mark.parametrize("former", [None, b"old"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_nothing(
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    former: bytes | None,
    interruption: type[BaseException],
) -> None:
    classes, out = make(noise(0), **UTM), tmp_path / "out" / name
    out.parent.mkdir()
    if former:
        out.write_bytes(former)
    areas, batches, half = Geodesic.areas, [], []

    def interrupted(self: Geodesic, found: NDArray[Any]) -> NDArray[Any]:
        batches.append(len(found))
        if len(batches) == 6:
            half.extend(path.name for path in out.parent.rglob("*") if path.is_file() and path != out)
            raise interruption
        return areas(self, found)

    monkeypatch.setattr(tracing, "_SIDE", 10)
    monkeypatch.setattr(Geodesic, "areas", interrupted)
    with pytest.raises(interruption):
        write_polygons(classes, out, NAMES)
    assert name in half, "it was interrupted midway"
    assert [(path.name, path.read_bytes()) for path in out.parent.iterdir()] == ([(name, former)] if former else [])


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "shp", "fgb"])
def test_an_old_file_is_replaced_by_the_new(make: Make, tmp_path: Path, suffix: str) -> None:
    """With what other programs keep beside a Shapefile."""
    (tmp_path / "out.qix").touch()
    for seed in (0, 1):
        classes = make(noise(seed), **UTM)
        report = write_polygons(classes, tmp_path / f"out.{suffix}", NAMES)
        assert len(rows(tmp_path / f"out.{suffix}")[0]) == report.count
    beside = (
        ["out.cpg", "out.dbf", "out.prj", "out.shp", "out.shx"] if suffix == "shp" else [f"out.{suffix}", "out.qix"]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.tif", *beside]


@pytest.mark.parametrize("place", [UTM, {}])
@pytest.mark.parametrize("suffix", ["shp", "fgb"])
def test_other_formats_keep_the_crs_and_the_names(
    make: Make, tmp_path: Path, suffix: str, place: dict[str, Any]
) -> None:
    """Attributes of a Shapefile have ten letters."""
    values = blank()
    values[5:8, 10:14] = 1
    values[0, 0] = 2
    out, classes = tmp_path / f"changes.{suffix}", make(values, **place)
    shares = make(np.full_like(values, 40), "shares.tif", **place)
    report = write_polygons(classes, out, ["no", "bâti", "対"], shares=shares)
    info = pyogrio.read_info(out)
    assert (info["crs"], info["geometry_type"], info["encoding"]) == (place.get("crs"), "Polygon", "UTF-8")
    found, columns = rows(out)
    area, last = "area_m2" if place else "area_px", "probabilit" if suffix == "shp" else "probability"
    assert list(columns) == ["class", "name", area, last]
    assert sorted(columns["name"]) == ["bâti", "対"]
    assert set(columns[last]) == {0.4}
    block = found[columns["class"].tolist().index(1)]
    assert block.equals(shapely.box(500100, 6649920, 500140, 6649950) if place else shapely.box(10, 5, 14, 8))
    assert report.area == pytest.approx(columns[area].sum())
    assert write_polygons(make(blank(), **place), out, NAMES) == PolygonReport(0, 0)
    assert pyogrio.read_info(out, force_feature_count=True)["features"] == 0


def test_memory_does_not_grow_with_the_pixels(make: Make, tmp_path: Path) -> None:
    """36 million pixels, of which Python may hold a strip at a time; GDAL's own cache is bounded."""
    size = {"width": 6000, "height": 6000, "count": 1, "dtype": "uint8", "nodata": 255}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "sparse_ok": True}
    with rasterio.open(tmp_path / "large.tif", "w", driver="GTiff", **size, **tiles, **UTM) as file:
        file.write(np.ones((1, 600, 600), np.uint8), window=((3000, 3600), (3000, 3600)))
    write_polygons(tmp_path / "large.tif", tmp_path / "out.geojson", NAMES)
    tracemalloc.start()
    try:
        report = write_polygons(tmp_path / "large.tif", tmp_path / "out.geojson", NAMES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.count == 1
    assert peak < 4e7


def test_what_is_no_map_of_classes_is_told(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "out.geojson"
    (tmp_path / "text.tif").write_text("no raster")
    for classes, reason in (
        (tmp_path / "none.tif", r"no GeoTIFF: .*none\.tif"),
        (tmp_path / "text.tif", r"no GeoTIFF: .*text\.tif"),
        (
            make(np.zeros((3, 8, 8), np.uint8), "rgb.tif"),
            r"no map of classes: .*rgb\.tif \(bands of uint8, uint8, uint8",
        ),
        (make(np.zeros((8, 8), np.uint16), "deep.tif"), r"no map of classes: .*\(bands of uint16\)"),
        (make(blank() + np.uint8(7), "seven.tif"), r"classes without a name: .*\(7; there are 3 names"),
    ):
        with pytest.raises(FileFault, match=reason):
            write_polygons(classes, out, NAMES)
    assert not out.exists()


def test_a_damaged_map_is_told(make: Make, tmp_path: Path) -> None:
    """GDAL's tracing itself would end early and say nothing."""
    classes = make(noise(0, 600), **UTM, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    content = classes.read_bytes()
    half = len(content) // 2
    for damaged in (content[:half], content[:half] + bytes(4000) + content[half + 4000 :]):
        classes.write_bytes(damaged)
        with pytest.raises(FileFault, match=r"damaged GeoTIFF: .*map\.tif"):
            write_polygons(classes, tmp_path / "out.gpkg", NAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]


def test_a_crs_that_does_not_fit_is_told(make: Make, tmp_path: Path) -> None:
    classes = make(blank() + np.uint8(1), crs="EPSG:4326", transform=Affine(1, 0, 500000, 0, -1, 6650000))
    with pytest.raises(FileFault, match=r"CRS and georeferencing that do not fit: .*map\.tif"):
        write_polygons(classes, tmp_path / "out.gpkg", NAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]


def test_settings_and_names_are_checked(make: Make, tmp_path: Path) -> None:
    classes = make(blank())
    with pytest.raises(DataError, match=r"must end in \.geojson"):
        write_polygons(classes, tmp_path / "out.kml", NAMES)
    with pytest.raises(ConfigError, match="simplify must be 0 or more, got -1"):
        write_polygons(classes, tmp_path / "out.gpkg", NAMES, simplify=-1)
    with pytest.raises(ConfigError, match="simplify must be 0 or more, got nan"):
        write_polygons(classes, tmp_path / "out.gpkg", NAMES, simplify=float("nan"))


@pytest.mark.parametrize("library", ["rasterio", "shapely", "pyproj", "pyogrio"])
def test_a_missing_library_is_told(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    classes = make(blank())
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=f"need {library}, which is not installed.*pip install {library}"):
        write_polygons(classes, tmp_path / "out.gpkg", NAMES)
