"""Several processes predict what one does: files are shared, and the windows of large rasters; they end together."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from semikit.cli.app import run
from semikit.inference.journal import JOURNAL
from semikit.inference.sharing import Shares
from tests.helpers import georasters, icons, pairs, photos
from tests.helpers.processes import Server
from tests.training.test_torchrun import process_of

Trained = Callable[[str], Path]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="session")
def run_of(trained: Path, pair_data: Path, icon_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The run folder of a task. That of cd predicts windows one by one."""
    made = {"seg": trained}

    def folder(task: str) -> Path:
        if task not in made:
            made[task] = tmp_path_factory.mktemp("runs") / task
            module, data, more = {
                "cd": (pairs, pair_data, ["4", "evaluate.batch=1"]),
                "cls": (icons, icon_data, ["6"]),
            }[task]
            flags = [*module.FLAGS, "--labels", *more, "--iterations", "2", "--eval-every", "2", "optimizer.lr=0.01"]
            assert run(["train", task, "--data", str(data), *flags, "--out", str(made[task]), "--quiet"]) == 0
        return made[task]

    return folder


def raster(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    """Blocks of the colours that the networks learned, some of them without data."""
    rng = np.random.default_rng(seed)
    colours = np.array([[60, 120, 220], [120, 110, 100], [200, 60, 50]])
    rows, columns = (-(-side // 8) for side in size)
    values = colours[rng.integers(0, 3, (rows, columns))].repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    values = np.clip(values + rng.integers(-30, 31, values.shape), 1, 255)
    values[:9, :40] = 0
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32}
    return georasters.save(path, np.moveaxis(values, -1, 0).astype(np.uint8), nodata=0, **tiles)


def sources(task: str, folder: Path, names: dict[str, tuple[int, int]]) -> list[Path]:
    """A folder of rasters by name and size, of cd two."""
    dates = ["in"] if task == "seg" else ["A", "B"]
    for seed, (name, size) in enumerate(names.items()):
        for number, date in enumerate(dates):
            raster(folder / date / f"{name}.tif", size, 10 * seed + number)
    return [folder / date for date in dates]


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder but the journal, which is in the order of the time; there it is called `folder`."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: text.replace(str(folder).encode(), b"folder") for name, text in files.items() if name != JOURNAL}


def predict(server: Server, count: int, out: Path, *arguments: object, code: int = 0) -> str:
    """What processes write that all end with a code."""
    found = server.run_together(count, "predict", *arguments, "-o", out, "--device", "cpu")
    assert [one.code for one in found] == [code] * count, found
    assert "Traceback" not in "".join(one.out for one in found)
    return "".join(one.out for one in found)


def test_who_does_what() -> None:
    pixels = {"a": 10, "b": 100, "c": 9, "d": 8, "e": 90}
    every, none = dict.fromkeys(pixels, True), dict.fromkeys(pixels, False)
    assert Shares.of(pixels, every, 1) == Shares((), (tuple(pixels),))
    assert Shares.of(pixels, every, 2) == Shares((), (("b", "c"), ("a", "d", "e")))
    assert Shares.of(pixels, every, 4) == Shares(("b", "e"), (("a",), ("c",), ("d",), ()))
    assert Shares.of(pixels, none, 4) == Shares((), (("b",), ("e",), ("a",), ("c", "d")))
    assert Shares.of({"a": 5}, {"a": True}, 3) == Shares(("a",), ((), (), ()))
    assert Shares.of({}, {}, 2) == Shares((), ((), ()))


@pytest.mark.parametrize("task", ["seg", "cd"])
def test_a_folder(task: str, run_of: Trained, server: Server, tmp_path: Path) -> None:
    """A large raster for both, small ones for each, some of which cannot be read: the files of one process."""
    small = dict.fromkeys("abcd", (40, 48))
    given = sources(task, tmp_path / "data", {**small, "large": (150, 130), "cut": (48, 64), "no": (8, 8)})
    (given[-1] / "no.tif").write_bytes(b"no raster")
    cut = given[-1] / "cut.tif"
    cut.write_bytes(cut.read_bytes()[:-3000])
    said = []
    for count in (1, 2):
        out = tmp_path / f"out{count}"
        flags = ["--polygons", out / "shapes", "--areas", "--legend", "--confidence", "--probability", "--overlay"]
        said.append(predict(server, count, out, run_of(task), *given, *flags).replace(str(out), "folder"))
    assert said[1] == said[0]
    assert "2 of 7 not predicted" in said[0]
    one, two = (contents(tmp_path / f"out{count}") for count in (1, 2))
    assert sorted(one) == sorted(two)
    assert one["errors.csv"].count(b"\n") == 3
    unequal = [name for name in one if one[name] != two[name]]
    assert task == "seg" or not unequal, "windows were predicted one by one"
    assert all("large" in name or name == "areas.csv" for name in unequal)
    for name in ("large.tif", "large-confidence.tif", "large-probability.tif"):
        first, second = (rasterio.open(tmp_path / f"out{count}" / name).read().astype(int) for count in (1, 2))
        assert (first == 255).sum() == (second == 255).sum() > 0
        if name == "large.tif":
            assert (first != second).mean() <= 1e-3, "batches of other windows round otherwise"
            assert len(np.unique(first)) > 1 + (task == "seg")
        else:
            assert abs(first - second).max() <= 1


def test_one_raster_by_three(run_of: Trained, server: Server, tmp_path: Path) -> None:
    given = sources("cd", tmp_path, {"a": (100, 70)})
    files = [folder / "a.tif" for folder in given]
    area = tmp_path / "area.geojson"
    area.write_text(
        '{"type": "Polygon", "crs": {"type": "name", "properties": {"name": "EPSG:32633"}}, "coordinates": '
        "[[[400050, 5799950], [400600, 5799950], [400600, 5799100], [400050, 5799950]]]}"
    )
    flags = [
        "--aoi",
        area,
        "--tta",
        "flip",
        "--ensemble",
        run_of("cd"),
        "--min-area",
        900,
        "--threshold",
        0.5,
        "--areas",
    ]
    found = []
    for count in (1, 3):
        out = tmp_path / f"out{count}"
        out.mkdir()
        predict(
            server, count, out / "map.tif", run_of("cd"), *files, *flags, "--polygons", out / "map.gpkg", "--overlay"
        )
        (out / "map.gpkg").unlink()  # holds the time
        found.append(contents(out))
    assert found[0] == found[1]
    assert sorted(found[0]) == ["map-areas.csv", "map-overlay.tif", "map.tif", "map.tif.aux.xml"]


def test_classes(run_of: Trained, server: Server, icon_data: Path, tmp_path: Path) -> None:
    given = tmp_path / "in"
    for number, path in enumerate(sorted((icon_data.parent / "train").rglob("*.png"))):
        (given / f"{number}.png").parent.mkdir(exist_ok=True)
        (given / f"{number}.png").write_bytes(path.read_bytes() if number not in (3, 17) else b"no image")
    for count in (1, 2):
        said = predict(server, count, tmp_path / f"{count}/t.csv", run_of("cls"), given, "--probability")
        assert said.count("2 of 24 not predicted") == said.count("22 images predicted") == 1
    for name in ("t.csv", "errors.csv"):
        one, two = ((tmp_path / f"{count}" / name).read_text().splitlines() for count in (1, 2))
        assert [line.split(",")[:2] for line in one] == [line.split(",")[:2] for line in two]
        for first, second in zip(csv.reader(one[1:]), csv.reader(two[1:]), strict=True):
            shares = [np.array([float(value) for value in row[2:]]) for row in (first, second)]
            assert np.allclose(*shares, atol=2e-4), "batches without the files that cannot be read round otherwise"


def test_wrong_input_is_said_once(run_of: Trained, server: Server, tmp_path: Path) -> None:
    """Also where another process than the first meets it: of one image the fault ends the prediction."""
    (file,) = sources("seg", tmp_path, {"a": (100, 70)})
    path = file / "a.tif"
    said = predict(server, 2, tmp_path / "out", run_of("seg"), path, "--tile", "30", code=2)
    assert (said.count("error:"), said.count("not a multiple of the patch")) == (1, 1)
    path.write_bytes(path.read_bytes()[:-5000])
    said = predict(server, 2, tmp_path / "out", run_of("seg"), path, code=2)
    assert (said.count("error:"), said.count(str(path))) == (1, 1)
    assert not (tmp_path / "out").exists()


def test_what_a_process_fails_with_ends_all(run_of: Trained, server: Server, tmp_path: Path) -> None:
    """The disk of the second one is full; it is said once, what is done is kept, and any number go on."""
    given = tmp_path / "in"
    for k in range(12):
        photos.save(given / f"{k:02}.png", np.full((20, 24, 3), 20 * k))
    full = {1: {"error": ["replace", 3, errno.ENOSPC]}}
    arguments = ("predict", run_of("seg"), given, "-o", tmp_path / "out", "--device", "cpu")
    found = server.run_together(2, *arguments, plans=full)
    assert [one.code for one in found] == [3, 3], found
    assert "could not write" in found[0].out
    assert (found[0].out.count("error:"), found[1].out) == (1, "")
    assert len((tmp_path / "out" / JOURNAL).read_text().splitlines()) >= 3
    said = predict(server, 3, tmp_path / "out", run_of("seg"), given, "--resume")
    assert "of 12 images were predicted before and are kept" in said
    assert len(list((tmp_path / "out").glob("*.png"))) == 12


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all_and_any_number_go_on(
    run_of: Trained, server: Server, tmp_path: Path, rank: int
) -> None:
    given, out = tmp_path / "in", tmp_path / "out"
    first = photos.save(given / "000.png", np.random.default_rng(1).integers(0, 255, (300, 300, 3)))
    for k in range(1, 500):
        shutil.copy(first, given / f"{k:03}.png")
    launcher = server.start("predict", run_of("seg"), given, "-o", out, "--device", "cpu", "--gpus", "2")
    server.wait_for(out / "003.png", launcher)
    os.kill(process_of(rank, out), signal.SIGKILL)
    start = time.monotonic()
    ended = server.ended(launcher)
    assert time.monotonic() - start < 60, "the machine may be busy"
    assert (ended.code, "Traceback" in ended.out) == (3, False), ended.out
    assert f"process {rank} of 2 was killed by signal 9" in ended.out
    assert ended.out.count("what is predicted is kept; the same command with --resume goes on") == 1
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    for path in [*given.glob("*.png")]:
        if path.name not in {one.name for one in before} and path.name != "499.png":
            path.unlink()
    left = len({path.name for path in given.iterdir()} - {path.name for path in before})
    said = predict(server, 3, out, run_of("seg"), given, "--resume")
    kept = sum(path.stat().st_mtime_ns == then for path, then in before.items())
    assert kept >= len(before) - 2 > 0, "but for those between map and journal"
    assert f"{len(before) + left} images were predicted before" in said.replace(f"{kept} of ", "")


@pytest.mark.long
def test_torchrun(run_of: Trained, server: Server, tmp_path: Path) -> None:
    (given,) = sources("seg", tmp_path, {"a": (60, 70), "b": (60, 70)})
    torchrun: list[Any] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "semikit"]
    ended = server.run(*torchrun, "predict", run_of("seg"), given, "-o", tmp_path / "out", "--device", "cpu")
    assert (ended.code, ended.out.count("2 images predicted")) == (0, 1), ended.out
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tif")) == ["a.tif", "b.tif"]
