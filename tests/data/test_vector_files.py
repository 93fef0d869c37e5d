"""Files that are written whole or not at all; what is in them is tested with the polygons."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from semikit.errors import DataError, RunError
from semikit.raster.vectors import check_destination, replacing


def test_what_is_written_replaces_the_file(tmp_path: Path) -> None:
    out = tmp_path / "out.geojson"
    out.write_text("old")
    with replacing(out) as unfinished:
        unfinished.write_text("new")
        assert unfinished.name == "out.geojson"
        assert out.read_text() == "old"
    assert out.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out.geojson"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, DataError, RunError, MemoryError])
def test_an_exception_leaves_the_former_file_alone(tmp_path: Path, interruption: type[BaseException]) -> None:
    out = tmp_path / "out.gpkg"
    out.write_text("old")

    def write() -> None:
        with replacing(out) as unfinished:
            unfinished.write_text("half")
            Path(f"{unfinished}-journal").write_text("of the database")
            raise interruption("of the map")

    with pytest.raises(interruption, match="of the map"):
        write()
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.gpkg"]


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    def write() -> None:
        with replacing(tmp_path / "out.geojson") as unfinished:
            unfinished.write_text("all")

    with pytest.raises(RunError, match=r"out\.geojson cannot be written: .*No space left.*Make room"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["out.kml", "out", "out.geojson.zip"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"must end in \.geojson, \.json, \.gpkg, \.shp or \.fgb"):
        check_destination(tmp_path / name, tmp_path / "map.tif")


def test_places_that_cannot_hold_the_file_are_refused(tmp_path: Path) -> None:
    classes = tmp_path / "map.json"
    classes.touch()
    (tmp_path / "folder.gpkg").mkdir()
    (tmp_path / "link.geojson").symlink_to(classes)
    for name, reason in (
        ("map.json", "is the map they are made from"),
        ("link.geojson", "is the map they are made from"),
        ("folder.gpkg", "is a folder"),
        ("none/out.gpkg", "there is no folder .*none"),
        ("map.json/out.gpkg", r"there is no folder .*map\.json"),
    ):
        with pytest.raises(DataError, match=reason):
            check_destination(tmp_path / name, classes)
    for name in ("out.GPKG", "out.json", "other.GeoJSON"):
        check_destination(tmp_path / name, classes)


def test_a_database_in_use_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.gpkg").touch()
    (tmp_path / "out.gpkg-wal").touch()
    with pytest.raises(DataError, match=r"open in another program, as .*out\.gpkg-wal shows"):
        check_destination(tmp_path / "out.gpkg", tmp_path / "map.tif")
