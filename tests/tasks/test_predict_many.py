"""Prediction of many files: one that cannot be read does not end it, nothing is passed over in silence, and results
never lie among the images.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from semikit.core.task import Inference, Predicted
from semikit.errors import DataError, FileFault, InputError
from semikit.inference.journal import JOURNAL
from semikit.inference.many_files import caught, find_sources
from semikit.inference.map_files import MapPredict
from semikit.inference.predict_classes import ClassPredict, predict_classes
from semikit.inference.predict_maps import predict_maps
from semikit.inference.scenes import DatePairs, SingleDates
from semikit.inference.windows import EvaluateSettings, read_ahead
from tests.helpers import georasters, photos, stored
from tests.tasks.conftest import Pointwise
from tests.tasks.test_predict_pairs import Difference

INFERENCE = Inference(torch.device("cpu"), nullcontext)
BROKEN = b"not a photo"


class Counting(Pointwise):
    """The class of an image is that of its mean."""

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(images).mean((-2, -1))


def predicted(
    task: str,
    sources: Path | tuple[Path, ...],
    out: Path,
    progress: Any = None,
    fail_fast: bool = False,
    orientation: str | None = None,
    **options: Any,
) -> Predicted:
    """A prediction of a task with a small network; `out` is a folder."""
    given = [str(source) for source in (sources if isinstance(sources, tuple) else (sources,))]
    told = progress or (lambda what, done, total: None)
    meta = {"class_names": ["sky", "road", "car"], "crop": 14, "bands": None, "scale": None, "size": None}
    meta |= {"side": (28, 28), "evaluate": EvaluateSettings().model_dump(mode="json")}
    meta |= {} if orientation is None else {"orientation": orientation}
    if task == "cls":
        options, meta = ClassPredict(fail_fast=fail_fast), {**meta, "evaluate": {"batch": 2}}
        return predict_classes([Counting()], meta, given, out / "classes.csv", options, INFERENCE, told)
    chosen = MapPredict(fail_fast=fail_fast, **options)
    if task == "seg":
        return predict_maps([Pointwise()], meta, SingleDates.of(meta), given, out, chosen, INFERENCE, told)
    given, meta = given * (2 // len(given)), {**meta, "class_names": ["unchanged", "changed"]}
    return predict_maps([Difference()], meta, DatePairs.of(meta), given, out, chosen, INFERENCE, told)


def images(folder: Path, count: int = 6) -> Path:
    for k in range(count):
        photos.save(folder / f"{k}.png", np.full((28, 28, 3), 40 * k))
    return folder


def errors(folder: Path) -> list[list[str]]:
    with (folder / "errors.csv").open(newline="") as file:
        return list(csv.reader(file))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != JOURNAL)


@pytest.mark.parametrize("task", ["seg", "cls", "cd"])
class TestOneBadFile:
    def test_the_others_are_predicted(self, tmp_path: Path, task: str) -> None:
        source = images(tmp_path / "in")
        for bad in ("0.png", "3.png"):
            (source / bad).write_bytes(BROKEN)
        told: list[tuple[str, int, int]] = []
        done = predicted(task, source, tmp_path / "out", lambda *at: told.append(at))
        assert done.count == 4
        assert [Path(fault.file).name for fault in done.failed] == ["0.png", "3.png"]
        assert any("2 of 6 not predicted, unreadable or truncated image: " in notice for notice in done.notices)
        assert not any("_io." in notice for notice in done.notices)  # what Python calls an open file
        head, *rows = errors(tmp_path / "out")
        assert head == ["file", "error"]
        assert [row[0] for row in rows] == [str(source / "0.png"), str(source / "3.png")]
        assert all(row[1].startswith("unreadable or truncated image: ") for row in rows)
        assert told[-1][1] == told[-1][2]
        if task == "cls":
            with (tmp_path / "out/classes.csv").open(newline="") as file:
                assert [Path(row["file"]).stem for row in csv.DictReader(file)] == ["1", "2", "4", "5"]
        else:
            assert names(tmp_path / "out") == ["1.png", "2.png", "4.png", "5.png", "errors.csv"]

    def test_the_list_of_an_earlier_prediction_does_not_stay(self, tmp_path: Path, task: str) -> None:
        source = images(tmp_path / "in", 2)
        (source / "1.png").write_bytes(BROKEN)
        predicted(task, source, tmp_path / "out")
        assert len(errors(tmp_path / "out")) == 2
        predicted(task, source, tmp_path / "out")
        assert len(errors(tmp_path / "out")) == 2
        images(source, 2)
        assert not predicted(task, source, tmp_path / "out").failed
        assert not (tmp_path / "out/errors.csv").exists()

    def test_a_file_of_that_name_that_is_none_is_not_touched(self, tmp_path: Path, task: str) -> None:
        source = images(tmp_path / "in", 2)
        (tmp_path / "out").mkdir()
        (tmp_path / "out/errors.csv").write_text("mine\n")
        with pytest.raises(InputError, match=r"errors\.csv is no list of an earlier prediction"):
            predicted(task, source, tmp_path / "out")
        assert (tmp_path / "out/errors.csv").read_text() == "mine\n"

    def test_all_that_fail_are_an_error(self, tmp_path: Path, task: str) -> None:
        source = images(tmp_path / "in", 3)
        for path in source.iterdir():
            path.write_bytes(BROKEN)
        with pytest.raises(DataError, match=r"none of 3 files could be predicted .*unreadable or truncated"):
            predicted(task, source, tmp_path / "out")
        assert len(errors(tmp_path / "out")) == 4

    def test_a_single_file_is_an_error(self, tmp_path: Path, task: str) -> None:
        source = images(tmp_path / "in", 1)
        (source / "0.png").write_bytes(BROKEN)
        with pytest.raises(FileFault, match="unreadable or truncated"):
            predicted(task, source / "0.png", tmp_path / "out")
        assert not list(tmp_path.rglob("*.csv"))

    def test_progress_ends_at_the_end(self, tmp_path: Path, task: str) -> None:
        told: list[tuple[str, int, int]] = []
        predicted(task, images(tmp_path / "in", 3), tmp_path / "out", lambda *at: told.append(at))
        assert told[-1][1:] == (3, 3)

    def test_what_is_not_read_is_named(self, tmp_path: Path, task: str) -> None:
        source = images(tmp_path / "in", 2)
        for name in ("x.PSD", "y.jxl", "z.npy", "raw.CR2", "README", "notes.txt", "Thumbs.db", ".DS_Store", "0.pgw"):
            (source / name).write_bytes(b"")
        done = predicted(task, source, tmp_path / "out")
        assert done.count == 2
        told = done.notices[0]
        assert told.startswith("SOURCE: 4 not used, of a type that is not read (.cr2, .jxl, .npy and 1 more): ")
        assert "raw.CR2" in told
        assert "and 1 more. Known types: .avif" in told

    def test_a_link_to_itself_is_one(self, tmp_path: Path, task: str) -> None:
        source = images(tmp_path / "in", 2)
        (source / "q.png").symlink_to("q.png")
        done = predicted(task, source, tmp_path / "out")
        assert (done.count, [Path(fault.file).name for fault in done.failed]) == (2, ["q.png"])

    def test_its_earlier_result_does_not_stay(self, tmp_path: Path, task: str) -> None:
        source = images(tmp_path / "in", 3)
        predicted(task, source, tmp_path / "out")
        (source / "1.png").write_bytes(BROKEN)
        predicted(task, source, tmp_path / "out")
        assert not (tmp_path / "out/1.png").exists()

    def test_a_pipe_is_named_and_not_waited_for(self, tmp_path: Path, task: str) -> None:
        source = images(tmp_path / "in", 2)
        os.mkfifo(source / "x.png")
        (source / "y.png").symlink_to(source / "x.png")
        done = predicted(task, source, tmp_path / "out")
        assert done.count == 2
        assert "2 not used, no regular file (a pipe or a device): " in done.notices[0]


@pytest.mark.parametrize("task", ["seg", "cls", "cd"])
def test_the_first_can_end_it(tmp_path: Path, task: str) -> None:
    source = images(tmp_path / "in")
    (source / "3.png").write_bytes(BROKEN)
    with pytest.raises(FileFault, match=r"3\.png"):
        predicted(task, source, tmp_path / "out", fail_fast=True)


def test_a_raster_that_ends_in_the_middle(tmp_path: Path) -> None:
    """Its header and its corner are whole, so that it is found while windows are written."""
    for date in "AB":
        for name in ("one", "two"):
            values = georasters.ramp(200, 200, 3)
            path = georasters.save(tmp_path / date / f"{name}.tif", values, tiled=True, blockxsize=64, blockysize=64)
    path.write_bytes(path.read_bytes()[:-40_000])
    done = predicted("cd", (tmp_path / "A", tmp_path / "B"), tmp_path / "out")
    assert (done.count, [Path(fault.file).name for fault in done.failed]) == (1, ["two.tif"])
    assert names(tmp_path / "out") == ["errors.csv", "one.tif", "one.tif.aux.xml"]


def test_a_pair_of_unlike_values_is_one_bad_pair(tmp_path: Path) -> None:
    for date, kind in (("A", np.uint8), ("B", np.uint16)):
        georasters.save(
            tmp_path / date / "mixed.tif",
            georasters.ramp(28, 28, 3).astype(kind) * (kind(1) if date == "A" else kind(200)),
        )
        georasters.save(tmp_path / date / "whole.tif", georasters.ramp(28, 28, 3).astype(np.uint8))
    done = predicted("cd", (tmp_path / "A", tmp_path / "B"), tmp_path / "out")
    assert (done.count, [Path(fault.file).name for fault in done.failed]) == (1, ["mixed.tif"])
    assert "together; convert one kind" in errors(tmp_path / "out")[1][1]


@pytest.mark.parametrize("task", ["seg", "cls", "cd"])
class TestNames:
    @pytest.mark.parametrize("odd", [b"line\nbreak.png", b"no \xff text.png", b"1.jpg"])
    def test_one_that_cannot_be_taken(self, tmp_path: Path, task: str, odd: bytes) -> None:
        """A table holds whole paths, so that it takes any name."""
        source = images(tmp_path / "in", 2)
        photos.save(source / "x.jpg", np.zeros((28, 28, 3))).rename(source / os.fsdecode(odd))
        done = predicted(task, source, tmp_path / "out")
        if task == "cls":
            assert (done.count, len(done.failed)) == (3, 0)
        else:
            assert done.count == 2
            assert len(errors(tmp_path / "out")) == 1 + len(done.failed)
            assert {fault.kind.partition(" ")[0] for fault in done.failed} in ({"a"}, {"two"})
            assert names(tmp_path / "out") == ["0.png", "1.png", "errors.csv"]

    def test_none_that_can_be_taken(self, tmp_path: Path, task: str) -> None:
        source = images(tmp_path / "in", 1)
        (source / "0.png").rename(source / "line\nbreak.png")
        if task == "cls":
            assert predicted(task, source, tmp_path / "out").count == 1
        else:
            with pytest.raises(DataError, match=r"could not stand in a list of names\. Rename it"):
                predicted(task, source, tmp_path / "out")

    @pytest.mark.parametrize("length", [240, 251])
    def test_long_ones(self, tmp_path: Path, task: str, length: int) -> None:
        source = images(tmp_path / "in", 2)
        long = (source / "1.png").rename(source / f"{'x' * (length - 4)}.png")
        options = {} if task == "cls" else {"overlay": True}
        done = predicted(task, source, tmp_path / "out", **options)
        if task == "cls":
            assert done.count == 2
        elif length == 240:
            assert (tmp_path / f"out/{long.stem}-overlay.png").exists()
        else:
            assert (done.count, [fault.file for fault in done.failed]) == (1, [long])
            assert any("at most 255" in notice for notice in done.notices)


def test_an_image_without_its_partner_is_one_bad_pair(tmp_path: Path) -> None:
    for date in "AB":
        images(tmp_path / date, 3)
    (tmp_path / "B/1.png").rename(tmp_path / "B/1.PNG.png")
    done = predicted("cd", (tmp_path / "A", tmp_path / "B"), tmp_path / "out")
    assert names(tmp_path / "out") == ["0.png", "2.png", "errors.csv"]
    kinds = {fault.kind: str(fault.file) for fault in done.failed}
    assert kinds == {
        "no partner of the second date": str(tmp_path / "A/1.png"),
        "no partner of the first date": str(tmp_path / "B/1.PNG.png"),
    }
    assert "1.PNG.png" in errors(tmp_path / "out")[1][1]
    with pytest.raises(FileFault, match="no partner of the second date"):
        predicted("cd", (tmp_path / "A", tmp_path / "B"), tmp_path / "out", fail_fast=True)


@pytest.mark.parametrize("kind", ["overlay", "confidence"])
def test_no_result_takes_the_place_of_another(tmp_path: Path, kind: str) -> None:
    for name in ("a", f"a-{kind}"):
        photos.save(tmp_path / f"in/{name}.jpg", np.zeros((28, 28, 3)))
    with pytest.raises(InputError, match=rf"two outputs would be .*out/a-{kind}\.png, of the images a and a-{kind}"):
        predicted("seg", tmp_path / "in", tmp_path / "out", **{kind: True})
    assert predicted("seg", tmp_path / "in", tmp_path / "out").count == 2


def test_a_photo_and_its_raw_twin_are_told_apart_by_a_pattern(tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        photos.save(tmp_path / f"in/a.{suffix}", np.zeros((28, 28, 3)))
    (fault,) = find_sources(str(tmp_path / "in")).refused
    assert str(fault).startswith(f"two files of one name: {tmp_path}/in/a.png (the other is {tmp_path}/in/a.jpg). ")
    assert str(fault).endswith(f'by a pattern: "{tmp_path}/in/*.jpg".')
    assert list(find_sources(str(tmp_path / "in/*.jpg")).files) == ["a"]


def test_a_pipe_for_a_date(tmp_path: Path) -> None:
    os.mkfifo(images(tmp_path, 1) / "x.png")
    with pytest.raises(InputError, match=r"x\.png is a pipe or a device"):
        predicted("cd", (tmp_path / "0.png", tmp_path / "x.png"), tmp_path / "out")


def test_threads_that_fail_keep_the_order(tmp_path: Path) -> None:
    def read(index: int) -> int:
        if index % 3 == 0:
            raise FileFault("bad", str(index), "", "")
        return index

    found = [int(item.file) if isinstance(item, FileFault) else item for item in read_ahead(caught(read), 50)]
    assert found == list(range(50))


class TestPatterns:
    def test_other_files_that_fit_are_named(self, tmp_path: Path) -> None:
        source = images(tmp_path / "in", 2)
        for name in ("x.psd", "notes.txt"):
            (source / name).write_bytes(b"")
        done = predicted("seg", source / "*", tmp_path / "out")
        assert done.count == 2
        assert len(done.notices) == 1
        assert "x.psd" in done.notices[0]

    def test_a_pipe_that_fits_is_named(self, tmp_path: Path) -> None:
        os.mkfifo(images(tmp_path / "in", 2) / "x.png")
        done = predicted("seg", tmp_path / "in/*.png", tmp_path / "out")
        assert done.count == 2
        assert "1 not used, no regular file (a pipe or a device): " in done.notices[0]

    def test_a_pipe_alone(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.jpg")
        with pytest.raises(DataError, match=r"x\.jpg is a pipe or a device, no file"):
            find_sources(str(tmp_path / "x.jpg"))

    def test_nothing_given(self) -> None:
        with pytest.raises(InputError, match="SOURCE is empty"):
            find_sources("")

    def test_no_image_among_them(self, tmp_path: Path) -> None:
        (tmp_path / "x.psd").write_bytes(b"")
        with pytest.raises(DataError, match=r"it fits .*x\.psd, no image. Known types: \.avif"):
            find_sources(str(tmp_path / "*.psd"))


class TestOutputAmongImages:
    @pytest.mark.parametrize("task", ["seg", "cd"])
    @pytest.mark.parametrize("place", ["", "maps", "sub/deeper"])
    def test_in_or_below_a_folder(self, tmp_path: Path, task: str, place: str) -> None:
        source = tmp_path / "in"
        photos.save(source / "x.jpg", np.zeros((28, 28, 3)))
        photos.save(source / "sub/y.jpg", np.zeros((28, 28, 3)))
        with pytest.raises(InputError, match="the images; results would lie among them"):
            predicted(task, source, source / place)
        assert names(source) == ["sub", "x.jpg"]

    def test_through_a_link(self, tmp_path: Path) -> None:
        source = tmp_path / "in"
        photos.save(source / "x.jpg", np.zeros((28, 28, 3)))
        (tmp_path / "link").symlink_to(source)
        with pytest.raises(InputError, match="results would lie among them"):
            predicted("seg", source, tmp_path / "link")
        with pytest.raises(InputError, match="results would lie among them"):
            predicted("seg", tmp_path / "link", source / "maps")

    @pytest.mark.parametrize("source", ["in/x.jpg", "in/*.jpg", "**/*.jpg"])
    def test_of_a_file_and_of_patterns(self, tmp_path: Path, source: str) -> None:
        photos.save(tmp_path / "in/x.jpg", np.zeros((28, 28, 3)))
        with pytest.raises(InputError, match="results would lie among them"):
            predicted("seg", tmp_path / source, tmp_path / "in")
        if "**" in source:
            with pytest.raises(InputError, match="results would lie among them"):
                predicted("seg", tmp_path / source, tmp_path / "out")
        else:
            assert predicted("seg", tmp_path / source, tmp_path / "in/out").count == 1

    def test_subfolders_that_lead_back(self, tmp_path: Path) -> None:
        """in/in/x.jpg predicted from `in` with -o . would be in/x.png."""
        photos.save(tmp_path / "in/in/x.jpg", np.zeros((28, 28, 3)))
        with pytest.raises(InputError, match="results would lie among them"):
            predicted("seg", tmp_path / "in", tmp_path)

    def test_a_table_is_no_image(self, tmp_path: Path) -> None:
        assert predicted("cls", images(tmp_path / "in", 2), tmp_path / "in").count == 2

    def test_a_pair_may_be_named_beside_its_images(self, tmp_path: Path) -> None:
        source = images(tmp_path / "in", 2)
        done = predicted("cd", (source / "0.png", source / "1.png"), source / "change.png")
        assert done.count == 1


def test_a_table_cannot_take_the_place_of_the_list(tmp_path: Path, pointwise: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"errors\.csv lists what cannot be read"):
        predict_classes([pointwise()], {}, [str(images(tmp_path / "in", 1))], tmp_path / "errors.csv", ClassPredict(),
                        INFERENCE, lambda *at: None)  # fmt: skip


@pytest.mark.parametrize("task", ["seg", "cd"])
class TestOrientation:
    def predictions(self, task: str, folder: Path, **options: Any) -> list[Any]:
        """What is predicted for a photo on its side, and for the same turned upright for good."""
        values = np.random.default_rng(0).integers(0, 256, (28, 40, 3), dtype=np.uint8)
        values[:, :20] //= 4
        turned = np.ascontiguousarray(values.swapaxes(0, 1)[:, ::-1])
        stored.png(folder / "side/a.png", values, 8, stored.RGB, orientation=6)
        stored.png(folder / "upright/a.png", turned, 8, stored.RGB)
        stored.png(folder / "dark/a.png", np.zeros((40, 28, 3), np.uint8), 8, stored.RGB)
        found = []
        for name in ("side", "upright"):
            second = (folder / "dark",) if task == "cd" else ()
            predicted(task, (folder / name, *second), folder / f"out-{name}", **options)
            with Image.open(folder / f"out-{name}/a.png") as image:
                found.append(np.array(image))
        return found

    def test_a_prediction_lies_as_a_viewer_shows_the_photo(self, tmp_path: Path, task: str) -> None:
        side, upright = self.predictions(task, tmp_path, orientation="viewer")
        np.testing.assert_array_equal(side, upright)
        assert side.shape == (40, 28)

    def test_a_model_from_before_sees_it_as_it_is_stored(self, tmp_path: Path, task: str) -> None:
        if task == "cd":
            with pytest.raises(FileFault, match="dates of other sizes"):
                self.predictions(task, tmp_path)
        else:
            assert self.predictions(task, tmp_path)[0].shape == (28, 40)


@pytest.mark.parametrize(("orientation", "shape"), [("viewer", (40, 28, 3)), (None, (28, 40, 3))])
def test_classification_sees_photos_as_its_model_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: str | None, shape: tuple[int, ...]
) -> None:
    import semikit.inference.predict_classes as module

    shapes, read = [], module.read_rgb
    monkeypatch.setattr(
        module, "read_rgb", lambda *of, **how: (image := read(*of, **how), shapes.append(image.shape))[0]
    )
    stored.png(tmp_path / "in/a.png", np.zeros((28, 40, 3), np.uint8), 8, stored.RGB, orientation=6)
    predicted("cls", tmp_path / "in", tmp_path / "out", orientation=orientation)
    assert shapes == [shape]
