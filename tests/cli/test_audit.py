from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import semikit as library
from semikit.cli.app import run
from semikit.data.label_spec import load_labels
from semikit.data.labeled_images import open_labeled
from semikit.inference.inspection import Examined
from semikit.inference.label_quality import LabelAudit, average_confidence, phase_shift, suggested
from semikit.run.audit import _seen_by_none

Call = Callable[..., Any]
Runs = dict[str, Path]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def whole(shares: list[float], label: int, index: int = 0, picture: Any = None) -> Examined:
    """An image of one class, by its probabilities."""
    probabilities = torch.tensor(shares)
    image = np.zeros((8, 8, 3), np.uint8) if picture is None else picture
    choose = lambda one: one.max(0)[::-1]  # noqa: E731
    return Examined.of(index, [image], [((), probabilities)], choose, torch.tensor(label), torch.tensor(True), 1)


def maps(labels: Any, network: Any, sure: float = 0.9) -> Examined:
    """An image whose pixels the network gives two classes, with one confidence."""
    truth, classes = torch.as_tensor(labels), torch.as_tensor(network)
    other = torch.where(classes == 1, sure, 1 - sure)
    image = np.zeros((*truth.shape, 3), np.uint8)
    valid = torch.ones_like(truth, dtype=torch.bool)
    choose = lambda one: (classes, torch.full(truth.shape, sure))  # noqa: E731
    return Examined.of(0, [image], [((...,), torch.stack([1 - other, other]))], choose, truth, valid, 1)


def audited(every: list[Examined], classes: int = 2) -> LabelAudit:
    found = LabelAudit(classes, average_confidence(every, classes))
    for one in every:
        found.add(one)
    return found


class TestContradictions:
    def test_a_label_is_doubted_where_the_other_class_is_as_probable_as_it_is_on_average(self) -> None:
        """Class 0 has .9 and .7 where it is the label, class 1 .8 and .6 and, under a wrong label, .1."""
        every = [
            whole([0.9, 0.1], 0), whole([0.7, 0.3], 0), whole([0.2, 0.8], 1), whole([0.4, 0.6], 1),
            whole([0.9, 0.1], 1, index=4), whole([0.55, 0.45], 1),
        ]  # fmt: skip
        assert average_confidence(every, 2).tolist() == pytest.approx([0.8, 0.4875])
        assert average_confidence(every[:2], 2).tolist() == pytest.approx([0.8, torch.inf])
        found = audited(every)
        assert [(one.index, one.label, one.suggested) for one in found.ranked()] == [(4, 1, 0)]
        assert found.ranked()[0].score == pytest.approx(0.8)
        assert found.joint.tolist() == [[1, 0], [1, 2]]
        assert found.noise().tolist() == [[1, 0], [pytest.approx(1 / 3), pytest.approx(2 / 3)]]

    def test_pixels_near_a_border_do_not_count(self) -> None:
        labels = torch.zeros(40, 40, dtype=torch.long)
        labels[:, 20:] = 1
        blurred = torch.zeros_like(labels)
        blurred[:, 22:] = 1
        assert (suggested(maps(labels, blurred), torch.tensor([0.5, 0.5])) == labels)[:, [17, 22]].all()
        assert (suggested(maps(labels, blurred), torch.tensor([0.5, 0.5]))[:, 18:22] == -1).all()
        assert audited([maps(labels, blurred)]).ranked() == []

    def test_one_large_area_counts_more_than_many_small_ones(self) -> None:
        labels = torch.zeros(40, 40, dtype=torch.long)
        labels[:4] = 1
        one, many = labels.clone(), labels.clone()
        one[10:18, 10:18] = 1
        many[10:26:2, 10:26:2] = 1
        thresholds = torch.tensor([0.5, 0.5])
        scores = []
        for network in (one, many):
            found = LabelAudit(2, thresholds)
            found.add(maps(labels, network))
            scores += [(item.score, item.share, item.label, item.suggested) for item in found.ranked()]
        assert scores[0] == pytest.approx((64 * 0.8 / 1600, 64 / 1600, 0, 1))
        assert scores[1] == pytest.approx((8 * 0.8 / 1600, 64 / 1600, 0, 1))

    def test_a_threshold_that_the_network_predicts_with_does_not_count(self) -> None:
        labels, shares = torch.zeros(40, 40, dtype=torch.long), torch.zeros(2, 40, 40)
        labels[:20] = 1
        shares[1] = 0.03  # enough for class 1 with a threshold of 0.005
        shares[0] = 1 - shares[1]
        everywhere = torch.ones_like(labels)
        choose = lambda one: (everywhere, one[1])  # noqa: E731
        found = LabelAudit(2, torch.tensor([0.9, 0.03]))
        image = np.zeros((40, 40, 3), np.uint8)
        found.add(Examined.of(0, [image], [((...,), shares)], choose, labels, everywhere.bool(), 1))
        (only,) = found.ranked()
        assert (only.label, only.suggested, only.confidence) == (1, 0, pytest.approx(0.97))


class TestDuplicates:
    def test_the_same_picture_with_another_label_is_found_and_a_similar_one_is_not(self) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
        brighter, patched = np.clip(picture.astype(int) + 3, 0, 255).astype(np.uint8), picture.copy()
        patched[:6, :6] = 255 - patched[:6, :6]
        every = [(picture, 0), (brighter, 1), (patched, 1), (picture, 0), (np.flipud(picture), 1)]
        found = audited([whole([0.5, 0.5], label, k, image) for k, (image, label) in enumerate(every)])
        assert found.duplicates() == [(0, 1, 1.0), (1, 3, 1.0)]

    def test_labels_that_do_not_count_are_none(self) -> None:
        found = LabelAudit(2, torch.ones(2))
        assert (found.ranked(), found.duplicates()) == ([], [])


class TestShift:
    def test_the_shift_of_a_date_is_found_although_a_part_has_changed(self) -> None:
        rng = np.random.default_rng(0)
        ground = rng.integers(0, 256, (24, 24, 3)).repeat(6, 0).repeat(6, 1)
        first, second = ground[:120, :120], ground[5:125, 7:127].copy()
        second[40:70, 40:70] = 255
        counted = np.ones((120, 120), bool)
        counted[40:70, 40:70] = False
        assert phase_shift([first, second], counted)[:2] == (-5, -7)
        assert phase_shift([first, second], counted)[2] > 10
        assert phase_shift([first, rng.integers(0, 256, first.shape)], counted)[2] < 8


@pytest.fixture(scope="session")
def mislabelled(small: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of classes and its data, to which the first image of the first class was added under the second."""
    module, data = small["cls"]
    folder = tmp_path_factory.mktemp("mislabelled")
    shutil.copytree(data.parent, folder / "data")
    classes = sorted(path for path in (folder / "data" / "train").iterdir() if path.is_dir())
    shutil.copy(sorted(classes[0].iterdir())[0], classes[1] / "wrong.png")
    flags = ["--data", str(folder / "data" / data.name), *module.FLAGS, "--labels", "all", "--iterations", "2"]
    assert run(["train", "cls", *flags, "--out", str(folder / "run"), "--quiet"]) == 0
    return folder / "run", folder / "data"


class TestCommand:
    def test_labels_of_pixels_that_others_contradict_are_listed_and_drawn(self, semikit: Call, runs: Runs) -> None:
        answer = semikit("audit", runs["seg"], "-o", "audit", "-n", "2", "--folds", "2", "--quiet")
        assert (answer.code, answer.err) == (0, ""), answer.err
        found = rows(Path("audit/audit.csv"))
        assert [row["rank"] for row in found] == [str(k) for k in range(1, len(found) + 1)]
        assert all(Path(row["file"]).stem == Path(row["mask"]).stem for row in found)
        assert len(list(Path("audit/images").iterdir())) == 2
        with Image.open("audit/sheet.png") as sheet:
            assert sheet.width == 1280
        assert {row["class"] for row in rows(Path("audit/noise.csv"))} <= {"sky", "road", "car"}
        learned = [set(Path(f"audit/folds/{k}-of-2/labeled.txt").read_text().split()) for k in (1, 2)]
        assert learned[0] | learned[1] == set((runs["seg"] / "labeled.txt").read_text().split())
        assert not learned[0] & learned[1]
        for path in Path("audit").glob("*.csv"):  # as where it was stopped: the networks and some pictures are there
            path.unlink()
        weights = Path("audit/folds/1-of-2/weights/best.safetensors")
        written = weights.stat().st_mtime_ns
        assert semikit("audit", runs["seg"], "-o", "audit", "--folds", "2", "--quiet").code == 0
        assert (rows(Path("audit/audit.csv")), weights.stat().st_mtime_ns) == (found, written)
        other = semikit("audit", runs["cls"], "-o", "audit", "--folds", "2")
        assert other.code == 2

    def test_a_picture_with_two_labels_is_listed(self, semikit: Call, mislabelled: tuple[Path, Path]) -> None:
        run, _ = mislabelled
        answer = semikit("audit", run, "-o", "audit")
        assert answer.code == 0, answer.err
        assert "the run learned from 25 of these 25 labels" in answer.out
        assert "pictures that are there twice with different labels: 1; in audit" in answer.out
        (pair,) = rows(Path("audit/duplicates.csv"))
        assert "wrong.png" in (Path(pair["file"]).name, Path(pair["same_picture"]).name)

    def test_stopped_it_says_to_repeat_the_command(
        self, semikit: Call, runs: Runs, stop_at: Callable[[int | None], None]
    ) -> None:
        config = Path(shutil.copytree(runs["seg"], "run"), "config.yaml")
        raw = yaml.safe_load(config.read_text())
        raw["train"]["start_from"], raw["method"]["teacher"] = "begun", {"run": "taught", "digest": None}
        config.write_text(yaml.safe_dump(raw))
        stop_at(1)
        stopped = semikit("audit", "run", "--folds", "2")
        told = "stopped: interrupted; what was trained is kept. Go on with the same command.\n"
        assert (stopped.code, stopped.err) == (130, told)
        raw = yaml.safe_load(Path("audit/folds/1-of-2/config.yaml").read_text())
        assert (raw["train"]["start_from"], raw["method"]["teacher"]) == (None, "ema"), "they have seen the labels"

    def test_a_class_with_one_label_is_said(self, small: Any) -> None:
        train = open_labeled(load_labels(small["cls"][1])).train
        places = [np.flatnonzero(train.labels == k) for k in range(3)]
        labelled = [*places[0][:2], places[1][0], *places[2][:3]]
        (told,) = _seen_by_none(train, labelled, ("a", "b", "c"))
        assert (
            told == "b: of a class with one label the network that is asked about it has seen none, and contradicts it"
        )
        assert _seen_by_none(train, range(len(train)), ("a", "b", "c")) == []

    def test_of_pairs_both_dates_are_named_and_from_python_the_same(self, runs: Runs, tmp_path: Path) -> None:
        tables, notices = library.audit(runs["cd"], out=tmp_path / "audit", device="cpu")
        assert notices[0].startswith("the run learned from 6 of these 6 labels")
        assert list(tables) == ["audit", "noise", "duplicates", "shifts"]
        for row in tables["audit"]:
            assert Path(row["file"]).name == Path(row["file_b"]).name


class TestMistakes:
    def test_each_has_one_message(
        self, semikit: Call, runs: Runs, mislabelled: tuple[Path, Path], small: Any, tmp_path: Path
    ) -> None:
        run, data = mislabelled
        shutil.copytree(run, tmp_path / "run")
        moved = data.rename(data.with_name("moved"))
        gone = semikit("audit", tmp_path / "run", "-o", "gone")
        moved.rename(data)
        (tmp_path / "model.onnx").touch()
        Path("full").mkdir()
        Path("full/notes.txt").touch()
        for answer, text in (
            (gone, "--data"),
            (semikit("audit", tmp_path / "model.onnx"), "is an export, which does not know its labels"),
            (semikit("audit", runs["seg"], "-o", "full"), "full is not an empty folder. Choose another -o"),
            (semikit("audit", runs["seg"], "--folds", "3", "--data", small["seg"][1]), "leave out --data"),
            (semikit("audit", runs["seg"], "--folds", "3"), "give at most 2"),
            (semikit("audit", runs["seg"], "-o", small["seg"][1].parent / "train/images/a"), "results would lie among"),
            (semikit("audit", runs["cls"], "-o", small["cls"][1].parent / "train/a"), "results would lie among"),
            (semikit("audit", runs["seg"], "-n", "0"), "-n 0: give how many images are drawn, 1 or more"),
            (
                semikit("audit", runs["seg"], "--folds", "1"),
                "--folds 1: each network needs labels that another has not",
            ),
            (semikit("audit", runs["seg"], "--data", "full"), "others are described by a YAML file.\n"),
            (semikit("audit", "nothing"), "nothing does not exist"),
        ):
            assert (answer.code, answer.err.count("error:")) == (2, 1), answer.err
            assert text in answer.err
