from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from semikit.cli import output as progress
from semikit.data.published import fetch as fetching
from semikit.data.published import verify as verifying
from semikit.data.published.fetch import FetchReport
from semikit.errors import RunError

Call = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where data sets lie unless said otherwise."""
    monkeypatch.setenv("SEMIKIT_DATA", str(tmp_path / "sets"))
    return tmp_path / "sets"


def test_list(semikit: Call, home: Path) -> None:
    (home / "pascal").mkdir(parents=True)
    (home / "pascal/semikit.json").touch()
    (home / "coco").mkdir()
    (home / "svhn").mkdir()
    (home / "coco/.preparing").touch()
    answer = semikit("data", "list")
    assert answer.code == 0
    lines = {line.split()[0]: line for line in answer.out.splitlines()}
    pixels = ["ade20k", "cityscapes", "coco", "levir", "pascal", "whu", "clcd", "dsifn", "levir-plus", "oscd", "sysu"]
    assert sorted(lines) == sorted(["name", *pixels, "cifar10", "cifar100", "imagenet", "stl10", "svhn"])
    assert "73257 / - / 26032" in lines["svhn"]
    assert "extra 531131" in lines["svhn"]
    assert "1%, 10%" in lines["imagenet"]
    assert " there" in lines["svhn"]
    assert "not there" not in lines["svhn"]
    assert "not there" in lines["stl10"]
    assert "7120 / 1024 / 2048" in lines["levir"]
    assert "5%, 10%, 20%, 40%" in lines["whu"]
    assert "10582 / 1449" in lines["pascal"]
    assert "92, 183, 366, 732, 1464" in lines["pascal"]
    assert "train_extra 19998" in lines["cityscapes"]
    assert "non-commercial" in lines["cityscapes"]
    assert " prepared" in lines["pascal"]
    assert "begun, not finished" in lines["coco"]
    assert "not prepared" in lines["ade20k"]


LIGHT = """
import sys
from semikit.cli.app import run
code = run(["data", "list"])
assert not [name for name in ("torch", "timm", "kornia", "torchvision", "rasterio") if name in sys.modules]
sys.exit(code)
"""


def test_list_needs_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True, capture_output=True)


def test_fetch_says_what_is_left_to_do(semikit: Call, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def fetch(name: str, root: Path, parts: tuple[str, ...], *, splits_only: bool, progress: Call) -> FetchReport:
        asked.update(name=name, root=root, parts=parts, splits_only=splits_only)
        progress("train2017.zip", 1, 2)
        return FetchReport(
            ["train2017.zip"], ["val2017.zip"], ["val2017.zip"], ["own.zip: Log in [here]."], ["more.zip"]
        )

    monkeypatch.setattr(fetching, "fetch", fetch)
    monkeypatch.setattr(fetching, "by_hand", lambda *of: ["own.zip: Log in [here]."])
    answer = semikit("data", "fetch", "coco", "--part", "train", "--part", "val")
    assert answer.code == 0
    assert asked == {"name": "coco", "root": home / "coco", "parts": ("train", "val"), "splits_only": False}
    assert answer.out.splitlines() == [
        "by hand: own.zip: Log in [here].",
        "fetched: train2017.zip",
        "already there: val2017.zip",
        "note: no checksum is published for val2017.zip: its length and the archive were checked",
        "optional: more.zip",
        f"then: semikit data prepare coco --source {home / 'coco/downloads'} --root {home / 'coco'}",
    ]
    assert answer.err == ""


def test_instructions_come_first_where_nothing_answers(
    semikit: Call, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*rest: object) -> None:
        raise RunError("nobody answers")

    monkeypatch.setattr(fetching, "_fetch_lists", nothing)
    answer = semikit("data", "fetch", "cityscapes")
    assert answer.code == 3
    assert "gtFine_trainvaltest.zip" in answer.out


def test_fetch_of_what_needs_an_account(semikit: Call, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_fetch_lists", lambda *rest: None)
    answer = semikit("data", "fetch", "cityscapes")
    assert answer.code == 0
    by_hand = [line for line in answer.out.splitlines() if line.startswith("by hand: ")]
    assert [line.split()[2] for line in by_hand] == ["leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"]
    for line, package in zip(by_hand, (3, 1), strict=True):
        assert f"https://www.cityscapes-dataset.com/file-handling/?packageID={package}" in line
        assert f"Put the file into {home / 'cityscapes/downloads'}." in line
    assert "optional: leftImg8bit_trainextra.zip" in answer.out
    assert "--part train_extra" in answer.out


@pytest.mark.parametrize("name", ["pascal", "ade20k", "levir"])
def test_prepare_and_verify(semikit: Call, home: Path, miniature: Callable[[str], Path], name: str) -> None:
    answer = semikit("data", "prepare", name, "--source", miniature(name))
    assert answer.code == 0, answer.err
    assert "note: a part: " in answer.out
    assert answer.out.splitlines()[-1] == f"next: semikit data verify {name} --root {home / name}"
    answer = semikit("data", "verify", name, "--all")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1] == "nothing wrong was found"


def test_verify_says_all_that_is_wrong(semikit: Call, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = SimpleNamespace(lines=["500 images"], notices=["a part"], problems=["3 masks are gone", "2 are RGB"])
    monkeypatch.setattr(verifying, "verify", lambda name, root, every, progress: report)
    answer = semikit("data", "verify", "pascal", "--root", home)
    assert answer.code == 2
    assert answer.out == "500 images\nnote: a part\n"
    assert answer.err == "error: pascal: 2 found to be wrong\n- 3 masks are gone\n- 2 are RGB\n"


@pytest.mark.parametrize("command", [("fetch", "pascl"), ("prepare", "pascl", "--source", "."), ("verify", "pascl")])
def test_unknown_data_set(semikit: Call, home: Path, command: tuple[str, ...]) -> None:
    answer = semikit("data", *command)
    assert answer.code == 2
    assert answer.err.startswith("error: unknown published data set 'pascl'. Did you mean 'pascal'?")
    assert not home.exists()


def test_unknown_part(semikit: Call, home: Path) -> None:
    answer = semikit("data", "fetch", "coco", "--part", "test")
    assert answer.code == 2
    assert "unknown part of the downloads of coco 'test'" in answer.err
    assert not home.exists()


@pytest.mark.parametrize(
    ("command", "word"), [("list", "splits"), ("fetch", "--part"), ("prepare", "--source"), ("verify", "--all")]
)
def test_help(semikit: Call, command: str, word: str) -> None:
    answer = semikit("data", command, "--help")
    assert answer.code == 0
    assert word in answer.out


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "Console", lambda **more: Console(force_terminal=True, width=80, **more))
    with progress.progress_bar() as told:
        told("train2017.zip", 0, 0)
        told("train2017.zip", 5, 10)
    assert "train2017.zip" in capsys.readouterr().err


def test_a_list_of_labelled_images(semikit: Call, photo_data: Path) -> None:
    half = ("data", "split", "seg", "--data", photo_data, "--labels", "1/2")
    answer = semikit(*half, "--seed", "3", "-o", "lists/few.txt")
    assert answer.code == 0, answer.err
    names = Path("lists/few.txt").read_text().splitlines()
    assert f"{len(names)} labelled images in lists/few.txt" in answer.out
    shown = semikit("train", "seg", "--data", photo_data, "--labels", "lists/few.txt", "--dry-run", "--weights", "none")
    assert f"{len(names)} labelled" in shown.out, shown.err
    again = semikit(*half, "--seed", "3", "-o", "again.txt")
    assert again.code == 0
    assert Path("again.txt").read_text().splitlines() == names
    other = semikit(*half, "--seed", "4", "-o", "other.txt")
    assert other.code == 0
    assert Path("other.txt").read_text().splitlines() != names
    assert semikit("data", "split", "seg", "--data", photo_data, "--labels", "1", "-o", "again.txt").code == 2
    assert semikit("data", "split", "seg", "--data", photo_data, "--labels", "99", "-o", "more.txt").code == 2
    assert not Path("more.txt").exists()
