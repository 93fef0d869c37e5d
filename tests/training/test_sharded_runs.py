"""Whole runs whose networks are shared out over two processes: trained, scored, saved, and gone on with by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from semikit.training.checkpoint import BEST, LAST, PREVIOUS, read_best, read_checkpoint
from semikit.training.tracking import read_rows
from tests.helpers import photos
from tests.helpers.processes import Ended, Server

CLASSES = (
    *("--encoder", "test_vit", "model.encoder_args={depth: 2, embed_dim: 32, num_heads: 2}"),
    *("--batch", "4", "--workers", "0", "--device", "cpu"),
)
LENGTH = ("--iterations", "4", "--eval-every", "2", "--save-every", "2", "optimizer.name=sgd", "model.weights=none")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("task", ["seg", pytest.param("cls", marks=pytest.mark.long)])
def test_a_sharded_run_is_the_run(task: str, photo_data: Path, icon_data: Path, tmp_path: Path, server: Server) -> None:
    flags, data, labels = {"seg": (photos.FLAGS, photo_data, "4"), "cls": (CLASSES, icon_data, "6")}[task]
    train = ["train", task, "--data", data, *flags, *LENGTH, "--labels", labels, "train.group=2"]
    done(server.run(*train, "--out", tmp_path / "whole"))
    done(*server.run_together(2, *train, "--out", tmp_path / "sharded", "train.shard=true"))
    same(tmp_path)
    # One process goes on from the middle of it.
    weights = tmp_path / "sharded" / "weights"
    (weights / PREVIOUS).replace(weights / LAST)
    assert read_checkpoint(weights / LAST)["step"] == 2
    (tmp_path / "sharded" / "results.json").unlink()
    done(server.run("train", task, "--resume", tmp_path / "sharded", "train.shard=false"))
    same(tmp_path)


def done(*processes: Ended) -> None:
    for process in processes:
        assert process.code == 0, process.out
        assert "Traceback" not in process.out, process.out


def same(folder: Path) -> None:
    one, two = (found(folder / name) for name in ("whole", "sharded"))
    for key in ("student", "teacher", "test"):
        metric = one["results"]["metric"]
        assert two["results"][key][metric] == pytest.approx(one["results"][key][metric], abs=0.5), key
    torch.testing.assert_close(two["method"], one["method"], rtol=2e-4, atol=2e-5)
    assert two["best"].keys() == one["best"].keys()
    assert two["iterations"] == one["iterations"] == [2.0, 4.0]


def found(run: Path) -> dict[str, Any]:
    return {
        "results": json.loads((run / "results.json").read_text()),
        "method": read_checkpoint(run / "weights" / LAST)["method"],
        "best": read_best(run / "weights" / BEST)[0],
        "iterations": [row["iteration"] for row in read_rows(run)],
    }
