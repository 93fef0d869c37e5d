"""Pictures that are learned from and scored on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import photos

Call = Callable[..., Any]

TOLD = "1 pictures of val are also learned from: val1 (train: train7)"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Data of which one validation image is an unlabelled one of train."""
    data = photos.write(tmp_path / "own")
    (data.parent / "val/images/val1.png").write_bytes((data.parent / "train/images/train7.png").read_bytes())
    return data


@pytest.mark.parametrize("flags", [(), ("--dry-run",)], ids=["train", "dry run"])
def test_they_are_refused(train: Call, data: Path, flags: tuple[str, ...]) -> None:
    answer = train(*flags, data=data)
    assert answer.code == 2
    assert f"error: {TOLD}. A score on them" in answer.err
    assert "allow_overlap: true" in answer.err


def test_they_are_told_where_that_is_allowed(train: Call, data: Path, tmp_path: Path) -> None:
    data.write_text(data.read_text() + "allow_overlap: true\n")
    answer = train("--out", tmp_path / "run", data=data)
    assert answer.code == 0, answer.err
    assert f"note: {TOLD}" in answer.out


def test_a_run_that_began_with_them_goes_on(
    train: Call, semikit: Call, tmp_path: Path, stop_at: Callable[[int | None], None]
) -> None:
    data = photos.write(tmp_path / "own")
    stop_at(1)
    assert train("--out", tmp_path / "run", data=data).code == 130
    (data.parent / "val/images/val1.png").write_bytes((data.parent / "train/images/train7.png").read_bytes())
    stop_at(None)
    answer = semikit("train", "seg", "--resume", tmp_path / "run", "--accept-data-changes")
    assert answer.code == 0, answer.err
    assert f"note: {TOLD}" in answer.out


def test_evaluation_does_not_ask(semikit: Call, trained: Path, data: Path) -> None:
    assert semikit("evaluate", trained, "--data", data).code == 0
