"""Rasters by names that only GDAL knows: in archives, on servers, parts of files that hold several."""

from __future__ import annotations

import pickle
import socket
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from semikit.api import polygons
from semikit.errors import DataError, InputError
from semikit.inference.predict_classes import ClassPredict, predict_classes
from semikit.raster import reading
from semikit.raster.names import RasterName, raster_name
from semikit.run.data_check import check_data
from tests.helpers import georasters
from tests.helpers.range_server import BUSY, serving
from tests.tasks.test_maps import INFERENCE, Case, blocks, names, opened
from tests.tasks.test_maps import case as case
from tests.tasks.test_predict_many import Counting


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("/vsizip/scenes.zip/in/a.tif", "a"),
        ("/vsizip//abs/scenes.zip", "scenes.zip"),
        ("zip://scenes.zip!a.tif", "a"),
        ("https://host:80/x/scene.2.TIF?token=a/b&c", "scene.2"),
        ("netcdf:/data/a.nc:ndvi", "a.nc-ndvi"),
        ('NETCDF:"a.nc":ndvi', "NETCDF-a.nc-ndvi"),
        ('HDF5:"a.h5"://group/values', "values"),
        ("GTIFF_DIR:2:a.tif", "GTIFF_DIR-2-a"),
        ("https://host/?", "host"),
        ("s3://", "s3"),
    ],
)
def test_what_results_are_called(name: str, stem: str) -> None:
    found = raster_name(name)
    assert found is not None
    assert (str(found), found.stem) == (name, stem)
    assert str(pickle.loads(pickle.dumps(found))) == name


@pytest.mark.parametrize("name", ["a.tif", "folder/*.tif", "C:/a.tif", "", "none", "/data/vsizip/a.tif", "a:b"])
def test_what_is_no_such_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a:b").touch() if name == "a:b" else None
    assert raster_name(name) is None or name == "a:b"


class Sources:
    """The rasters of a case by other names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def zipped(self, paths: list[Path], name: str) -> list[Any]:
        with zipfile.ZipFile(self.folder / "scenes.zip", "w") as file:
            for path in paths:
                file.write(path, f"{path.parent.name}/{path.name}")
        return [name.format(zip=self.folder / "scenes.zip", inner=f"{path.parent.name}/{path.name}") for path in paths]


@pytest.mark.parametrize("name", ["/vsizip/{zip}/{inner}", "zip://{zip}!{inner}", "/vsizip/{{{zip}}}/{inner}"])
def test_in_an_archive(case: Case, tmp_path: Path, name: str) -> None:
    classes = blocks(case)
    sources = Sources(tmp_path).zipped(case.raster(classes), name)
    done = case.predict(sources, tmp_path / "out", areas=True)
    assert (done.count, names(tmp_path / "out")) == (1, ["a.tif", "a.tif.aux.xml", "areas.csv"])
    np.testing.assert_array_equal(opened(tmp_path / "out/a.tif"), classes)
    with rasterio.open(tmp_path / "out/a.tif") as file:
        assert file.crs.to_epsg() == 32633


def test_parts_of_files(tmp_path: Path) -> None:
    case = Case("seg", tmp_path)
    classes = blocks(case, empty=0)
    (path,) = case.raster(classes)
    case.predict([f"GTIFF_DIR:1:{path}"], tmp_path / "out")
    np.testing.assert_array_equal(opened(tmp_path / "out/a.tif"), classes)
    with pytest.raises(InputError, match="is one of the images to predict"):
        case.predict([f"GTIFF_DIR:1:{path}"], path)
    container = path.with_suffix(".nc")
    rasterio.shutil.copy(path, container, driver="netCDF")
    with pytest.raises(
        DataError,
        match=rf"cannot read: .*a\.nc \(it has no band of its own, only subdatasets: netcdf:{container}:Band1, ",
    ):
        case.predict([container], tmp_path / "nc")
    parts = [f"netcdf:{container}:Band{k}" for k in (1, 2, 3)]
    case.predict([parts[0]], tmp_path / "nc", bands=(1, 1, 1))
    np.testing.assert_array_equal(opened(tmp_path / "nc/a.nc-Band1.tif"), classes)


def large(case: Case) -> list[Path]:
    """Rasters of 1536 x 1536 pixels in tiles of 128, which do not compress."""
    rng = np.random.default_rng(0)
    noise = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": None}
    made = []
    for path in case.raster(np.zeros((8, 8), np.uint8)):
        values = rng.integers(1, 255, (3, 1536, 1536)).astype(np.uint8)
        made.append(georasters.save(path, values, **noise))
    return made


def aoi(tmp_path: Path) -> Path:
    """A square of 100 pixels in tiles 3 and 4."""
    west, north = 400000.0 + 4500, 5800000.0 - 4500
    ring = [[west, north], [west + 1000, north], [west + 1000, north - 1000], [west, north - 1000], [west, north]]
    text = str(ring)
    crs = '"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}'
    shape = f'{{"type": "Polygon", "coordinates": [{text}]}}'
    feature = f'{{"type": "Feature", "properties": {{}}, "geometry": {shape}}}'
    (tmp_path / "aoi.geojson").write_text(f'{{"type": "FeatureCollection", {crs}, "features": [{feature}]}}')
    return tmp_path / "aoi.geojson"


def test_of_a_server_only_windows_are_read(case: Case, tmp_path: Path) -> None:
    paths = large(case)
    size = sum(path.stat().st_size for path in paths)
    case.predict(paths, tmp_path / "here", aoi=aoi(tmp_path), tile=64)
    with serving(tmp_path) as server:
        sources = [f"{server.address}/{path.parent.name}/{path.name}?key=1" for path in paths]
        done = case.predict(sources, tmp_path / "out", aoi=aoi(tmp_path), tile=64)
        assert done.count == 1
        served, asked = server.counts()
        assert served < size / 6
        assert not [path for path in asked if path.endswith("/")], "folders are not listed"
    np.testing.assert_array_equal(opened(tmp_path / "out/a.tif"), opened(tmp_path / "here/a.tif"))


def test_all_of_a_raster_on_a_server_is_read_about_once(tmp_path: Path) -> None:
    case = Case("seg", tmp_path)
    (path,) = large(case)
    with serving(tmp_path) as server:
        case.predict([f"/vsicurl/{server.address}/in/{path.name}"], tmp_path / "map.tif", tile=128)
        served, _ = server.counts()
        assert served < 2 * path.stat().st_size
    case.predict([path], tmp_path / "here.tif", tile=128)
    np.testing.assert_array_equal(opened(tmp_path / "map.tif"), opened(tmp_path / "here.tif"))


@pytest.mark.parametrize(
    "name", ["/vsizip/none.zip/a.tif", "netcdf:none.nc:a", "nodriver:a", "gs://none", "s3://none/a.tif"]
)
def test_a_name_of_nothing(case: Case, tmp_path: Path, name: str) -> None:
    sources: list[Any] = [name, *case.raster(blocks(case))][: len(case.folders)]
    with pytest.raises(DataError, match=rf"raster that GDAL cannot read: {name} \(.*rio info NAME"):
        case.predict(sources, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.tif", "not recognized as being in a supported file format"),
        ("a.png", "cannot identify image file"),
        (
            "/vsizip/none.zip/a.tif",
            "does not exist in the file system, and is not recognized as a supported dataset name",
        ),
    ],
)
def test_reasons_are_said_without_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if not name.startswith("/"):
        Path(name).write_bytes(b"no image")
    with pytest.raises(DataError, match=rf"{name} \({reason}\)"):
        Case("seg", tmp_path).predict([name], tmp_path / "out")


def test_polygons_of_a_map_on_a_server(tmp_path: Path) -> None:
    case = Case("seg", tmp_path)
    case.predict(case.raster(blocks(case)), tmp_path / "in/map.tif")
    polygons(tmp_path / "in/map.tif", out=tmp_path / "here.geojson")
    with serving(tmp_path) as server:
        polygons(f"{server.address}/in/map.tif", out=tmp_path / "there.geojson")
        with pytest.raises(DataError, match=r"no map: http://127.*/none\.tif \(HTTP response code: 404\)"):
            polygons(f"{server.address}/none.tif", out=tmp_path / "none.geojson")
        path = case.raster(blocks(case))[0].with_suffix(".txt")
        path.write_text("no image")
        with pytest.raises(DataError, match=r"cannot read: http://127.*txt \(not recognized as .*parts of files"):
            case.predict([f"{server.address}/in/{path.name}"], tmp_path / "out")
    assert (tmp_path / "there.geojson").read_bytes() == (tmp_path / "here.geojson").read_bytes()


def test_an_archive_is_read_by_the_names_in_it(case: Case, tmp_path: Path) -> None:
    Path(tmp_path / "scenes.zip").write_bytes(b"PK")
    sources: list[Any] = [tmp_path / "scenes.zip", *case.raster(blocks(case))][: len(case.folders)]
    with pytest.raises(InputError, match=rf"is an archive. .*/vsizip/{tmp_path}/scenes\.zip/"):
        case.predict(sources, tmp_path / "out")


def test_servers_that_do_not_have_it_or_do_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("seg", tmp_path)
    with serving(tmp_path) as server, pytest.raises(DataError, match=r"cannot read: http.*none\.tif .*404"):
        case.predict([f"{server.address}/none.tif"], tmp_path / "out")
    monkeypatch.setitem(reading._SERVERS, "GDAL_HTTP_LOW_SPEED_TIME", 1)
    monkeypatch.setitem(reading._SERVERS, "GDAL_HTTP_MAX_RETRY", 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(DataError, match="raster that GDAL cannot read: http"):
            case.predict([f"http://127.0.0.1:{silent.getsockname()[1]}/a.tif"], tmp_path / "out")
        assert time.monotonic() - begun < 20


def test_a_server_that_is_busy_is_asked_again_soon(tmp_path: Path) -> None:
    begun = time.monotonic()
    with serving(tmp_path) as server:
        with pytest.raises(DataError, match=r"cannot read: http.*busy\.tif .*503"):
            Case("seg", tmp_path).predict([f"{server.address}/{BUSY}"], tmp_path / "out")
        assert len(server.counts()[1]) > 1
    assert time.monotonic() - begun < 25


def test_a_single_raster_is_not_gone_on_with(tmp_path: Path) -> None:
    case = Case("seg", tmp_path)
    sources = Sources(tmp_path).zipped(case.raster(blocks(case)), "/vsizip/{zip}/{inner}")
    with pytest.raises(InputError, match="--resume goes on with a prediction of many images"):
        case.predict(sources, tmp_path / "out", resume=True)


def test_a_name_is_a_path_whose_text_stays() -> None:
    name = RasterName("https://host//a.tif")
    assert (str(name), str(Path("https://host//a.tif"))) == ("https://host//a.tif", "https:/host/a.tif")


@pytest.mark.parametrize("place", ["/vsizip/scenes.zip", "https://host/scenes", "/vsicurl/https://host/{stem}.tif"])
def test_data_sets_are_read_from_folders(tmp_path: Path, place: str) -> None:
    (tmp_path / "data.yaml").write_text(f"train: {{images: '{place}', masks: m}}\nval: 0.5\nclasses: [dark, bright]\n")
    with pytest.raises(DataError, match=r"no such folder: .* Data sets are read from folders: unpack or download it"):
        check_data(tmp_path / "data.yaml", "seg")


def test_the_class_of_a_raster_in_an_archive(tmp_path: Path) -> None:
    path = georasters.save(tmp_path / "a.tif", np.full((3, 28, 28), 255, np.uint8))
    (source,) = Sources(tmp_path).zipped([path], "/vsizip/{zip}/{inner}")
    meta = {"class_names": ["sky", "road", "car"], "size": None, "side": (28, 28), "evaluate": {"batch": 2}}
    out = tmp_path / "classes.csv"
    predict_classes([Counting()], meta, [source], out, ClassPredict(), INFERENCE, lambda *at: None)
    assert out.read_text().splitlines()[1].startswith(f"{source},")
