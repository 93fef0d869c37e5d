"""Methods that take several runs: what each learns from whom, and that an interrupted chain goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import semikit as package
from semikit.core.method import Round
from semikit.errors import InputError
from semikit.methods.selftrain import SelfTrainConfig
from semikit.methods.stpp import STPPConfig
from semikit.registry import METHODS
from semikit.run import build, rounds
from semikit.run.config import resolve
from semikit.run.folder import find_run
from semikit.training.checkpoint import LAST, read_best, read_checkpoint
from semikit.training.reporter import Reporter
from semikit.training.trainer import Interrupted
from tests.helpers import photos, tiny
from tests.helpers.equality import differences
from tests.helpers.processes import Server

ALONE = {"name": "supervised"}


def test_the_runs_that_a_method_takes() -> None:
    labeled = Round("1-labelled", {"method": ALONE, "train": {"snapshots": 3, "patience": None}}, reliable=0.5)
    reliable = Round("2-reliable", teachers=("1-labelled",), only="1-labelled")
    assert METHODS.get("stpp").rounds(STPPConfig()) == [labeled, reliable, Round("", teachers=("2-reliable",))]
    taken = METHODS.get("selftrain").rounds
    one = Round("1-labelled", {"method": ALONE, "train": {}})
    assert taken(SelfTrainConfig()) == [one, Round("", teachers=("1-labelled",))]
    several = taken(SelfTrainConfig(teachers=({}, {"model": {"encoder": "dinov2-base"}}), rounds=2))
    assert [item.folder for item in several] == ["1-labelled-1", "1-labelled-2", "2-all", ""]
    assert [item.seeds for item in several] == [0, 1, 0, 0]
    assert several[1].settings["model"] == {"encoder": "dinov2-base"}
    assert several[2].teachers == ("1-labelled-1", "1-labelled-2")
    assert several[3].teachers == ("2-all",)
    assert not taken(SelfTrainConfig(teacher="runs/seg/before"))
    assert not METHODS.get("unimatch_v2").rounds(None)


def test_stability_is_the_mean_iou_with_the_last_prediction() -> None:
    """As LiheYoung/ST-PlusPlus@f4e7a57:utils.py has it, by hand: of classes 0 and 1 of three 4 and 2 pixels here, 3
    and 3 there, 3 and 2 in both: IoU 3/4 and 2/3; class 2 comes in neither.
    """
    one, other = np.array([[0, 0, 0], [0, 1, 1]]), np.array([[0, 0, 0], [1, 1, 1]])
    assert rounds.mean_iou(one, other, 3) == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert [rounds.mean_iou(np.array(1), np.array(k), 3) for k in (1, 2)] == [1.0, 0.0]


@pytest.mark.parametrize("pixels", [True, False])
def test_all_hard_labels_are_learned_or_the_mean_of_several(pixels: bool) -> None:
    first, second = (tiny.network(seed, pixels=pixels).eval() for seed in (1, 2))
    second.head.weight.data.neg_()
    plugin: Any = METHODS.get("selftrain")
    method = plugin(tiny.network(pixels=pixels), SelfTrainConfig(), tiny.run_info()).train()
    labeled, unlabeled = tiny.batch(method.run_info, plugin.requirements(method.config), pixels=pixels)
    said = [network(unlabeled.weak).argmax(1) for network in (first, second)]
    assert not torch.equal(*said)
    method.given = (first,)
    weak = method.pseudo_labels(unlabeled, 0).weak
    assert torch.equal(weak.labels, said[0])
    assert weak.probabilities is None
    assert torch.equal(weak.weights > 0, unlabeled.valid), "no threshold"
    method.given = (first, second)
    pseudo = method.pseudo_labels(unlabeled, 0)
    for k in range(3):
        share = ((said[0] == k).float() + (said[1] == k).float()) / 2
        assert torch.equal(pseudo.weak.probabilities[:, k], share)
    result = method(labeled, unlabeled, pseudo)
    result.loss.backward()
    assert torch.isfinite(result.loss)
    assert all(p.grad is None for p in (*first.parameters(), *second.parameters()))


def test_only_the_named_unlabelled_images_are_learned(photo_data: Path, tmp_path: Path) -> None:
    raw = photos.raw(photo_data)
    split = build.build_task(resolve(raw)).learned.split  # type: ignore[attr-defined]
    names = [split.pool.names[k] for k in split.unlabeled]
    listed = tmp_path / "only.txt"
    listed.write_text(f"{names[1]}\n{names[0]}\n")
    raw["data"]["only"] = str(listed)
    kept = build.build_task(resolve(raw)).learned.split  # type: ignore[attr-defined]
    assert [kept.pool.names[k] for k in kept.unlabeled] == names[:2]
    assert kept.labeled == split.labeled
    for text, words in (("strange\n", "names strange, no unlabelled"), ("", "names no image")):
        listed.write_text(text)
        with pytest.raises(InputError, match=words):
            build.build_task(resolve(raw))


def config_file(small: Any, task: str, method: str, folder: Path, **settings: Any) -> Path:
    module, data = small[task]
    raw = module.raw(data, method, train={"iterations": 3, "eval_every": 3, "save_every": 1})
    raw["method"] |= settings
    path = folder / f"{method}.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


class Stopping(Reporter):
    """Stops the run at a step."""

    def __init__(self, at: int | None) -> None:
        self.at, self.steps = at, 0

    def advance(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def stopping(*at: int | None) -> Callable[[], Reporter]:
    """Of the runs of a chain each stops at its step, None: none."""
    steps = iter(at)
    return lambda: Stopping(next(steps, None))


@pytest.mark.long
@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
def test_stpp_is_three_runs_and_goes_on_where_it_stopped(small: Any, tmp_path: Path, task: str) -> None:
    config = config_file(small, task, "stpp", tmp_path)
    whole = package.train(task, config=config, out=tmp_path / "whole", reporter=Reporter())
    folder = whole.folder
    first, second = folder / "1-labelled", folder / "2-reliable"
    assert json.loads((first / "results.json").read_text())["method"] == "supervised"
    ranked = [line.split(",") for line in (first / "stability.csv").read_text().splitlines()[1:]]
    scores = [float(score) for _, score, _ in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    reliable = (first / "reliable.txt").read_text().splitlines()
    assert reliable == [name for name, *_ in ranked[: len(ranked) // 2]]
    assert sorted((second / "unlabeled.txt").read_text().splitlines()) == sorted(reliable)
    assert set(reliable) < set((folder / "unlabeled.txt").read_text().splitlines())
    labels = yaml.safe_load((second / "config.yaml").read_text())["method"]["teacher"]
    assert [Path(one["run"]).name for one in labels] == ["1-labelled"]
    assert yaml.safe_load((folder / "config.yaml").read_text())["method"]["teacher"] == "rounds"
    before = json.loads((folder / "results.json").read_text())["rounds"]
    assert {name: one["method"] for name, one in before.items()} == {"1-labelled": "supervised", "2-reliable": "stpp"}
    assert len({(place / "labeled.txt").read_text() for place in (folder, first, second)}) == 1

    parts = tmp_path / "parts"
    for at in ((1,), (None, 1), (None, 1)):  # in the first run, the second, and the run's own
        arguments: Any = {"resume": parts} if parts.exists() else {"config": config, "out": parts}
        with pytest.raises(Interrupted, match=f"Go on with: --resume {parts}$"):
            package.train(task, **arguments, reporter=stopping(*at))
        parts = parts.rename(parts.with_name(f"{parts.name}-moved"))
    assert find_run(task, str(parts)) == parts
    package.train(task, resume=parts, reporter=Reporter())
    for name in ("", "1-labelled", "2-reliable"):
        states = [read_checkpoint(run / name / "weights" / LAST) for run in (folder, parts)]
        for key in ("method", "optimizer"):
            assert not differences(states[0][key], states[1][key]), (name, key)
    parts = parts.rename(parts.with_name("moved-at-the-end"))
    for run in (parts, parts / "2-reliable"):
        package.evaluate(run)


@pytest.mark.long
def test_selftrain_learns_from_two_teachers_in_two_rounds(small: Any, tmp_path: Path) -> None:
    other = {"optimizer": {"lr": 5e-4}}
    config = config_file(small, "cls", "selftrain", tmp_path, teachers=[{}, other], rounds=2)
    run = package.train("cls", config=config, out=tmp_path / "run", reporter=Reporter())
    configs = {
        name: yaml.safe_load((run.folder / name / "config.yaml").read_text())
        for name in ("1-labelled-1", "1-labelled-2", "2-all", "")
    }
    assert [one["train"]["seed"] for one in configs.values()] == [0, 1, 0, 0]
    assert [one["optimizer"]["lr"] for one in configs.values()] == [1e-3, 5e-4, 1e-3, 1e-3]
    assert [Path(one["run"]).name for one in configs["2-all"]["method"]["teacher"]] == ["1-labelled-1", "1-labelled-2"]
    lists = {(run.folder / name / "labeled.txt").read_text() for name in configs}
    assert len(lists) == 1, "the same labelled images"
    weights = [read_best(run.folder / name / "weights" / "best.safetensors")[0] for name in configs]
    assert all(differences(weights[0], other) for other in weights[1:])


@pytest.mark.long
def test_a_finished_run_may_label_in_place_of_the_first_round(trained: Path, photo_data: Path, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(yaml.safe_dump(photos.raw(photo_data, "selftrain", train={"iterations": 1, "eval_every": 1})))
    run = package.train("seg", config=config, teacher=trained, out=tmp_path / "run", reporter=Reporter())
    assert not list(run.folder.glob("*/config.yaml"))
    (known,) = yaml.safe_load((run.folder / "config.yaml").read_text())["method"]["teacher"]
    assert known["run"] == str(trained.absolute())
    assert len(known["digest"]) == 64


def test_a_plan_names_the_runs_and_trains_none(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = package.plan("seg", config=config_file(small, "seg", "stpp", tmp_path))
    assert plan.facts["rounds"] == "1-labelled → 2-reliable → this run: 3 runs with fresh weights"
    assert not (tmp_path / "runs").exists()


def test_what_is_wrong_leaves_no_folder(small: Any, tmp_path: Path) -> None:
    config = config_file(small, "seg", "stpp", tmp_path)
    with pytest.raises(InputError, match="labels"):
        package.train("seg", config=config, labels="400", out=tmp_path / "run", reporter=Reporter())
    own = yaml.safe_load(config.read_text()) | {"data": photos.raw(photos.write(tmp_path / "few", 2, 2))["data"]}
    config.write_text(yaml.safe_dump(own | {"data": own["data"] | {"labels": "all"}}))
    with pytest.raises(InputError, match="stpp learns from unlabelled images, but there are none"):
        package.train("seg", config=config, out=tmp_path / "run", reporter=Reporter())
    assert not (tmp_path / "run").exists()


def test_labels_are_those_of_the_stated_seed_in_every_round(photo_data: Path) -> None:
    """Also of seed 0, and where another teacher has another seed."""
    raw = photos.raw(photo_data, "selftrain", train={"seed": 5})
    for stated, expected in ((0, 0), (None, 5)):
        raw["data"]["split_seed"] = stated
        made = rounds._settings(resolve(raw), Round("1-labelled-2", {"method": ALONE}, seeds=1), Path("run"))
        assert (made["data"]["split_seed"], made["train"]["seed"]) == (expected, 6)
        assert made["method"] == {**ALONE, "ohem": None, "ema_decay": 0.996, "ema_ramp": True}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_processes_rank_what_one_does(photo_data: Path, tmp_path: Path, server: Server) -> None:
    asked = ["train", "seg", "--data", photo_data, *photos.FLAGS, "--labels", "4", "--method", "stpp", "train.group=2"]
    asked += ["--iterations", "3", "--eval-every", "3", "optimizer.name=sgd", "--protocol", "paper"]
    for ended in (
        server.run(*asked, "--out", tmp_path / "one"),
        *server.run_together(2, *asked, "--out", tmp_path / "two"),
    ):
        assert ended.code == 0, ended.out
    tables = [(tmp_path / name / "1-labelled" / "stability.csv").read_text().splitlines() for name in ("one", "two")]
    rows = [{line.split(",")[0]: float(line.split(",")[1]) for line in table[1:]} for table in tables]
    assert rows[0].keys() == rows[1].keys()
    for name, score in rows[0].items():
        assert rows[1][name] == pytest.approx(score, abs=0.02)
    assert (tmp_path / "two" / "results.json").is_file()
