"""Runs in processes of their own, stopped by real signals."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from semikit.run import build
from semikit.run.config import resolve
from semikit.run.recipes import read_yaml
from semikit.training.checkpoint import LAST, read_checkpoint
from semikit.training.reporter import Reporter
from semikit.training.trainer import Trainer
from tests.helpers import photos
from tests.helpers.equality import differences
from tests.helpers.processes import Server


@pytest.mark.parametrize(
    ("number", "whole_group"), [(signal.SIGTERM, False), (signal.SIGINT, True)], ids=["terminate", "ctrl-c"]
)
def test_a_signal_saves_and_ends_with_130(
    photo_data: Path, tmp_path: Path, server: Server, number: signal.Signals, whole_group: bool
) -> None:
    """Ctrl-C reaches every process of the group, also the loader's workers."""
    folder = tmp_path / "run"
    flags = [*photos.FLAGS, "--workers", "1", "--labels", "4", "--iterations", "5000", "--eval-every", "5000"]
    process = server.start("train", "seg", "--data", photo_data, *flags, "--save-every", "2", "--out", folder)
    server.wait_for(folder / "weights" / LAST, process)
    if whole_group:
        os.killpg(process, number)
    else:
        os.kill(process, number)
    ended = server.ended(process)
    assert ended.code == 130, ended.out
    assert f"--resume {folder}" in ended.out
    assert "Traceback" not in ended.out
    state = read_checkpoint(folder / "weights" / LAST)
    step = state["step"]
    assert f"interrupted at iteration {step}" in ended.out
    raw = read_yaml(folder / "config.yaml")
    reached = run_until(raw, tmp_path / "other", step)
    assert not differences(reached.method.state_dict(), state["method"])


def run_until(raw: dict[str, Any], folder: Path, step: int) -> Trainer:
    """The state of the same run in this process, without workers, at a step."""
    trainer = build.build_run(resolve({**raw, "train": {**raw["train"], "workers": 0}}), folder, Reporter()).trainer
    trainer.method.train()
    iterator = iter(trainer.task.batches(range(step), 0, False))
    with torch.random.fork_rng(devices=[]):
        for _ in range(step):
            trainer._iteration(iterator)
    return trainer
