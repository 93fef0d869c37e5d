"""Configurations, descriptions of data, lists and records changed at random: success, or one message and exit 2."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import icons, mutations, pairs, photos, trials

Fuzzed = Callable[..., Counter[str]]

TASKS = ("seg", "cd", "cls")
FEW, MANY = (
    6,
    {
        "config": 1800,
        "recipe": 700,
        "data": 700,
        "override": 400,
        "run": 400,
        "labels": 500,
        "root": 500,
        "compare": 300,
    },
)
"""Cases of each kind in `make test`, and in `make faults`."""


@dataclass(frozen=True)
class Grounds:
    """What is made once and copied or linked by cases."""

    raw: dict[str, dict[str, Any]]
    data: dict[str, Path]
    flags: dict[str, list[str]]
    run: Path
    root: Path


@pytest.fixture(scope="module")
def grounds(miniature: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Grounds:
    base = tmp_path_factory.mktemp("grounds")
    made = {
        "seg": (photos, photos.write(base / "seg", 4, 3, 1, 1)),
        "cd": (pairs, pairs.write(base / "cd", 4, 3, 1, 1)),
        "cls": (icons, icons.write(base / "cls", 3, 1, 1)),
    }
    labels = {"seg": "2", "cd": "2", "cls": "3"}
    raw = {task: module.raw(data, data={"labels": labels[task]}) for task, (module, data) in made.items()}
    flags = {task: [*made[task][0].FLAGS, "--labels", labels[task], "--iterations", "1"] for task in TASKS}
    run, data = base / "run", {task: path for task, (_, path) in made.items()}
    assert trials.called("train", "seg", "--data", data["seg"], *flags["seg"], "--out", run, "--quiet").code == 0
    assert (
        trials.called("data", "prepare", "pascal", "--source", miniature("pascal"), "--root", base / "root").code == 0
    )
    return Grounds(raw, data, flags, run, base / "root")


def _task(rng: Any) -> str:
    return TASKS[int(rng.integers(3))]


def config(grounds: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """A whole recipe of changed values."""
    task = _task(rng)
    raw = mutations.altered(rng, grounds.raw[task])
    (box / "recipe.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return trial(["train", task, "--config", "recipe.yaml", "--dry-run"])


def recipe(grounds: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """A whole recipe whose text is changed."""
    task = _task(rng)
    text = yaml.safe_dump(grounds.raw[task], sort_keys=False)
    (box / "recipe.yaml").write_bytes(mutations.garbled(rng, text))
    return trial(["train", task, "--config", "recipe.yaml", "--dry-run"])


def data(grounds: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """The description of data: its values or its text."""
    task = _task(rng)
    text = grounds.data[task].read_text()
    if rng.random() < 0.5:
        changed = yaml.safe_dump(mutations.altered(rng, yaml.safe_load(text)), allow_unicode=True).encode()
    else:
        changed = mutations.garbled(rng, text)
    (box / "data.yaml").write_bytes(changed)
    folder = grounds.data[task].parent
    return trial(["train", task, "--data", "data.yaml", "--root", folder, *grounds.flags[task], "--dry-run"])


def override(grounds: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """Settings on the command line."""
    task = _task(rng)
    places = [key for key in _keys(grounds.raw[task]) if not key.startswith("data")]
    given = []
    for _ in range(int(rng.integers(1, 4))):
        value = mutations.pick(rng, mutations.JUNK)
        text = yaml.safe_dump(value, default_flow_style=True) if rng.random() < 0.6 else str(value)
        given.append(f"{mutations.pick(rng, places)}={text.strip()}")
    return trial(["train", task, "--data", grounds.data[task], *grounds.flags[task], "--dry-run", "--", *given])


def run(grounds: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """A run folder whose configuration or record is changed."""
    shutil.copytree(grounds.run, box / "run")
    name = mutations.pick(rng, ("config.yaml", "config.yaml", "split.json", "results.csv"))
    path = box / "run" / name
    if name == "config.yaml" and rng.random() < 0.5:
        raw = mutations.altered(rng, yaml.safe_load(path.read_text()))
        path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    else:
        path.write_bytes(mutations.garbled(rng, path.read_text()))
    resume = ["train", "seg", "--resume", "run", "--quiet"]
    return trial(mutations.pick(rng, (["evaluate", "run", "--quiet"], resume)))


def labels(grounds: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """A list of labelled images."""
    task = _task(rng)
    names = (grounds.run / "labeled.txt").read_text() if task == "seg" else "train0\ntrain1\n# all\n" * (task == "cd")
    (box / "list.txt").write_bytes(mutations.garbled(rng, names or "blue/0\ngreen/1\nred/2\n"))
    flags = [*grounds.flags[task], "--labels", "list.txt"]
    return trial(["train", task, "--data", grounds.data[task], *flags, "--dry-run"])


def root(grounds: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """The record or a list of a prepared root."""
    shutil.copytree(grounds.root, box / "root", copy_function=_linked)
    name = mutations.pick(rng, ("semikit.json", "lists/train.txt", "lists/val.txt"))
    path = box / "root" / name
    text = path.read_text()
    path.unlink()
    if name == "semikit.json" and rng.random() < 0.5:
        path.write_text(json.dumps(mutations.altered(rng, json.loads(text)), default=str))
    else:
        path.write_bytes(mutations.garbled(rng, text))
    train = ["train", "seg", "--dataset", "pascal", *grounds.flags["seg"], "--root", "root", "--dry-run"]
    verify = ["data", "verify", "pascal", "--root", "root"]
    prepare = ["data", "prepare", "pascal", "--source", "root", "--root", "root"]
    return trial(mutations.pick(rng, (train, verify, verify, prepare)))


def compare(grounds: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """What a run wrote, beside the paper."""
    shutil.copytree(grounds.run, box / "run")
    path = box / "run" / mutations.pick(rng, ("results.json", "results.csv", "config.yaml"))
    path.write_bytes(mutations.garbled(rng, path.read_text()))
    return trial(["reproduce", "--compare", "table1", "run"])


def _linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _keys(value: Any, where: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    return [key for name, item in value.items() for key in (f"{where}{name}", *_keys(item, f"{where}{name}."))]


KINDS = {"config": config, "recipe": recipe, "data": data, "override": override}
KINDS |= {"run": run, "labels": labels, "root": root, "compare": compare}


@pytest.mark.parametrize("kind", KINDS)
def test_a_few(kind: str, grounds: Grounds, fuzzed: Fuzzed) -> None:
    fuzzed(kind, partial(KINDS[kind], grounds, trials.Trial), FEW)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
def test_many(kind: str, grounds: Grounds, fuzzed: Fuzzed) -> None:
    ends = fuzzed(kind, partial(KINDS[kind], grounds, trials.Trial), MANY[kind])
    assert not ends or {"0", "2"} <= set(ends), "all refused or none: the changes are too large or too small"
