"""What answers at once: without importing torch, timm or kornia."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise

import pytest

HEAVY = (
    "torch",
    "timm",
    "kornia",
    "torchvision",
    "matplotlib",
    "rasterio",
    "tensorboard",
    "transformers",
    "torchmetrics",
)

PROGRAM = f"""
import io, json, sys, time
from contextlib import redirect_stderr, redirect_stdout
import numpy, pydantic, typer, typer.rich_utils, yaml
libraries = time.process_time()
from semikit.cli.app import run

answers = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(arguments)
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    answers.append([code, out.getvalue(), err.getvalue(), heavy, time.process_time() / libraries])
print(json.dumps(answers))
"""

COMMANDS: dict[str, tuple[list[str], int, str]] = {
    "help": (["--help"], 0, "Usage"),
    "help tells of tracebacks": (["--help"], 0, "--verbose, with any command, shows the traceback"),
    "decoders": (["list", "models"], 0, "deeplabv3plus"),
    "help of train": (["train", "--help"], 0, "--labels"),
    "help of evaluate": (["evaluate", "--help"], 0, "--average"),
    "help of predict": (["predict", "--help"], 0, "--confidence"),
    "methods": (["list", "methods"], 0, "unimatch_v2"),
    "models": (["list", "models"], 0, "vit_small_patch14_dinov2.lvd142m"),
    "datasets": (["list", "datasets"], 0, "shapes"),
    "published data": (["data", "list"], 0, "cityscapes"),
    "tables of the paper": (["reproduce"], 0, "table1"),
    "cells of a table": (["reproduce", "table1", "--dry-run"], 0, "table1/unimatch-v2-dinov2-base/183"),
    "unknown published data": (["data", "fetch", "citycapes"], 2, "Did you mean 'cityscapes'"),
    "presets": (["list", "presets"], 0, "preset"),
    "unknown list": (["list", "modells"], 2, "unknown list 'modells'. Did you mean 'models'"),
    "unknown command": (["trian", "seg"], 2, "No such command 'trian'"),
    "unknown flag": (["train", "seg", "--lables", "4"], 2, "No such option: --lables"),
    "unknown task": (["train", "sec"], 2, "unknown task 'sec'. Did you mean 'seg'"),
    "unknown method": (["train", "seg", "--method", "unimatch_v3"], 2, "Did you mean 'unimatch_v2' or 'unimatch_v1'"),
    "unknown data set": (["train", "seg", "--dataset", "shape"], 2, "unknown data set 'shape'. Did you mean 'shapes'"),
    "unknown preset": (["train", "seg", "--preset", "no-such"], 2, "unknown preset 'no-such'"),
    "no such data file": (["train", "seg", "--data", "no.yaml"], 2, "no such file: no.yaml"),
    "malformed override": (["train", "seg", "threshold:0.9"], 2, "cannot read 'threshold:0.9'"),
    "nothing to evaluate": (["evaluate", "no-run"], 2, "no-run does not exist"),
    "unknown average": (["evaluate", ".", "--average", "papre"], 2, "unknown --average 'papre'. Did you mean 'paper'"),
    "nothing to predict with": (["predict", "no-run", "x.png", "-o", "out"], 2, "no-run does not exist"),
    "no run to resume": (["train", "seg", "--resume", "no-run", "--data", "x.yaml"], 2, "leave out --data"),
}


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[int, str, str, list[str], float]]:
    commands = json.dumps([arguments for arguments, _, _ in COMMANDS.values()])
    done = subprocess.run([sys.executable, "-c", PROGRAM, commands], capture_output=True, text=True, check=True)
    return dict(zip(COMMANDS, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", COMMANDS)
def test_answers_without_anything_heavy(answers: dict[str, tuple[int, str, str, list[str], float]], name: str) -> None:
    _, expected, words = COMMANDS[name]
    code, out, err, heavy, _ = answers[name]
    told = " ".join((out + err).replace("│", " ").split())
    assert code == expected, told
    assert words in told
    assert "Traceback" not in told
    assert not heavy
    assert (err == "") == (expected == 0)


def test_answers_cost_little_beside_the_libraries_of_the_command_line(
    answers: dict[str, tuple[int, str, str, list[str], float]],
) -> None:
    """In processor time, as multiples of what these libraries took to load in the same process: the clock, and seconds
    themselves, depend on who else works here.

    The first answer came after two and a half times that (0.6 s), any further one within one; torch alone is five.
    """
    assert answers["help"][4] < 4
    assert max(after[4] - before[4] for before, after in pairwise(answers.values())) < 3


def test_the_console_script_returns_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "semikit", "list", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown list 'nonsense'")
