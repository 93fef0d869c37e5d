"""The wheel holds the package, all of it and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def in_tree() -> set[str]:
    files = (path for path in (ROOT / "semikit").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_it_holds_the_files_of_the_tree(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == in_tree()
    assert {Path(name).suffix for name in held} >= {".py", ".yaml"}


def test_its_files_are_the_trees(wheel: zipfile.ZipFile) -> None:
    for name in in_tree():
        assert wheel.read(name) == (ROOT / name).read_bytes(), name


def test_it_brings_the_command(wheel: zipfile.ZipFile) -> None:
    (entry,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "semikit = semikit.__main__:main" in wheel.read(entry).decode()


def test_it_states_what_it_needs(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    assert "Requires-Python: >=3.11" in lines
    required = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    torch = [line for line in required if line.startswith(("torch>", "torch=", "torch<"))]
    assert torch == ["torch>=2.8"], "no version of torch is forced"
