"""A prediction of many files that stopped goes on: what is done is verified and kept, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semikit.core.task import Predicted
from semikit.errors import InputError, RunError
from semikit.inference.journal import JOURNAL
from tests.helpers import photos
from tests.tasks.test_maps import Bright, Case, blocks, names, table

NAMES = ("a", "b", "c", "d")


@pytest.fixture(params=["seg", "cd"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """Four small rasters, each of other classes."""
    made = Case(request.param, tmp_path)
    for number, name in enumerate(NAMES):
        made.raster(np.roll(blocks(made, (32, 32), empty=2), number * 3, 0), name)
    return made


def stopped(case: Case, out: Path, after: int, **options: Any) -> None:
    """A prediction that is interrupted while the image after the first `after` is predicted."""

    def stop(what: str, done: int, total: int) -> None:
        if done > after * total // len(NAMES):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        case.predict(case.folders, out, progress=stop, **options)


def resumed(case: Case, out: Path, **options: Any) -> tuple[Predicted, int]:
    """What came of going on, and how many images went through the network."""
    network = Bright(len(case.names))
    done = case.predict(case.folders, out, network, resume=True, **options)
    return done, len(network.seen)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != JOURNAL}


def test_it_ends_as_if_it_had_never_stopped(case: Case, tmp_path: Path) -> None:
    options: dict[str, Any] = {"areas": True, "confidence": True}
    case.predict(case.folders, tmp_path / "whole", polygons=tmp_path / "shapes", **options)
    stopped(case, tmp_path / "out", 2, polygons=tmp_path / "outlines", **options)
    ends = (".tif", ".tif.aux.xml", "-confidence.tif")
    assert names(tmp_path / "out") == sorted(f"{name}{end}" for name in "ab" for end in ends)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tif")}
    done, seen = resumed(case, tmp_path / "out", polygons=tmp_path / "outlines", **options)
    assert (done.count, seen) == (2, 2)
    plural = "images" if case.task == "seg" else "pairs"
    assert f"2 of 4 {plural} were predicted before and are kept" in done.notices
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    found, expected = contents(tmp_path / "out"), contents(tmp_path / "whole")
    assert found.pop("areas.csv").replace(b"/out/", b"/whole/") == expected.pop("areas.csv")
    assert found == expected
    assert contents(tmp_path / "outlines") == contents(tmp_path / "shapes")
    done, seen = resumed(case, tmp_path / "out", polygons=tmp_path / "outlines", **options)
    assert (done.count, seen) == (0, 0)
    assert f"4 of 4 {plural} were predicted before and are kept" in done.notices
    assert len(table(tmp_path / "out/areas.csv")) == 4 * len(case.names)


@pytest.mark.parametrize("what", ["image", "time", "map", "gone", "polygons"])
def test_what_changed_is_predicted_again(case: Case, tmp_path: Path, what: str) -> None:
    out, outlines = tmp_path / "out", tmp_path / "outlines"
    stopped(case, out, 3, polygons=outlines)
    whole = contents(out)
    if what == "image":
        case.raster(np.roll(blocks(case, (32, 32), empty=2), 9, 1), "b")
    elif what == "time":
        os.utime(case.folders[-1] / "b.tif", (1, 1))
    elif what == "map":
        content = bytearray(whole["b.tif"])
        content[-1] ^= 1
        (out / "b.tif").write_bytes(content)
    else:
        (out / "b.tif" if what == "gone" else outlines / "b.geojson").unlink()
    done, seen = resumed(case, out, polygons=outlines)
    assert seen == 2
    assert "predicted again: b" in " ".join(done.notices)
    assert (contents(out)["b.tif"] == whole["b.tif"]) == (what != "image")
    assert (outlines / "b.geojson").is_file()


def test_other_options_or_weights_are_refused(case: Case, tmp_path: Path) -> None:
    stopped(case, tmp_path / "out", 2)
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=r"otherwise: no --tile, now --tile 16; --tta none, now --tta flip\. Give"):
        resumed(case, tmp_path / "out", tile=16, tta="flip")
    other = Bright(len(case.names))
    other.register_buffer("more", other_tensor())
    with pytest.raises(InputError, match=r"otherwise: other weights\. Give the same run and options to go on"):
        case.predict(case.folders, tmp_path / "out", other, resume=True)
    with pytest.raises(InputError, match="other weights"):
        case.predict(case.folders, tmp_path / "out", Bright(len(case.names)), Bright(len(case.names)), resume=True)
    assert contents(tmp_path / "out") == before
    assert resumed(case, tmp_path / "out", fail_fast=True)[1] == 2, "that changes no map"


def other_tensor() -> Any:
    import torch

    return torch.ones(3)


def test_what_a_killed_process_left_is_taken_away(case: Case, tmp_path: Path) -> None:
    """Of the files that are predicted again; the last line of the journal may be cut off."""
    out = tmp_path / "out"
    stopped(case, out, 3)
    lines = (out / JOURNAL).read_bytes()
    (out / JOURNAL).write_bytes(lines[:-30])
    for name in (".c.tif.4711.raw.tif", ".d.tif.4711.tif", ".d.tif.4711.tif.ovr.tmp", ".mine.tif.4711.raw.tif"):
        (out / name).write_bytes(b"part")
    (out / ".shares.abc_1234").mkdir()
    (out / ".shares.abc_1234/shares.tif").write_bytes(b"part")
    done, seen = resumed(case, out)
    assert (done.count, seen) == (2, 2)
    assert [name for name in names(out) if name.startswith(".")] == [".mine.tif.4711.raw.tif"]
    assert [json.loads(line).get("scene") for line in (out / JOURNAL).read_text().splitlines()] == [None, *NAMES]


def test_a_file_that_is_mended(case: Case, tmp_path: Path) -> None:
    good = (case.folders[-1] / "c.tif").read_bytes()
    (case.folders[-1] / "c.tif").write_bytes(b"no raster")
    case.predict(case.folders, tmp_path / "out")
    assert "errors.csv" in names(tmp_path / "out")
    done, seen = resumed(case, tmp_path / "out")
    assert (done.count, seen, len(done.failed)) == (0, 0, 1)
    (case.folders[-1] / "c.tif").write_bytes(good)
    done, seen = resumed(case, tmp_path / "out")
    assert (done.count, seen, len(done.failed)) == (1, 1, 0)
    assert "errors.csv" not in names(tmp_path / "out")


def test_a_new_prediction_forgets_the_earlier_one(case: Case, tmp_path: Path) -> None:
    stopped(case, tmp_path / "out", 3)
    stopped(case, tmp_path / "out", 1)
    assert resumed(case, tmp_path / "out")[1] == 3


def test_a_complete_prediction_leaves_its_maps_alone(case: Case, tmp_path: Path) -> None:
    case.predict(case.folders, tmp_path / "out")
    assert not (tmp_path / "out" / JOURNAL).exists()
    done, seen = resumed(case, tmp_path / "out")
    assert (seen, (tmp_path / "out" / JOURNAL).exists()) == (4, True)
    assert f"--resume: nothing in {tmp_path / 'out'} to go on with ({JOURNAL}); all are predicted" in done.notices
    assert resumed(case, tmp_path / "out")[1] == 0


def test_where_nothing_was_predicted_nothing_is_left(case: Case, tmp_path: Path) -> None:
    stopped(case, tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()


def test_one_image_is_no_job_to_go_on_with(case: Case, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--resume goes on with a prediction of many images, and .* Leave it out"):
        case.predict([folder / "a.tif" for folder in case.folders], tmp_path / "a.tif", resume=True)
    assert not (tmp_path / "a.tif").exists()


def test_photos(case: Case, tmp_path: Path) -> None:
    for folder in case.folders:
        for name in NAMES:
            (folder / f"{name}.tif").unlink()
            photos.save(folder / f"{name}.png", np.full((12, 16, 3), 200))
    stopped(case, tmp_path / "out", 2)
    assert resumed(case, tmp_path / "out")[1] == 2
    assert names(tmp_path / "out") == [f"{name}.png" for name in NAMES]


def test_a_journal_that_cannot_be_written(case: Case, tmp_path: Path) -> None:
    (tmp_path / "out" / JOURNAL).mkdir(parents=True)
    with pytest.raises(RunError, match=r"could not write .*predicted\.jsonl"):
        case.predict(case.folders, tmp_path / "out")
