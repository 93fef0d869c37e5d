"""Brackets in names of classes and folders are text, not markup."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers import photos

Call = Callable[..., Any]
NAMES = ("[void]", "a[/b]", "[red]")


def test_they_are_shown(train: Call, semikit: Call, tmp_path: Path) -> None:
    data = photos.write(tmp_path / "own")
    data.write_text(data.read_text().replace("sky, road, car", ", ".join(repr(name) for name in NAMES)))
    folder = tmp_path / "run [bold]/[/b]"
    answer = train("--out", folder, "--iterations", "1", data=data)
    assert answer.code == 0, answer.err
    assert f"run folder: {folder}\n" in answer.out
    assert f"next: semikit predict {shlex.quote(str(folder))} IMAGES" in answer.out
    assert all(f" {name} " in answer.out for name in NAMES)
    answer = semikit("evaluate", folder, "--device", "cpu")
    assert answer.code == 0, answer.err
    assert all(f"\n{name} " in answer.out for name in NAMES)
    answer = semikit("predict", folder, data.parent / "val/images/val0.png", "-o", "out[/b]")
    assert (answer.code, answer.out) == (0, "1 image predicted into out[/b]\n")
