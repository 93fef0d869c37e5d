"""Ending early, making a finished run longer, and beginning with what another has learned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from semikit.core.task import Scores
from semikit.tasks.seg import Segmentation
from semikit.training.checkpoint import read_best, read_checkpoint
from semikit.training.tracking import read_rows
from tests.helpers import photos
from tests.helpers.equality import differences

Call = Callable[..., Any]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes evaluations on val find these values of student and teacher, one after another."""

    def scored(*values: float) -> None:
        left = list(values)
        plain = Segmentation.evaluate

        def evaluate(self: Any, networks: Any, split: str, *more: Any) -> dict[str, Scores]:
            found = plain(self, networks, split, *more)
            if split != "val":
                return found
            value = left.pop(0) if len(left) > 1 else left[0]
            return {name: Scores(one.metric, value, one.per_class) for name, one in found.items()}

        monkeypatch.setattr(Segmentation, "evaluate", evaluate)

    return scored


def test_patience_counts_evaluations_without_gain_also_over_an_interruption(
    train: Call, semikit: Call, scored: Callable[..., None], stop_at: Callable[[int | None], None], tmp_path: Path
) -> None:
    scored(40, 50, 50, 45)
    flags = ("--iterations", "9", "--eval-every", "1", "--patience", "2", "--out", tmp_path / "run")
    stop_at(3)
    assert train(*flags).code == 130
    state = read_checkpoint(tmp_path / "run/weights/last.ckpt")
    assert (state["step"], state["without_gain"]) == (3, 1)
    stop_at(None)
    answer = semikit("train", "seg", "--resume", tmp_path / "run")
    assert answer.code == 0, answer.err
    told = "the run ends at iteration 4 of 9: no gain in 2 evaluations (train.patience 2) since iteration 2"
    assert told in answer.out
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert (results["iterations"], results["best"]["iteration"], results["best"]["value"]) == (4, 2, 50)
    assert read_checkpoint(tmp_path / "run/weights/last.ckpt")["step"] == 4
    scored(60)
    longer = semikit("train", "seg", "--resume", tmp_path / "run", "--patience", "3")
    assert longer.code == 0, longer.err
    assert json.loads((tmp_path / "run/results.json").read_text())["best"]["iteration"] == 5


def test_a_finished_run_goes_on_at_the_new_total(semikit: Call, trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    answer = semikit("train", "seg", "--resume", run, "--iterations", "6")
    assert answer.code == 0, answer.err
    assert "go on as in a run of 6 iterations, whose first 4 were made with those of another length" in answer.out
    rows = read_rows(run)
    assert [row["iteration"] for row in rows] == [2, 4, 6]
    assert rows[-1]["lr"] == pytest.approx(0.01 * (1 - 4 / 6) ** 0.9, rel=1e-4)  # set after the step before
    results = json.loads((run / "results.json").read_text())
    assert results["iterations"] == 6
    assert results["changed"] == ["iteration 4: train.iterations: 4 -> 6"]
    assert "iterations: 6" in (run / "config.yaml").read_text()
    shorter = semikit("train", "seg", "--resume", run, "--iterations", "5")
    assert (shorter.code, "has made 6 iterations, more than 5. Give more" in shorter.err) == (2, True)


def test_a_run_begins_with_the_best_weights_of_another(train: Call, semikit: Call, trained: Path) -> None:
    weights, _ = read_best(trained / "weights/best.safetensors")
    still = ("optimizer.lr=1.0e-30", "optimizer.encoder_lr=1.0e-30", "optimizer.weight_decay=0")
    answer = train("--from", trained, *still, "--iterations", "1", "--out", "again")
    assert answer.code == 0, answer.err
    assert f"of {trained.absolute()}" in answer.out
    assert not differences(read_best(Path("again/weights/best.safetensors"))[0], weights)
    shutil.copytree(trained, "gone")
    assert train("--from", "gone", "--iterations", "1", "--out", "child").code == 0
    shutil.rmtree("gone")
    assert semikit("train", "seg", "--resume", "child", "--iterations", "2").code == 0


def test_other_classes_get_a_new_last_layer(train: Call, trained: Path, tmp_path: Path) -> None:
    data = photos.write(tmp_path / "own")
    data.write_text(data.read_text().replace("car", "truck"))
    weights, _ = read_best(trained / "weights/best.safetensors")
    still = ("optimizer.lr=1.0e-30", "optimizer.encoder_lr=1.0e-30", "optimizer.weight_decay=0")
    answer = train("--from", trained, *still, "--iterations", "1", "--out", "run", data=data)
    assert answer.code == 0, answer.err
    told = "its classes are others (3: sky, road, car there, 3: sky, road, truck here), so the last layer begins anew"
    assert told in answer.out
    found, _ = read_best(Path("run/weights/best.safetensors"))
    other = {name for name in found if not torch.equal(found[name], weights[name])}
    assert other == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--encoder", "test_vit2"], "model.encoder is test_vit there, test_vit2 here. Ask for the same network"),
        (["model.decoder_channels=4"], "its network is another one: it differs in classifier.weight"),
        (["model.lora={rank: 2}"], "model.lora adapts pretrained weights alone"),
    ],
)
def test_another_network_is_refused(train: Call, trained: Path, arguments: list[str], told: str) -> None:
    answer = train("--from", trained, *arguments, "--dry-run")
    assert answer.code == 2
    assert told in answer.err
