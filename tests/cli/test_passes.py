"""`method.forward: auto`: settled when a run begins, and left to runs from before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semikit.run import build
from semikit.run.recipes import read_yaml

Call = Callable[..., Any]
Stop = Callable[[int | None], None]


@pytest.mark.parametrize("from_before", [False, True])
def test_a_run_that_begins_settles_them_and_one_from_before_goes_on_as_it_did(
    from_before: bool,
    train: Call,
    semikit: Call,
    tmp_path: Path,
    stop_at: Stop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop_at(1)
    with monkeypatch.context() as before:
        if from_before:
            before.setattr(build, "with_passes", lambda config, network, device: config)
        begun = train("--out", tmp_path / "run", "method.forward=auto")
    assert begun.code == 130, begun.err
    forward = read_yaml(tmp_path / "run/config.yaml")["method"]["forward"]
    assert (forward == "auto") is from_before
    stop_at(None)
    resumed = semikit("train", "seg", "--resume", tmp_path / "run")
    assert resumed.code == 0, resumed.err
    assert read_yaml(tmp_path / "run/config.yaml")["method"]["forward"] == forward
