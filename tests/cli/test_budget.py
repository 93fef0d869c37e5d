from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import yaml
from PIL import Image

import semikit as library
from semikit.cli.app import run
from semikit.reports.budget import BudgetRow, by_method, fit_curve, spoken
from semikit.run.grid import grid_of
from tests.helpers import photos

Call = Callable[..., Any]


def row(labels: int, *values: float, method: str = "supervised") -> BudgetRow:
    std = stdev(values) if len(values) > 1 else None
    return BudgetRow(method, labels, dict(enumerate(values)), fmean(values), std, 1.0)


def said(*rows: BudgetRow) -> list[str]:
    fits = {method: fit for method, found in by_method(rows).items() if (fit := fit_curve(found)) is not None}
    return spoken(rows, fits, "mIoU")


class TestCurve:
    def test_two_numbers_of_labels_make_a_line(self) -> None:
        fit = fit_curve([row(8, 40.0), row(32, 50.0)])
        assert fit is not None
        assert (fit.a, fit.b, fit.c, fit.residual) == (pytest.approx(25), pytest.approx(5), 0, None)
        assert fit.at(64) == pytest.approx(55)
        assert [fit.labels_at(score, 8, 64) for score in (45, 99)] == pytest.approx([16, 64])
        assert str(fit).startswith("25.0 +5.00 log2(labels), through all means")
        assert fit_curve([row(8, 40.0)]) is None

    def test_a_saturating_power_law_is_found(self) -> None:
        """60 - 40 n^-0.5: 40, 50, 55, 57.5."""
        fit = fit_curve([row(4, 40.0), row(16, 50.0), row(64, 55.0), row(256, 57.5)])
        assert fit is not None
        assert (fit.a, fit.b, fit.c) == tuple(pytest.approx(value, rel=0.02) for value in (60, 40, 0.5))
        assert fit.residual == pytest.approx(0, abs=0.05)
        assert fit.at(1024) == pytest.approx(58.75, abs=0.05)
        assert fit.labels_at(52.5, 4, 512) == pytest.approx(28.4, abs=0.3)

    def test_no_curve_leads_beyond_100(self) -> None:
        steep, line = fit_curve([row(32, 39.0), row(64, 63.0), row(128, 85.0)]), fit_curve([row(2, 80.0), row(4, 95.0)])
        assert steep is not None and line is not None  # noqa: PT018
        assert steep.c > 0
        easy = fit_curve([row(8, 90.0), row(16, 99.0), row(32, 99.9)])  # of which the best curves lead above 100
        assert easy is not None
        assert (easy.a, 99 < easy.at(64) < 100) == (100, True)
        assert 85 < steep.at(256) < 100
        assert line.at(8) == 100

    def test_what_rises_faster_and_faster_is_a_line(self) -> None:
        """20, 21, 26 lie 2/3, 4/3 and 2/3 from 19.33, 22.33, 25.33; three seeds pull it to them."""
        fit, pulled = (fit_curve([row(4, 20.0), row(8, *[21.0] * n), row(16, 26.0)]) for n in (1, 3))
        bent = fit_curve([row(12, 38.0), row(23, 40.0), row(46, 39.0)])  # which no curve that rises passes through
        assert fit is not None and pulled is not None and bent is not None  # noqa: PT018
        assert (fit.c, fit.at(8), fit.residual) == (0, pytest.approx(67 / 3), pytest.approx((8 / 9) ** 0.5))
        assert pulled.at(8) == pytest.approx(21.8)
        assert bent.residual == pytest.approx(0.5465, abs=0.001)


class TestSentences:
    def test_what_labels_and_unlabelled_images_bring(self) -> None:
        first, worth, sure = said(row(8, 40.0), row(32, 50.0), row(8, 45.0, method="m"))
        assert first == "supervised: twice the labels (64) would bring about +5.0 mIoU by the fit."
        assert worth == (
            "The unlabelled images bring as much as 8 more labels: m with 8 labels (45.0 mIoU, +5.0) scores as "
            "supervised with about 16."
        )
        assert sure.startswith("One seed each: how far seeds differ is not known")

    def test_within_a_standard_deviation_there_is_no_difference(self) -> None:
        """Seeds 8 points apart: standard deviation 5.7."""
        noise = "no difference that 2 seeds show (standard deviation 5.7)."
        assert said(row(8, 36.0, 44.0), row(32, 46.0, 54.0), row(8, 41.0, 49.0, method="m")) == [
            f"supervised: twice the labels (64) would bring about +5.0 mIoU by the fit, {noise}",
            f"m with 8 labels (45.0 mIoU, +5.0) scores as supervised does, {noise}",
        ]
        (_, worth) = said(row(8, 39.0, 41.0), row(32, 49.0, 51.0), row(8, 44.0, 46.0, method="m"))
        assert worth.endswith("scores as supervised with about 16 (13 to 19 by the spread of seeds and of the fit).")

    def test_an_uneven_curve_makes_the_range_wider(self) -> None:
        """20, 21, 26 lie 0.94 from the line of 19.33 + 3 log2(labels / 4)."""
        base = [row(4, 20.0), row(8, 21.0), row(16, 26.0)]
        worth = said(*base, row(8, 24.0, method="m"))[1]
        assert worth.endswith(
            "(24.0 mIoU, +3.0) scores as supervised with about 16 (13 to 20 by the spread of seeds and of the fit)."
        )
        beyond = said(*base, row(16, 29.1, method="m"))[1]
        assert beyond.startswith(
            "The unlabelled images bring at least 10 more labels: m with 16 labels (29.1 mIoU, +3.1)"
        )
        rough = said(*base, row(16, 26.1, method="m"), row(4, 19.5, method="m"))
        assert rough[3].endswith("in labels that is not known, as nothing was measured with fewer than 4.")

    def test_nothing_is_said_beyond_what_was_measured(self) -> None:
        found = said(row(8, 40.0), row(32, 50.0), row(8, 60.0, method="m"), row(32, 20.0, method="m"))
        assert found[2] == (
            "The unlabelled images bring at least 56 more labels: m with 8 labels (60.0 mIoU, +20.0) scores as "
            "supervised with 64 or more by the fit."
        )
        assert "cost at least 24 labels: m with 32 labels" in found[3]
        assert found[3].endswith("scores as supervised with 8 or fewer by the fit.")
        low = said(row(8, 40.0), row(32, 50.0), row(8, 39.0, method="m"), row(32, 48.75, method="m"))
        assert low[2].endswith(
            "below supervised; in labels that is not known, as nothing was measured with fewer than 8."
        )
        assert (
            "cost as much as 5 labels: m with 32 labels (48.8 mIoU, -1.2) scores as supervised with about 27." in low[3]
        )

    def test_what_cannot_be_said(self) -> None:
        one = "m with 8 labels (45.0 mIoU, +5.0) scores above supervised; in labels that is known where"
        assert said(row(8, 40.0), row(8, 45.0, method="m"))[0].startswith(one)
        for last in (39.0, 40.0):
            flat = said(row(8, 40.0), row(9, last), row(8, 45.0, method="m"))
            assert flat[0].endswith("nothing by the fit: more labels did not bring more here.")
            assert flat[1].startswith(one)
        for near in (40.0, 40.03):
            assert said(row(8, 40.0), row(9, 45.0), row(8, near, method="m"))[1].endswith("scores as supervised does.")
        assert said(row(8, 45.0, method="m"), row(9, 46.0, method="m"))[1].endswith("add it to --methods.")


FLAGS = [*photos.FLAGS, "--iterations", "2", "train.group=2"]


@pytest.fixture(scope="module")
def grid(photo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two numbers of labels, two methods."""
    out = tmp_path_factory.mktemp("budget") / "grid"
    assert run(["budget", "seg", "--data", str(photo_data), "--labels", "2,4", *FLAGS, "-o", str(out), "--quiet"]) == 0
    return out


class TestGrid:
    def test_runs_are_skipped_gone_on_with_and_added(self, grid: Path, photo_data: Path, semikit: Call) -> None:
        before = (grid / "supervised-2/seed-0/results.json").stat().st_mtime_ns
        (grid / "unimatch_v2-4/seed-0/results.json").unlink()
        call = ("budget", "seg", "--data", photo_data, *FLAGS, "-o", grid)
        plan = semikit(*call, "--labels", "2,4", "--dry-run")
        assert plan.out.startswith("unimatch_v2: runs to train: 1, each 0 min")
        several = semikit(*call, "--labels", "2,4", "--dry-run", "--gpus", "2")
        assert several.out.startswith("unimatch_v2: runs to train: 1, each 2 iterations of 2 + 2 images")
        assert f"1 of 4 runs to train in {grid}. Nothing" in " ".join(plan.out.split())
        done = semikit(*call, "--labels", "2,4")
        assert (done.code, done.err) == (0, "")
        assert "1 of 1: unimatch_v2, 4 labels, seed 0" in done.out
        assert f"semikit report {grid}/*-* -o {grid}/report.html" in done.out
        assert "going on at iteration 2" in (grid / "unimatch_v2-4/seed-0/log.txt").read_text()
        assert (grid / "supervised-2/seed-0/results.json").stat().st_mtime_ns == before
        few, many = ((grid / f"supervised-{n}/seed-0/labeled.txt").read_text().split() for n in (2, 4))
        assert set(few) < set(many)
        more = semikit(*call, "--labels", "6", "--methods", "supervised", "--quiet")
        record = json.loads((grid / "budget.json").read_text())
        rows = [(one["method"], one["labels"], list(one["scores"])) for one in record["rows"]]
        assert rows == [("supervised", n, ["0"]) for n in (2, 4, 6)] + [("unimatch_v2", n, ["0"]) for n in (2, 4)]
        assert all(sentence in more.out for sentence in record["sentences"])
        assert (grid / "budget.csv").read_text().startswith("method,labels,seeds,mIoU,std,minutes\nsupervised,2,1,")
        with Image.open(grid / "budget.png") as picture:
            assert picture.width > 600

    def test_stopped_it_says_to_repeat_the_command(
        self, photo_data: Path, semikit: Call, stop_at: Callable[[int | None], None]
    ) -> None:
        call = ("budget", "seg", "--data", photo_data, *FLAGS, "--labels", "2", "--methods", "supervised", "-o", "grid")
        Path("grid/supervised-2/seed-0").mkdir(parents=True)
        Path("grid/supervised-2/seed-0/log.txt").touch()  # of a run that was killed as it began
        stop_at(1)
        stopped = semikit(*call)
        stop_at(None)
        assert (stopped.code, "--resume" in stopped.err) == (130, False)
        assert stopped.err == "stopped: interrupted; what was trained is kept. Go on with the same command.\n"
        assert semikit(*call).code == 0
        assert "going on at iteration 1" in Path("grid/supervised-2/seed-0/log.txt").read_text()

    def test_the_newest_run_is_named_for_it_is_soon_another(self, photo_data: Path, semikit: Call) -> None:
        Path("runs/seg/a/weights").mkdir(parents=True)
        Path("runs/seg/a/weights/best.safetensors").touch()
        found = semikit("budget", "seg", "--data", photo_data, *FLAGS, "--labels", "2", "--from", "last", "-o", "grid")
        assert (found.code, "Name it: --from runs/seg/a." in found.err) == (2, True)

    def test_the_function_reads_what_is_there(self, grid: Path, photo_data: Path) -> None:
        settings = {**{f"model.{key}": value for key, value in photos.MODEL.items()}, "train.group": 2}
        options = {"data": photo_data, "out": grid, "crop": 32, "batch": 2, "iterations": 2}
        methods = ["supervised", "supervised+lora"]
        found = library.budget("seg", labels=2, methods=methods, settings=settings, **options)
        assert [one.labels for one in found.rows if one.method == "supervised"] == [2, 4, 6]
        assert [one.labels for one in found.rows if one.method == "supervised+lora"] == [2]
        adapted = yaml.safe_load((grid / "supervised+lora-2/seed-0/config.yaml").read_text())
        assert (adapted["method"]["name"], adapted["model"]["lora"]["rank"]) == ("supervised", 8)
        assert not any("lora" in sentence for sentence in found.sentences)
        with pytest.raises(library.InputError, match=r"configuration:\n  optimizer.lr: 0.0002 -> 0.5\nGive the"):
            library.budget("seg", labels=(3,), settings={**settings, "optimizer.lr": 0.5}, **options)


def test_what_is_compared_where_no_method_is_named(photo_data: Path, tmp_path: Path) -> None:
    given = {"task": "seg", "labels": 2, "methods": None, "seeds": (0,), "out": tmp_path / "new", "data": photo_data}
    plain, adapted = ["supervised", "unimatch_v2"], ["supervised", "supervised+lora", "unimatch_v2"]
    for encoder, weights, expected in (
        ("dinov2-small", "pretrained", adapted),
        ("dinov2-small", "none", plain),
        ("efficientnet-lite0", "pretrained", plain),
    ):
        _, missing, total = grid_of(**given, encoder=encoder, weights=weights)
        assert ([method for method, *_ in missing], total) == (expected, len(expected))


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--labels", "2,99"], "labels '99' asks for 99 images, but only 6 of train have a mask"),
        (["--labels", "4,2"], "--labels takes rising numbers of labelled images, 23,46,92; got 4,2."),
        (["--labels", "1/8"], "--labels takes rising numbers of labelled images, 23,46,92; got 1/8."),
        (["--labels", "2", "--methods", "supervised,unimatch_v3"], "unknown method 'unimatch_v3'. Did you mean"),
        (["--labels", "2", "method.threshold=0.9"], "of the runs with supervised: method: unknown key 'threshold'."),
        (["--labels", "2", "-o", "."], "holds something else than runs of a budget. Choose another -o."),
        (["--labels", "2", "data.labels=3"], "method.name and data.labels of each run are --methods"),
        (
            ["--labels", "2", "--dry-run", "--seed", "0"],
            "--seed is of one run, and several are trained.",
        ),
        (["--labels", "2", "--iteration", "3"], "No such option: --iteration"),
        (["--labels", "2", "--dry-run", "--time"], "--time is of one run, and several are trained."),
    ],
)
def test_mistakes_are_answered(words: list[str], answer: str, photo_data: Path, semikit: Call) -> None:
    Path("a file").touch()
    found = semikit("budget", "--data", photo_data, "seg", *photos.FLAGS, *words)
    assert found.code == 2
    assert answer in " ".join(found.err.replace("│", " ").split())
    assert not Path("runs").exists()
