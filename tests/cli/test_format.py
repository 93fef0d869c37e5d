"""Runs that another version began: what goes on, what is refused, and what still loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from semikit.data.manifest import load
from semikit.run.config import FORMAT, resolve, resumable
from semikit.run.resume import _known_before
from semikit.training.checkpoint import LAST, read_checkpoint, save_last

Call = Callable[..., Any]


def without_number(run: Path) -> None:
    """The run folder as it was before there were numbers."""
    raw = yaml.safe_load((run / "config.yaml").read_text())
    assert raw.pop("format") == FORMAT
    (run / "config.yaml").write_text(yaml.safe_dump(raw))
    state = read_checkpoint(run / "weights" / LAST)
    assert state.pop("format") == FORMAT
    save_last(run / "weights", state)


def test_a_run_begun_before_is_refused_but_its_weights_load(
    train: Call, semikit: Call, stop_at: Callable[[int | None], None]
) -> None:
    flags = ("--out", "run", "--eval-every", "1")
    stop_at(1)
    assert train(*flags).code == 130
    stop_at(None)
    without_number(Path("run"))
    answer = semikit("train", "seg", "--resume", "run")
    assert answer.code == 2
    for words in ("run was begun by an earlier version", "run format is 1", f"of format {FORMAT}", "semikit predict"):
        assert words in answer.err
    assert semikit("evaluate", "run", "--quiet").code == 0
    assert train("--config", "run/config.yaml", "--out", "again").code == 0


def test_a_checkpoint_of_another_format_is_refused(
    train: Call, semikit: Call, stop_at: Callable[[int | None], None]
) -> None:
    stop_at(1)
    assert train("--out", "run").code == 130
    stop_at(None)
    state = read_checkpoint(Path("run/weights") / LAST)
    save_last(Path("run/weights"), {**state, "format": FORMAT + 1})
    answer = semikit("train", "seg", "--resume", "run")
    assert (answer.code, f"run format is {FORMAT + 1}" in answer.err) == (2, True)


def test_a_setting_added_later_has_its_default(tmp_path: Path) -> None:
    config = resolve({"task": "seg", "data": {"shapes": {}, "labels": "4"}, "train": {"iterations": 2, "seed": 3}})
    before = config.to_raw()
    for section, key in (("train", "max_bad_files"), ("method", "threshold"), ("evaluate", "batch")):
        del before[section][key]
    assert resumable(tmp_path, before, config) == []


def test_fields_a_record_did_not_have_are_not_compared() -> None:
    before = {"seed": 0, "counts": {"labeled": 4}}
    now = {"format": 2, "seed": 1, "counts": {"labeled": 4, "masked": 9}, "shards": [{"name": "a.tar"}]}
    assert _known_before(before, now) == {"seed": 1, "counts": {"labeled": 4}, "shards": [{"name": "a.tar"}]}


def test_the_record_of_a_split_has_a_number_and_is_read_without(train: Call) -> None:
    assert train("--out", "run").code == 0
    path = Path("run/split.json")
    raw = json.loads(path.read_text())
    assert raw.pop("format") == 2
    path.write_text(json.dumps(raw))
    assert load(Path("run")).format == 1
    assert torch.is_tensor(next(iter(read_checkpoint(Path("run/weights") / LAST)["method"].values())))
