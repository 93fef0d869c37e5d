"""Labelled files that are edited while a run is stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import semikit as package
from semikit.run.launch import arguments_of
from semikit.training.checkpoint import read_checkpoint, save_last
from tests.helpers import class_sets, icons, pairs, photos

Call = Callable[..., Any]
Stop = Callable[[int | None], None]

ACCEPT = "--accept-data-changes"


@pytest.fixture
def stopped(train: Call, tmp_path: Path, stop_at: Stop) -> Path:
    """A run of four labelled images that stopped after its first step; its data lie in `own`."""
    data = photos.write(tmp_path / "own", masks=4)
    stop_at(1)
    assert train("--out", tmp_path / "run", "--labels", "all", data=data).code == 130
    stop_at(None)
    return tmp_path / "run"


def edit(path: Path) -> None:
    """Another pixel, still of a class."""
    values = np.asarray(Image.open(path)).copy()
    values[0, 0] = (values[0, 0] + 1) % 3
    Image.fromarray(values).save(path)


def test_an_edited_mask_is_shown_and_refused(semikit: Call, stopped: Path, tmp_path: Path) -> None:
    edit(tmp_path / "own/train/masks/train2.png")
    answer = semikit("train", "seg", "--resume", stopped)
    assert answer.code == 2
    assert (
        f"error: files of {stopped} were edited since the run was saved: 1 labels (train2). Restore them, go on with "
        "what they hold now (--accept-data-changes), or begin a new run with another --out."
    ) in answer.err


def test_an_edit_that_is_accepted_is_recorded(semikit: Call, stopped: Path, tmp_path: Path, stop_at: Stop) -> None:
    for k in (0, 2):
        edit(tmp_path / f"own/train/masks/train{k}.png")
    edit(tmp_path / "own/train/images/train1.png")
    before = json.loads((stopped / "split.json").read_text())["contents"]["labelled"]
    stop_at(2)
    told = "content of 1 images (train1) and 2 labels (train0, train2)"
    answer = semikit("train", "seg", "--resume", stopped, ACCEPT, "--iterations", "2")
    assert answer.code == 0, answer.err
    assert f"note: from iteration 1 on with another {told}" in answer.out
    assert json.loads((stopped / "results.json").read_text())["changed"] == [f"iteration 1: {told}"]
    after = json.loads((stopped / "split.json").read_text())["contents"]["labelled"]
    assert [a == b for a, b in zip(before["labels"], after["labels"], strict=True)] == [False, True, False, True]
    assert (
        read_checkpoint(stopped / "weights/last.ckpt")["manifest"]["contents"]["labelled"]["digest"] == after["digest"]
    )
    (stopped / "results.json").unlink()
    answer = semikit("train", "seg", "--resume", stopped)  # what was accepted is not asked again
    assert answer.code == 0, answer.err


def test_an_edit_of_what_the_best_is_chosen_on(semikit: Call, stopped: Path, tmp_path: Path) -> None:
    edit(tmp_path / "own/val/masks/val1.png")
    (tmp_path / "own/val/images/val2.png").unlink()
    (tmp_path / "own/val/masks/val2.png").unlink()
    answer = semikit("train", "seg", "--resume", stopped)
    assert answer.code == 2
    assert "1 labels of val (val1) and 1 images of val that are gone (val2). Restore them" in answer.err
    assert semikit("train", "seg", "--resume", stopped, ACCEPT).code == 0


def test_what_has_no_part_in_it_may_be_edited(semikit: Call, stopped: Path, tmp_path: Path) -> None:
    edit(tmp_path / "own/train/images/train6.png")
    edit(tmp_path / "own/test/masks/test1.png")
    answer = semikit("train", "seg", "--resume", stopped)
    assert answer.code == 0, answer.err


def test_a_run_that_kept_no_contents_goes_on_as_before(semikit: Call, stopped: Path, tmp_path: Path) -> None:
    state = read_checkpoint(stopped / "weights/last.ckpt")
    del state["manifest"]["contents"]
    save_last(stopped / "weights", state)
    edit(tmp_path / "own/train/masks/train2.png")
    answer = semikit("train", "seg", "--resume", stopped)
    assert answer.code == 0, answer.err


def test_labels_of_images_in_a_table(semikit: Call, tmp_path: Path, stop_at: Stop) -> None:
    class_sets.folders(tmp_path, ("cat", "dog"), 16, 4, "train")
    class_sets.folders(tmp_path, ("cat", "dog"), 16, 2, "val")
    lines = [f"{name}/{k:04d}.png,{name}" for name in ("cat", "dog") for k in range(4)]
    table, data = tmp_path / "train/labels.csv", tmp_path / "data.yaml"
    table.write_text("\n".join(["file,label", *lines]))
    data.write_text("train: train/labels.csv\nval: val\n")
    flags = ("--data", data, "--labels", "all", *icons.FLAGS, "--iterations", "2", "--out", tmp_path / "run")
    stop_at(1)
    answer = semikit("train", "cls", *flags)
    assert answer.code == 130, answer.err
    stop_at(None)
    table.write_text(table.read_text().replace("cat/0002.png,cat", "cat/0002.png,dog"))
    answer = semikit("train", "cls", "--resume", tmp_path / "run")
    assert answer.code == 2
    assert "1 labels (cat/0002)" in answer.err
    answer = semikit("train", "cls", "--resume", tmp_path / "run", ACCEPT)
    assert answer.code == 0, answer.err


def test_the_second_date_of_a_pair(semikit: Call, tmp_path: Path, stop_at: Stop) -> None:
    data = pairs.write(tmp_path / "own")
    flags = ("--data", data, "--labels", "all", *pairs.FLAGS, "--iterations", "2", "--out", tmp_path / "run")
    stop_at(1)
    answer = semikit("train", "cd", *flags)
    assert answer.code == 130, answer.err
    stop_at(None)
    path = sorted((data.parent / "train/B").iterdir())[0]
    edit(path)
    answer = semikit("train", "cd", "--resume", tmp_path / "run")
    assert answer.code == 2
    assert f"1 images ({path.stem})" in answer.err


def test_a_new_run_has_nothing_to_accept(train: Call) -> None:
    answer = train(ACCEPT)
    assert answer.code == 2
    assert "--accept-data-changes is for a run that goes on" in answer.err


def test_from_python(stopped: Path, tmp_path: Path) -> None:
    edit(tmp_path / "own/train/masks/train2.png")
    with pytest.raises(package.DataError, match=r"1 labels \(train2\)"):
        package.train("seg", resume=stopped)
    run = package.train("seg", resume=stopped, accept_data_changes=True)
    assert run.results["changed"] == ["iteration 1: content of 1 labels (train2)"]
    given = {"task": "seg", "gpus": 2, "resume": stopped}
    assert ACCEPT in arguments_of({**given, "accept_data_changes": True}, stopped, tmp_path / "x.yaml")
    assert ACCEPT not in arguments_of({**given, "accept_data_changes": False}, stopped, tmp_path / "x.yaml")
