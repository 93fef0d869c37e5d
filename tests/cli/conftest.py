from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from semikit.cli.app import run
from semikit.training import tracking
from semikit.training.tracking import draw_curves
from semikit.training.trainer import Trainer
from tests.helpers import photos


@dataclass
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def semikit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs one command in this process, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run([str(item) for item in arguments])
        told = capsys.readouterr()
        return Answer(code, told.out, told.err)

    return call


@pytest.fixture
def train(semikit: Call, photo_data: Path) -> Call:
    """`semikit train seg` on small photographs with a small network, two iterations; more arguments go last."""

    def call(*arguments: object, data: Path = photo_data) -> Answer:
        flags = ("--data", data, *photos.FLAGS, "--labels", "4", "--iterations", "2")
        return semikit("train", "seg", *flags, *arguments)

    return call


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Makes every run stop after that many iterations as if a signal had come."""
    plain = Trainer._next

    def stop_at(step: int | None) -> None:
        def next_batch(self: Trainer, iterator: Any, asked: bool) -> Any:
            return plain(self, iterator, asked or self.step == step)

        monkeypatch.setattr(Trainer, "_next", next_batch)

    return stop_at


@pytest.fixture(scope="session")
def trained(photo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of four iterations, with curves; nobody may change what lies there."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    flags = ["--data", str(photo_data), *photos.FLAGS, "--labels", "4", "--iterations", "4", "--eval-every", "2"]
    flags += ["optimizer.lr=0.01", "optimizer.encoder_lr=0.001"]  # or every pixel gets the same class
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "draw_curves", draw_curves)
        assert run(["train", "seg", *flags, "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="session")
def runs(
    trained: Path, small: dict[str, tuple[ModuleType, Path]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A small run of each task; nobody may change what lies there."""
    folder = tmp_path_factory.mktemp("small")
    for task in ("cd", "cls"):
        module, data = small[task]
        flags = ["--data", str(data), *module.FLAGS, "--labels", "6", "--iterations", "2", "--out", str(folder / task)]
        assert run(["train", task, *flags, "--quiet"]) == 0
    return {"seg": trained, "cd": folder / "cd", "cls": folder / "cls"}
