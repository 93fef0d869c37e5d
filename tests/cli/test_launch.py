"""What `--gpus` makes of a command line; runs in several processes are tried in tests/training/test_torchrun.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from semikit.distributed.groups import seen_by_all
from semikit.errors import InputError, RunError
from semikit.run.launch import check_gpus, launch, without_gpus
from tests.helpers import photos


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["train", "seg", "--gpus", "2", "--out", "a"], ["train", "seg", "--out", "a"]),
        (["train", "--gpus=4", "seg"], ["train", "seg"]),
        (["train", "seg"], ["train", "seg"]),
    ],
)
def test_the_command_of_each_process(given: list[str], kept: list[str]) -> None:
    assert without_gpus(given) == kept


def test_more_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=r"--gpus 2: CUDA devices of this machine: 0\. .* --device cpu"):
        check_gpus(2, None)
    check_gpus(8, "cpu")


@pytest.fixture
def ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets each process be a shell that runs a line instead of the package."""

    def ending(line: str) -> None:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(program))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")

    return ending


def test_how_processes_end(ending: Callable[[str], None]) -> None:
    ending('test "$* $WORLD_SIZE" = "-m semikit predict x 2"')
    assert launch(2, ["predict", "x"]) == 0
    ending("test $RANK = 0 && exit 3; exec sleep 60")
    assert launch(2, ["predict", "x"]) == 3
    ending("test $RANK = 1 && kill -9 $$; exec sleep 60")
    with pytest.raises(RunError, match=r"process 1 of 2 was killed by signal 9 .*Go on with --resume"):
        launch(2, ["predict", "x"], "Go on with --resume.")


def test_the_plan_of_several_processes(semikit: Callable[..., Any], photo_data: Path) -> None:
    """On any machine, whatever GPUs it has."""

    def plan(*more: str) -> Any:
        return semikit("train", "seg", "--data", photo_data, *photos.FLAGS, "--labels", "4", "--dry-run", *more)

    def said(*more: str) -> str:
        answer = plan(*more)
        assert answer.code == 0, answer.err
        return " ".join(answer.out.replace("│", " ").split())

    four = ("--batch", "4", "train.group=1")
    assert "iterations of 4 + 4 images = 2 processes x 2 micro-batches of 1 + 1" in said(
        *four, "--gpus", "2", "train.accumulate=2"
    )
    assert "iterations of 4 + 4 images = 4 processes of 1 + 1" in said(*four, "--gpus", "4", "train.shard=true")
    assert "train.accumulate auto is tried when the run begins" in said(*four, "--gpus", "2", "train.accumulate=auto")
    wrong = plan(*four, "--gpus", "3")
    assert (wrong.code, "cannot be shared evenly by 3 processes" in wrong.err) == (2, True)
    alone = plan(*four, "train.shard=true")
    assert (alone.code, "there is one" in alone.err) == (2, True)


def test_a_recipe_says_the_device(
    semikit: Callable[..., Any], photo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(photos.raw(photo_data)))
    started: list[tuple[int, list[str]]] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("semikit.run.launch.launch", lambda count, words: started.append((count, list(words))) or 0)
    assert semikit("train", "seg", "--config", recipe, "--gpus", "2").code == 0
    assert started == [(2, ["train", "seg", "--config", str(recipe)])]
    answer = semikit("train", "seg", "--config", recipe, "--gpus", "2", "train.device=cuda")
    assert (answer.code, "CUDA devices of this machine: 0" in answer.err) == (2, True)


def test_seeds_are_not_restarted(
    semikit: Callable[..., Any], photo_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    answer = semikit("train", "seg", "--data", photo_data, *photos.FLAGS, "--labels", "4", "--seeds", "0,1")
    assert (answer.code, "--seeds does not go with --max-restarts" in answer.err) == (2, True)


def test_the_machines_share_the_run_folder(tmp_path: Path) -> None:
    seen_by_all(tmp_path)
    with pytest.raises(InputError, match="not every process sees the run folder"):
        seen_by_all(tmp_path / "elsewhere")
