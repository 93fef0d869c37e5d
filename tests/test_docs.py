"""What the pages of docs/ say is true of the program: commands parse, keys exist, links lead somewhere, code runs."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rich.text import Text

import semikit
from semikit.cli.app import app
from semikit.registry import METHODS, TASKS
from semikit.training.settings import OptimizerSettings, TrainSettings
from tests.helpers import georasters
from tests.test_readme import make_folders

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    ROOT / "benchmarks/README.md",
]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
SECTIONS = "data|model|method|views|evaluate|optimizer|train"


@cache
def reference() -> dict[str, Any]:
    """The functions that make the reference."""
    return runpy.run_path(str(ROOT / "docs/_site/reference.py"))


@cache
def known_keys() -> frozenset[str]:
    owners = [("optimizer", OptimizerSettings), ("train", TrainSettings)]
    owners += [("method", METHODS.get(name).Config) for name in METHODS.names()]
    for task in map(TASKS.get, TASKS.names()):
        owners += [(part, getattr(task, part.title())) for part in ("data", "model", "views", "evaluate")]
    found = {key: text for section, owner in owners for key, _, text in reference()["keys"](owner, section)}
    assert not [key for key, text in found.items() if not text], "keys without a description"
    return frozenset(found)


def code(page: Path, languages: str) -> list[str]:
    """The blocks of a page in some languages, without their indentation."""
    blocks = re.findall(rf"^( *)```(?:{languages})\n(.*?)^ *```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return ["\n".join(line.removeprefix(indent) for line in block.splitlines()) for indent, block in blocks]


def commands(page: Path) -> Iterator[str]:
    """Every `semikit …` of a page: lines of blocks, indented lines, and pieces of code in sentences."""
    text = page.read_text()
    lines = "\n".join([*code(page, "bash|console"), *re.findall(r"^ {4}(semikit .*)$", text, flags=re.MULTILINE)])
    inline = [" ".join(piece.split()) for piece in re.findall(r"(?<!`)`(semikit [^`]+)`(?!`)", text)]
    for line in [*lines.replace("\\\n", " ").splitlines(), *inline]:
        for part in re.split(r"&&|\||;", re.sub(r"(^|\s)#.*", "", line)):
            if found := re.match(r"(?:\$ )?\s*(?:[A-Z_]+=\S+ )*(?:torchrun .*-m )?(semikit .*)", part):
                yield found[1].strip()


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_the_options_it_is_shown_with(name: str) -> None:
    root = typer.main.get_command(app)
    for text in commands(ROOT / name):
        command, context, words = root, typer.Context(root), shlex.split(text)[1:]
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
            context = typer.Context(command, parent=context, info_name=text, **command.context_settings)
        if words and hasattr(command, "commands"):
            assert not re.fullmatch(r"[a-z]+", words[0]), f"{text}: no such command"
        else:
            # The last word may be an option that a sentence names without its value.
            command.make_parser(context).parse_args([*(word for word in words if word != "--verbose"), "X"])


@pytest.mark.parametrize("name", NAMES)
def test_every_key_exists(name: str) -> None:
    text = (ROOT / name).read_text()
    pieces = [*re.findall(r"(?<!`)`([^`]+)`(?!`)", text), *code(ROOT / name, "bash|console")]
    keys = {key for piece in pieces for key in re.findall(rf"(?<![\w./-])((?:{SECTIONS})\.[a-z_.]+)=", piece)}
    assert keys <= known_keys()


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    links = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", (ROOT / name).read_text())
    assert [link for link in links if not ((ROOT / name).parent / link).exists()] == []


def test_every_page_stands_in_the_navigation() -> None:
    parts = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    entries = [entry for part in parts for group in part.values() for entry in group]
    listed = {next(iter(entry.values())) if isinstance(entry, dict) else entry for entry in entries}
    written = {page.relative_to(ROOT / "docs").as_posix() for page in ROOT.glob("docs/**/*.md")}
    written = {page for page in written if not page.startswith("design/")}
    assert listed == written | {"notebook.md", "benchmarks/*", "design/*", "contributing.md", "changelog.md"}


def test_the_reference_names_everything() -> None:
    pages = {name: reference()[name]() for name in ("commands", "configuration", "python")}
    assert {f"<!-- reference: {name} -->" in (ROOT / f"docs/reference/{name}.md").read_text() for name in pages} == {
        True
    }
    for name, _ in reference()["leaves"](typer.main.get_command(app), "semikit"):
        assert f"## {name}\n" in pages["commands"]
    assert not [
        key for key in known_keys() if f"`{key}`" not in pages["configuration"] and not key.startswith("method")
    ]
    assert (
        "| `train.batch` | `8` | whole number ≥ 1 | Labelled images per step over all processes. |"
        in pages["configuration"]
    )
    assert [name for name in semikit.__all__ if f"## {name}\n" not in pages["python"]] == []
    methods = (ROOT / "docs/methods.md").read_text()
    assert set(re.findall(r"<!-- settings: (\w+) -->", methods)) == {*METHODS.names(), "shared"}
    assert "| `method.rate` | `0.5` |" in reference()["settings_of"]("unimatch_v1")


def test_brackets_of_help_texts_are_shown() -> None:
    for name, command in reference()["leaves"](typer.main.get_command(app), "semikit"):
        for text in (command.help, *(getattr(parameter, "help", None) or "" for parameter in command.params)):
            assert Text.from_markup(text).plain == text, name


def test_the_code_of_the_pages_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_folders(tmp_path)
    (tmp_path / "photo.jpg").write_bytes((tmp_path / "val/images/0.png").read_bytes())
    (spec,) = code(ROOT / "docs/index.md", "yaml")
    (tmp_path / "my.yaml").write_text(spec)
    small = {"encoder": "mobilenetv3_small_050", "decoder": "dpt", "weights": "none", "crop": 32, "batch": 2}
    settings = {"model.decoder_channels": 8, "train.group": 2}
    real = semikit.train

    def train(task: str, **given: Any) -> semikit.Run:
        given["settings"] = {**given["settings"], **settings}
        return real(task, **given, **small, iterations=2, workers=0, device="cpu")

    monkeypatch.setattr(semikit, "train", train, raising=False)
    (block,) = code(ROOT / "docs/index.md", "python")
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["found"].classes.shape == (40, 48)
    georasters.save(tmp_path / "oscd/rome/A.tif", georasters.ramp(40, 50, bands=4, dtype="uint16"))
    monkeypatch.setattr(sys, "argv", ["classes.py", "rome"])
    (block,) = code(ROOT / "docs/maps.md", "python")
    exec(block, {})
    assert (tmp_path / "masks/rome.tif").is_file()
