from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from semikit.data.folders import image_files
from semikit.data.formats.images import read_image
from semikit.data.labeled_images import unlabeled_files
from semikit.data.loading.loader import StepLoader
from semikit.data.loading.streams import Stream
from semikit.errors import DataError, FileFault
from semikit.training.bad_files import BadFiles
from semikit.training.checkpoint import LAST, read_checkpoint, read_last
from tests.helpers import photos
from tests.helpers.processes import Server

Tried = Callable[..., None]
LENGTH = 40


class Reader:
    """Items are their numbers; those of `broken` cannot be read."""

    def __init__(self, *broken: int) -> None:
        self.broken = broken

    def __call__(self, stream: str, index: int, rng: np.random.Generator) -> tuple[int, float]:
        if index in self.broken:
            raise FileFault("unreadable or truncated image", f"{index}.png", "cut", "Replace it.")
        return index, float(rng.random())


def read(broken: tuple[int, ...], limit: int, workers: int = 0, positions: range | None = None, first: int = 0) -> Any:
    """The numbers of each step, and what was counted."""
    bad = BadFiles(limit)
    stream = Stream("unlabeled", LENGTH, 4, positions)
    loader = StepLoader([stream], Reader(*broken), 3, range(first, 20), workers, bad_files=bad)
    return [batch["unlabeled"][0].tolist() for batch in loader], bad


@pytest.mark.parametrize("workers", [1, 2])
def test_what_stands_in_does_not_depend_on_workers_or_processes(workers: int) -> None:
    plain, _ = read((), 0)
    numbers, bad = read((5, 17), 2)
    first_seen = [f"{n}.png" for step in plain for n in step]
    assert list(bad.found) == sorted(["5.png", "17.png"], key=first_seen.index)
    pairs = [pair for steps in zip(plain, numbers, strict=True) for pair in zip(*steps, strict=True)]
    assert all(before == after for before, after in pairs if before not in (5, 17)), "the others stay where they were"
    assert not {5, 17} & {n for step in numbers for n in step}
    spread, again = read((5, 17), 2, workers)
    assert spread == numbers
    assert again.found == bad.found
    halves = [read((5, 17), 2, 0, positions)[0] for positions in (range(2), range(2, 4))]
    assert [a + b for a, b in zip(*halves, strict=True)] == numbers
    assert read((5, 17), 2, 0, None, 7)[0] == numbers[7:]


@pytest.mark.parametrize("workers", [0, 1])
def test_one_more_than_allowed_ends_it(workers: int) -> None:
    with pytest.raises(DataError, match=r"3 files could not be read, more than train.max_bad_files=2:") as caught:
        read((1, 2, 3), 2, workers)
    assert all(f"{n}.png (cut)" in str(caught.value) for n in (1, 2, 3))
    with pytest.raises(FileFault, match=r"unreadable or truncated image: 1\.png \(cut\)\. Replace it"):
        read((1,), 0, workers)


def test_nothing_left_to_read() -> None:
    with pytest.raises(DataError, match="no image of the stream unlabeled can be read"):
        read(tuple(range(LENGTH)), 100)


def test_the_count_goes_on() -> None:
    bad = BadFiles(2)
    bad.restore({"a.png": "a is bad."})
    bad.add([("a.png", "a is bad."), ("b.png", "b is bad.")])
    assert bad.news() == [
        "unreadable file 2 of at most 2 (train.max_bad_files): b is bad. Another image stands in for it."
    ]
    assert bad.news() == []
    with pytest.raises(DataError, match="3 files could not be read"):
        bad.add([("c.png", "c is bad.")])
    assert list(bad.found) == ["a.png", "b.png"], "the one too many is met again when the run is resumed"


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Callable[..., Any]:
    """Starts a run on photographs of its own; the images are below `tmp_path / "data"`."""
    data = photos.write(tmp_path / "data")

    def start(*arguments: object) -> int:
        flags = ["--data", data, *photos.FLAGS, "--labels", "4", "--quiet", "--out", tmp_path / "run"]
        return server.start("train", "seg", *flags, "--save-every", "1", "--eval-every", "100000", *arguments)

    return start


def test_files_that_go_bad_in_the_middle(server: Server, run: Callable[..., int], tmp_path: Path, tried: Tried) -> None:
    """One vanishes, one is cut off, a mask too: each is named once; with one more the run stops and is resumed."""
    pid = run("--iterations", "100000", "train.max_bad_files=3")
    images, folder = tmp_path / "data/train/images", tmp_path / "run"
    server.wait_for(folder / "weights" / LAST, pid)
    (images / "train7.png").unlink()
    (images / "train6.png").write_bytes((images / "train6.png").read_bytes()[:100])
    labelled = (folder / "labeled.txt").read_text().split()
    (tmp_path / "data/train/masks" / f"{labelled[0]}.png").write_bytes(b"no image")
    log, end = folder / "log.txt", time.monotonic() + 60
    while log.read_text().count("unreadable file") < 3:
        assert server.wait(pid, 0.05) is None
        assert time.monotonic() < end
    (images / f"{labelled[1]}.png").unlink()
    ended = server.wait(pid)
    assert ended.code == 3, ended
    assert "4 files could not be read, more than train.max_bad_files=3" in ended.out
    names = ("train7.png", "train6.png", f"masks/{labelled[0]}.png", f"images/{labelled[1]}.png")
    assert all(name in ended.out for name in names)
    assert "Traceback" not in ended.out
    assert log.read_text().count("Another image stands in for it.") == 3
    state = read_checkpoint(folder / "weights" / LAST)
    assert len(state["bad_files"]) == 3
    assert f"at iteration {state['step']}; saved" in ended.out
    tried("files vanishing or going bad in the middle: named, counted, skipped up to the number, then exit 3", 4)


def test_the_results_name_bad_files(server: Server, run: Callable[..., int], tmp_path: Path, tried: Tried) -> None:
    path = tmp_path / "data/train/images/train7.png"
    path.write_bytes(path.read_bytes()[:300])
    ended = server.wait(run("--iterations", "4"))
    assert ended.code == 0, ended
    told = (tmp_path / "run/log.txt").read_text()
    assert told.count("unreadable file 1 of at most 10 (train.max_bad_files): unreadable or truncated image: ") == 1
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert [Path(file).name for file in results["bad_files"]] == ["train7.png"]
    tried("bad file from the beginning: named in the log and in results.json")


def test_a_killed_worker(server: Server, run: Callable[..., int], tmp_path: Path, tried: Tried) -> None:
    pid, folder = run("--iterations", "100000", "--workers", "2"), tmp_path / "run"
    server.wait_for(folder / "weights" / LAST, pid)
    workers = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    os.kill(workers[0], 9)
    ended = server.wait(pid)
    assert ended.code == 3, ended
    assert "a data worker died" in ended.out
    step = read_checkpoint(folder / "weights" / LAST)["step"]
    assert f"at iteration {step}; saved" in ended.out
    again = server.start("train", "seg", "--resume", folder, "--quiet")
    while read_last(folder / "weights")[0]["step"] <= step:
        assert server.wait(again, 0.05) is None
    server.kill(again)
    server.wait(again)
    tried("worker killed: exit 3 after a checkpoint, resumed")


def test_values_that_are_no_numbers(tmp_path: Path, tried: Tried) -> None:
    place = Affine(1, 0, 0, 0, -1, 9)
    values = np.random.default_rng(0).random((3, 20, 30)).astype(np.float32)
    values[0, 2, 3], values[1, 4, 5] = np.nan, np.inf
    profile = {"driver": "GTiff", "width": 30, "height": 20, "count": 3, "dtype": "float32", "transform": place}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:
        file.write(values)
    image, valid = read_image(tmp_path / "a.tif", scale=((0.0,), (1.0,)))
    assert valid is not None
    assert sorted(zip(*np.nonzero(~valid), strict=True)) == [(2, 3), (4, 5)]
    assert image[2, 3].tolist() == [0, 0, 0]
    tried("NaN and infinity in a raster: those pixels are not valid", 2)


def huge_png(path: Path, side: int = 30000) -> None:
    """Its head says side x side pixels; there is hardly anything behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def test_an_image_of_30000_pixels_a_side(tmp_path: Path, tried: Tried) -> None:
    huge_png(tmp_path / "large.png")
    with pytest.raises(FileFault, match=r"image too large: .*large\.png \(more than 178,956,970 pixels.*GeoTIFF"):
        read_image(tmp_path / "large.png")
    tried("PNG of 30,000 x 30,000 pixels: refused, the limit is stated")


def test_a_raster_of_30000_pixels_a_side_is_read_by_windows(server: Server, tmp_path: Path, tried: Tried) -> None:
    place = Affine(1, 0, 0, 0, -1, 9)
    data = photos.write(tmp_path / "data")
    profile = {"driver": "GTiff", "width": 30000, "height": 30000, "count": 3, "dtype": "uint8"}
    profile |= {"SPARSE_OK": True, "transform": place, "tiled": True, "compress": "deflate"}
    pool = tmp_path / "pool"
    pool.mkdir()
    with rasterio.open(pool / "large.tif", "w", **profile):
        pass
    flags = ["--data", data, *photos.FLAGS, "--labels", "4", "--quiet", "--iterations", "4", "--unlabeled", pool]
    ended = server.run("train", "seg", *flags, "--out", tmp_path / "run", memory=str(tmp_path / "memory"))
    assert ended.code == 0, ended
    assert "unlabeled-1/large" in (tmp_path / "run/unlabeled.txt").read_text()
    grown = int((tmp_path / "memory").read_text())
    assert grown < 600, f"{grown} MiB; the whole would be 2575 MiB"
    tried("GeoTIFF of 30,000 x 30,000 pixels: trained on by windows")


def test_links_in_a_circle(tmp_path: Path, tried: Tried) -> None:
    folder = tmp_path / "images"
    photos.save(folder / "a/one.png", np.zeros((4, 4, 3)))
    for name in ("circle", "again", "a/up"):
        (folder / name).symlink_to(folder, target_is_directory=True)
    assert list(image_files(folder, "train")) == ["a/one"]
    assert list(unlabeled_files(folder, "train").names) == ["a/one"]
    tried("links of folders in a circle: not followed", 2)


def test_a_file_that_is_a_link_to_itself(server: Server, run: Callable[..., int], tmp_path: Path, tried: Tried) -> None:
    path = tmp_path / "data/train/images/train7.png"
    path.unlink()
    path.symlink_to(path)
    ended = server.wait(run("--iterations", "2"))
    assert ended.code == 2, ended
    assert "train7.png" in ended.out
    assert "Traceback" not in ended.out
    tried("file that is a link to itself: named, no traceback")


@pytest.mark.parametrize("name", ["façade, № 1  日本語"])
def test_names_with_spaces_and_letters_of_all_languages(
    server: Server, tmp_path: Path, tried: Tried, name: str
) -> None:
    data = photos.write(tmp_path / f"data {name}")
    for part in ("train/images", "train/masks", "val/images", "val/masks", "test/images", "test/masks"):
        for path in sorted((data.parent / part).iterdir()):
            path.rename(path.with_name(f"{name} {path.name}"))
    folder, out = tmp_path / f"run {name}", tmp_path / f"out {name}"
    flags = ["--data", data, *photos.FLAGS, "--labels", "4", "--quiet", "--iterations", "2", "--out", folder]
    steps = [
        ["train", "seg", *flags],
        ["evaluate", folder],
        ["predict", folder, data.parent / "test/images", "-o", out],
    ]
    for arguments in steps:
        ended = server.run(*arguments)
        assert ended.code == 0, ended
    assert all(line.startswith(f"{name} train") for line in (folder / "labeled.txt").read_text("utf-8").splitlines())
    assert sorted(path.name for path in out.iterdir()) == [f"{name} test0.png", f"{name} test1.png"]
    tried("names with spaces and letters of other languages through train, evaluate, predict")


@pytest.mark.parametrize("name", [b"line\nbreak.png", b"no \xff text.png", b"bell\x07.png"])
def test_names_that_cannot_stand_in_a_list(
    server: Server, tmp_path: Path, whole: Any, tried: Tried, name: bytes
) -> None:
    data = photos.write(tmp_path / "data")
    path = data.parent / "train/images" / os.fsdecode(name)
    path.write_bytes((data.parent / "train/images/train0.png").read_bytes())
    flags = ["--data", data, *photos.FLAGS, "--labels", "4", "--iterations", "1", "--out", tmp_path / "run"]
    predict = ["predict", whole.folder, data.parent / "train/images", "-o", tmp_path / "out"]
    for code, arguments in ((2, ["train", "seg", *flags]), (0, predict)):
        ended = server.run(*arguments)
        assert ended.code == code, ended
        assert "could not stand in a list of names. Rename it." in " ".join(ended.out.split())
        assert "Traceback" not in ended.out
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="Rename it"):
        unlabeled_files(data.parent / "train/images", "train")
    tried("names with line breaks, control characters or bytes that are no text: refused, of predictions named")


def test_a_bad_file_asks_the_loader_for_nothing_random() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    read((5,), 1)
    assert torch.equal(before, torch.get_rng_state())
