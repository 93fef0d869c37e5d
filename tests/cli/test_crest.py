"""CReST's generations: each but the first also learns labels that the one before gave, and a chain goes on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import semikit as package
from semikit.errors import InputError
from semikit.run import build, recipes, rounds
from semikit.run.audit import _alone
from semikit.run.config import resolve
from semikit.run.resume import _known_before, read_run_config
from semikit.run.teacher import rounds_of
from semikit.training.checkpoint import LAST, read_checkpoint
from semikit.training.reporter import Reporter
from semikit.training.trainer import Interrupted
from tests.cli.test_rounds import stopping
from tests.helpers import icons, pairs, photos
from tests.helpers.equality import differences
from tests.helpers.processes import Server

LABELS = (1, 4, 2)
"""Labelled images of each class."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two generations of two steps on a few images, of which some classes are labelled more often than others."""
    folder = tmp_path_factory.mktemp("icons")
    made = icons.raw(icons.write(folder, val=1, test=1), "crest")
    names = [f"{name}/{k}" for name, count in zip(icons.CLASSES, LABELS, strict=True) for k in range(count)]
    (folder / "labels.txt").write_text("\n".join(names))
    made["data"]["labels"] = str(folder / "labels.txt")
    made["method"] |= {"generations": 2, "threshold": 0.1}
    made["train"] |= {"iterations": 2, "eval_every": 2, "save_every": 1}
    return made


def config_file(data: dict[str, Any], folder: Path) -> Path:
    (folder / "crest.yaml").write_text(yaml.safe_dump(data))
    return folder / "crest.yaml"


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "1-generation" / "picked.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_second_generation_learns_what_the_first_picked(data: dict[str, Any], tmp_path: Path) -> None:
    config = config_file(data, tmp_path)
    folder = package.train("cls", config=config, out=tmp_path / "whole", reporter=Reporter()).folder
    rows, labeled = rows_of(folder), (folder / "labeled.txt").read_text().splitlines()
    assert rows
    assert not {row["image"] for row in rows} & set(labeled)
    told = (folder / "log.txt").read_text()
    assert f"icons: {7 + len(rows)} labelled · 24 unlabelled" in told
    assert f"also labelled: {len(rows)} unlabelled images, by a table" in told
    assert len(labeled) == 7, "labels are those that were given"
    assert "icons: 7 labelled" in (folder / "1-generation" / "log.txt").read_text()
    assert list(json.loads((folder / "results.json").read_text())["rounds"]) == ["1-generation"]
    own, before = (yaml.safe_load((place / "config.yaml").read_text()) for place in (folder, folder / "1-generation"))
    assert own["data"]["also_labeled"] is None
    shares = [one["method"]["alignment"]["target"] for one in (before, own)]
    assert shares[0] == shares[1] == pytest.approx([count / 7 for count in LABELS], abs=1e-6)
    assert [one["method"]["alignment"]["progressive"] for one in (before, own)] == [1, 0.5]


@pytest.mark.long
def test_a_chain_goes_on_where_it_stopped_and_where_it_was_moved_to(data: dict[str, Any], tmp_path: Path) -> None:
    config, parts = config_file(data | {"method": data["method"] | {"generations": 3}}, tmp_path), tmp_path / "parts"
    folder = package.train("cls", config=config, out=tmp_path / "whole", reporter=Reporter()).folder
    for at in ((1,), (None, 1), (None, 1)):  # in the first generation, the second, and the run's own
        arguments: Any = {"resume": parts} if parts.exists() else {"config": config, "out": parts}
        with pytest.raises(Interrupted):
            package.train("cls", **arguments, reporter=stopping(*at))
        parts = parts.rename(parts.with_name(f"{parts.name}-moved"))
    package.train("cls", resume=parts, reporter=Reporter())
    assert rows_of(parts) == rows_of(folder)
    states = [read_checkpoint(run / "weights" / LAST) for run in (folder, parts)]
    assert not differences(states[0]["method"], states[1]["method"])
    for run in (parts, parts / "2-generation"):
        package.evaluate(run)


@pytest.mark.long
def test_a_chain_that_was_killed_between_generations_picks_first(data: dict[str, Any], tmp_path: Path) -> None:
    config, run = config_file(data, tmp_path), tmp_path / "run"
    with pytest.raises(Interrupted):
        package.train("cls", config=config, out=run, reporter=stopping(None, 1))
    rows, config_of_own = rows_of(run), (run / "config.yaml").read_text()
    for name in ("1-generation/picked.csv", "split.json", "labeled.txt", "unlabeled.txt", "census.json"):
        (run / name).unlink()
    for path in (run / "weights").iterdir():
        path.unlink()
    package.train("cls", resume=run, reporter=Reporter())
    assert rows_of(run) == rows
    assert (run / "results.json").is_file()
    assert (run / "config.yaml").read_text() == config_of_own


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_processes_pick_what_one_does(tmp_path: Path, server: Server) -> None:
    data, run = icons.write(tmp_path / "icons"), tmp_path / "run"
    (tmp_path / "labels.txt").write_text("blue/0\nblue/1\nblue/2\ngreen/0\nred/0\n")
    asked = ["train", "cls", "--data", data, "--labels", tmp_path / "labels.txt", "--method", "crest", *icons.FLAGS]
    asked += ["views.size=null", "train.group=2", "--iterations", "2", "--eval-every", "2", "method.generations=2"]
    for ended in server.run_together(2, *asked, "--out", run):
        assert ended.code == 0, ended.out
    assert (run / "results.json").is_file()
    together, config = rows_of(run), read_run_config(run, {})
    (run / "1-generation" / "picked.csv").unlink()
    rounds._rank(config, run / "1-generation", rounds_of(config)[0])
    assert [row["image"] for row in together] == [row["image"] for row in rows_of(run)]
    for row, alone in zip(together, rows_of(run), strict=True):
        assert row["label"] == alone["label"]
        assert float(row["confidence"]) == pytest.approx(float(alone["confidence"]), abs=1e-4)


def test_what_a_table_labels_is_learned_besides(data: dict[str, Any], tmp_path: Path) -> None:
    """Shares of the classes are those of the labels that were given; the truth of what a table labels is not read."""
    made = {**data, "data": dict(data["data"])}
    plain: Any = build.build_task(resolve(made))
    names, labeled = plain.learned.split.pool.names, set(plain.learned.split.labeled)
    free = [k for k in range(len(names)) if k not in labeled][:2]
    table = tmp_path / "more.csv"
    table.write_text(f"image,label\n{names[free[0]]},red\n{names[free[1]]},blue\n")
    made["data"]["also_labeled"] = str(table)
    task: Any = build.build_task(resolve(made))
    task.network(resolve(made).model)
    assert task.counts.labeled == 9
    assert task.counts.unlabeled == 24
    assert task.maker.labels[-2:].tolist() == [2, 0]
    assert task.maker.rows["labeled"][-2:].tolist() == free
    assert task.labelled_census().holding == LABELS
    assert task.manifest()["counts"]["labeled"] == 7
    assert "also_labeled" not in plain.manifest()
    changes = recipes.difference(plain.manifest(), _known_before(plain.manifest(), task.manifest()))
    assert [line.partition(":")[0] for line in changes] == ["also_labeled"], "one that was empty when a run began"
    image = names[free[0]]
    for written in (f"image,label\n{image},red\n".encode("utf-8-sig"), f"label;image\r\nred;{image}\r\n".encode()):
        table.write_bytes(written)
        assert [*build.build_task(resolve(made)).learned.split.also.values()] == [2]  # type: ignore[attr-defined]
    for text, words in (
        ("label,image\nred\n", "no unlabelled images of this run"),
        (f"image,label\n{image}\n", "unknown class"),
        ("image,class\n", "has no columns image and label"),
        (f"image,label\n{names[next(iter(labeled))]},red\n", "no unlabelled images of this run"),
        (f"image,label\n{image},red\n{image},blue\n", "names an image twice"),
        (f"image,label\n{image},reds\n", "Did you mean 'red'"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=words):
            build.build_task(resolve(made))
    made["data"]["also_labeled"] = str(tmp_path / "none.csv")
    with pytest.raises(InputError, match="there is no file"):
        build.build_task(resolve(made))
    with pytest.raises(InputError, match="crest labels images itself"):
        rounds_of(resolve(made))
    made["method"] = {"name": "supervised"}
    assert _alone(made | {"train": {}}) == (
        {**made, "train": {"start_from": None}, "data": {**made["data"], "also_labeled": None}},
        made["data"]["also_labeled"],
    )


def test_what_cannot_be_labelled_once_is_refused(small: Any, tmp_path: Path) -> None:
    for module, task in ((photos, "seg"), (pairs, "cd")):
        config = tmp_path / f"{task}.yaml"
        config.write_text(yaml.safe_dump(module.raw(small[task][1], "crest")))
        with pytest.raises(InputError, match="whole images only"):
            package.train(task, config=config, out=tmp_path / "run", reporter=Reporter())
    assert not (tmp_path / "run").exists()
