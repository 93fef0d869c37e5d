"""The script for a GPU: parts end by themselves, fail or are stopped, and the report is there after each."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch
import typer

from benchmarks.accelerator import PYTHON, SEMIKIT, Part, Plan, main, run_all
from benchmarks.step.__main__ import app as step_app
from semikit.cli.app import app

SAVING = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(sys.argv[1]).write_text("12")
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
time.sleep(60)
"""


def python(code: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code, *map(str, arguments))


@pytest.mark.long
def test_parts_are_recorded_however_they_end(tmp_path: Path) -> None:
    out, saved, late = tmp_path / "out", tmp_path / "saved", tmp_path / "late"
    seen = f"import json; assert len(json.load(open({str(out / 'report.json')!r}))['parts']) == 1"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {late_writer(late)!r}])"
    parts = [
        Part("compiled step", [python("print(1)")], 20, lambda: {"ms": 70.0, "share of peak, %": 39.0}),
        Part("sees the report", [python(seen)], 20),
        Part("fails", [python("print('told'); raise SystemExit(3)"), python("never")], 20, lambda: {"a": 1 / 4}),
        Part("too slow", [python(child)], 1),
        Part("saves", [python(SAVING, saved)], 2, lambda: {"iteration": float(saved.read_text())}, timed=True),
        Part("reads nothing", [python("")], 20, lambda: {"x": float((tmp_path / "none").read_text())}),
    ]
    begun = time.monotonic()
    outcomes = run_all(parts, out, 60, {"device": "a processor"})
    assert time.monotonic() - begun < 40
    endings = {outcome.name: outcome.ended for outcome in outcomes}
    assert endings["compiled step"] == endings["sees the report"] == "done"
    assert endings["fails"] == "failed: exit code 3"
    assert endings["too slow"] == "failed: over its limit"
    assert endings["saves"] == "done: stopped at its limit"
    assert endings["reads nothing"].startswith("failed: nothing to read (FileNotFoundError")
    assert (out / "fails.txt").read_text() == "told\n"
    found = json.loads((out / "report.json").read_text())
    assert [part["name"] for part in found["parts"]] == [part.name for part in parts]
    assert found["parts"][4]["numbers"] == {"iteration": 12}
    told = (out / "report.md").read_text()
    assert "| DINOv2-B 8 + 8 at 518, ms a step | 70 | reached |" in told
    assert "| the same, share of the peak, % | 39 | missed |" in told
    assert "| WRN-28-2 64 + 448, ms a step |  | not measured |" in told
    assert "a processor" in told
    time.sleep(2.5)
    assert not late.exists(), "what a part started ends with it"


def late_writer(path: Path) -> str:
    return f"import time; time.sleep(3); open({str(path)!r}, 'w')"


def test_a_device_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "argv", ["accelerator", "--out", str(tmp_path / "out")])
    assert main() == 2
    assert "device 'cuda' is not available here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_part_begins_without_time(tmp_path: Path) -> None:
    outcomes = run_all([Part("one", [python("")], 20), Part("two", [python("")], 20)], tmp_path, 0.5, {})
    assert [outcome.ended for outcome in outcomes] == ["not run: no time left"] * 2


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize("data", [None, Path("data")])
def test_commands_are_those_of_this_version(tiny: bool, data: Path | None, tmp_path: Path) -> None:
    parts = list(Plan(tmp_path, "cpu" if tiny else "cuda", tiny, data).parts())
    assert len({part.name for part in parts}) == len(parts) == (12 if data is None else 15)
    semikit, step = typer.main.get_command(app), typer.main.get_command(step_app)
    for command in (command for part in parts for command in part.commands):
        if command[:3] == SEMIKIT:
            name, *arguments = command[3:]
            semikit.get_command(typer.Context(semikit), name).make_context(name, arguments)
        elif command[:3] == (PYTHON, "-m", "benchmarks.step"):
            step.make_context("step", list(command[3:]))
        else:
            assert command[1] == "-c", command
    assert tiny or sum(part.limit for part in parts[:3]) < 300, "the speeds leave time for the rest"
