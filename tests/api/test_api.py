"""The public names, and that Python gets what the command line writes."""

from __future__ import annotations

import csv
import io
import json
import pickle
import re
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

import semikit
from semikit.cli.app import run as command
from semikit.run.reporters import default_reporter

Small = dict[str, tuple[ModuleType, Path]]


@pytest.fixture(scope="module")
def runs(small: Small, tmp_path_factory: pytest.TempPathFactory) -> dict[str, semikit.Run]:
    """A run of each task, of two steps."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for task, (module, yaml) in small.items():
        raw = module.raw(yaml)
        settings = {f"{section}.{key}": value for section in ("model", "views", "optimizer") for key, value in
                    raw[section].items()}  # fmt: skip
        found[task] = semikit.train(
            task, data=yaml, labels=6, iterations=2, batch=raw["train"]["batch"], workers=0, device="cpu",
            out=folder / task, settings={**settings, "train.group": raw["train"]["group"]},
        )  # fmt: skip
    return found


def test_the_public_names_are_what_the_package_has() -> None:
    assert semikit.__all__ == sorted(semikit.__all__)
    assert all(getattr(semikit, name) is not None for name in semikit.__all__)
    assert set(dir(semikit)) == {*semikit.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'tran'"):
        semikit.tran  # noqa: B018
    assert Path(semikit.__file__).with_name("py.typed").exists()


def test_importing_the_package_is_light() -> None:
    code = "import sys, semikit; sys.exit(bool({'torch', 'numpy', 'pydantic', 'typer'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import warnings; before = [*warnings.filters]; import semikit; assert before == warnings.filters"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run(runs: dict[str, semikit.Run]) -> None:
    for task, run in runs.items():
        assert (run.folder / "weights/best.safetensors").is_file()
        assert run.history[-1]["iteration"] == 2
        types = {(key == "iteration", type(value)) for row in run.history for key, value in row.items()}
        assert types == {(True, int), (False, float)}
        assert run.scores.metric == {"seg": "mIoU", "cd": "IoU", "cls": "top-1"}[task]
        assert semikit.evaluate(run.folder, split="test", device="cpu").value == pytest.approx(run.scores.value)
        assert run.load("cpu").class_names == tuple(run.results["per_class"])


def test_a_map_is_that_of_the_command_line(runs: dict[str, semikit.Run], small: Small, tmp_path: Path) -> None:
    folder = small["seg"][1].parent / "val/images"
    assert command(["predict", str(runs["seg"].folder), str(folder), "-o", str(tmp_path), "--device", "cpu"]) == 0
    model, paths = semikit.load(runs["seg"].folder, "cpu"), sorted(folder.glob("*.png"))
    found = model.predict(paths)
    assert isinstance(found, list)
    for path, one in zip(paths, found, strict=True):
        assert np.array_equal(one.classes, np.asarray(Image.open(tmp_path / path.name)))
        assert one.confidence.shape == one.classes.shape
        image = Image.open(path).convert("RGB")
        for same in (image, np.asarray(image), str(path)):
            assert np.array_equal(model.predict(same).classes, one.classes)


def test_a_map_of_change_is_that_of_the_command_line(
    runs: dict[str, semikit.Run], small: Small, tmp_path: Path
) -> None:
    folder = small["cd"][1].parent / "val"
    dates = [sorted((folder / date).glob("*.png")) for date in "AB"]
    assert semikit.predict(runs["cd"].folder, folder / "A", folder / "B", out=tmp_path, device="cpu").count == 3
    model = semikit.load(runs["cd"].folder, "cpu")
    for before, after, one in zip(*dates, model.predict(*dates), strict=True):
        assert np.array_equal(one.classes, np.asarray(Image.open(tmp_path / before.name)))
        arrays = [np.asarray(Image.open(path)) for path in (before, after)]
        assert np.array_equal(model.predict(*arrays).classes, one.classes)


def test_a_map_of_change_has_the_rasters_nodata(runs: dict[str, semikit.Run], tmp_path: Path) -> None:
    import rasterio
    from affine import Affine

    rng = np.random.default_rng(0)
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0.0, 390000.0, 0.0, -0.5, 5820000.0)}
    layout = {"width": 90, "height": 70, "count": 3, "dtype": "uint8", "nodata": 0, **place}
    paths = []
    for name in ("a", "b"):
        values = rng.integers(1, 255, (3, 70, 90)).astype(np.uint8)
        values[:, :20, :30] = 0
        path = tmp_path / f"{name}.tif"
        with rasterio.open(path, "w", driver="GTiff", **layout) as file:
            file.write(values)
        paths.append(path)
    semikit.predict(runs["cd"].folder, *paths, out=tmp_path / "map.tif", device="cpu")
    found = semikit.load(runs["cd"].folder, "cpu").predict(*paths)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert np.array_equal(found.classes, file.read(1))
    assert (found.classes[:20, :30] == 255).all()


def test_a_class_is_that_of_the_command_line(runs: dict[str, semikit.Run], small: Small, tmp_path: Path) -> None:
    folder, table = small["cls"][1].parent / "val", tmp_path / "classes.csv"
    assert command(["predict", str(runs["cls"].folder), str(folder), "-o", str(table), "--device", "cpu"]) == 0
    model = runs["cls"].load("cpu")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    for row in rows:
        found = model.predict(row["file"])
        assert found.names[found.classes] == row["label"]
        assert found.confidence == pytest.approx(float(row["probability"]), abs=1e-4)


@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
def test_wrong_images_are_refused(runs: dict[str, semikit.Run], task: str, tmp_path: Path) -> None:
    model, image = runs[task].load("cpu"), np.zeros((40, 48, 3), np.uint8)
    second = (image,) if task == "cd" else ()
    with pytest.raises(semikit.InputError, match=r"it was given 1\." if task == "cd" else r"it was given 2\."):
        model.predict(*((image,) if task == "cd" else (image, image)))
    with pytest.raises(semikit.InputError, match=r"shape \(40, 48\) and type uint8; the model takes \(H, W, 3\)"):
        model.predict(image[..., 0], *second)
    with pytest.raises(semikit.InputError, match="type float64"):
        model.predict(image / 255, *second)
    with pytest.raises(semikit.DataError):
        model.predict(tmp_path / "missing.png", *((tmp_path / "missing.png",) if task == "cd" else ()))


def test_wrong_calls_are_refused(runs: dict[str, semikit.Run], small: Small, tmp_path: Path) -> None:
    with pytest.raises(semikit.UnknownNameError, match="Did you mean 'unimatch_v2'"):
        semikit.train("seg", data=small["seg"][1], method="unimatch_v3")
    with pytest.raises(semikit.ConfigError, match=r"unknown key 'lrr'. Did you mean 'lr'"):
        semikit.train("seg", data=small["seg"][1], settings={"optimizer.lrr": 1})
    with pytest.raises(semikit.InputError, match="--resume takes data and recipe from the run; leave out --data"):
        semikit.train("seg", data=small["seg"][1], resume=runs["seg"].folder)
    with pytest.raises(semikit.InputError, match=r"does not exist. Give a run folder"):
        semikit.load(tmp_path / "nothing")
    with pytest.raises(semikit.InputError, match=r"a run of seg has no --polygon; it has .*--confidence, --prob"):
        semikit.predict(runs["seg"].folder, tmp_path, out=tmp_path, polygon="x.gpkg")
    model, image = runs["cd"].load("cpu"), np.zeros((40, 48, 3), np.uint8)
    with pytest.raises(semikit.InputError, match="lists of two dates have to have equal lengths"):
        model.predict([image, image], [image])
    with pytest.raises(semikit.InputError, match="one date is a path and the other an image"):
        model.predict(image, "a.png")


def test_data_may_be_a_mapping_and_progress_is_followed(small: Small, tmp_path: Path) -> None:
    module, yaml = small["seg"]
    raw = module.raw(yaml)
    seen: list[str] = []

    class Follower(semikit.Reporter):
        def evaluation(self, iteration: int, scores: Any, best: Any) -> None:
            seen.append(f"{iteration} {sorted(scores)}")

        def finished(self, run: Any) -> None:
            seen.append(run.folder.name)

    mapping = {key: value for key, value in raw["data"]["folders"].items() if value is not None}
    settings = {f"model.{key}": value for key, value in raw["model"].items()}
    settings |= {"views.weak.crop": 32, "train.group": 2}
    run = semikit.train(
        "seg", data=mapping, labels="1/2", iterations=1, batch=2, workers=0, device="cpu", out=tmp_path / "mine",
        settings=settings, reporter=Follower(),
    )  # fmt: skip
    assert seen == ["1 ['student', 'teacher']", "mine"]
    assert semikit.evaluate(run.folder, data=mapping, device="cpu").metric == "mIoU"


def test_what_can_be_named() -> None:
    assert {"unimatch_v2", "fixmatch"} <= set(semikit.list_methods())
    assert "dinov2-small" in semikit.list_models()
    assert "cifar10" in semikit.list_datasets("cls")
    assert "cifar10" not in semikit.list_datasets("seg")
    assert "pascal-92-dinov2-s" in semikit.list_presets("seg")


def test_several_processes_get_the_same_run(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keywords as a command line, which the command line reads as the same configuration."""
    module, yaml = small["seg"]
    mapping = {key: value for key, value in module.raw(yaml)["data"]["folders"].items() if value is not None}
    given: dict[str, Any] = {
        "data": mapping, "labels": 4, "iterations": 2, "batch": 2, "device": "cpu", "eval_every": 1,
        "compile": "max-autotune",
        "settings": {"model.weights": "none", "views.weak.crop": 28,
                     "method.threshold": 0.5, "optimizer.lr": 1e-5, "train.group": 1},
    }  # fmt: skip
    wanted = semikit.plan("seg", gpus=2, **given)
    printed: list[str] = []

    def launch(gpus: int, arguments: list[str]) -> int:
        out = arguments.index("--out")
        folder = Path(arguments[out + 1])
        (folder / "results.json").write_text(json.dumps({"metric": "mIoU"}))
        with redirect_stdout(io.StringIO()) as text:
            assert (
                command([*arguments[:out], *arguments[out + 2 :], "--gpus", str(gpus), "--dry-run", "--show-config"])
                == 0
            )
        printed.append(text.getvalue())
        return 0

    monkeypatch.setattr("semikit.run.launch.launch", launch)
    run = semikit.train("seg", **given, gpus=2, out=tmp_path / "shared")
    assert run.results == {"metric": "mIoU"}
    assert wanted.config.to_yaml() in printed[0]
    monkeypatch.setattr("semikit.run.launch.launch", lambda *_: 3)
    with pytest.raises(semikit.RunError, match="one of 2 processes ended with exit code 3"):
        semikit.train("seg", **given, gpus=2, out=tmp_path / "failed")
    monkeypatch.setattr("semikit.run.launch.launch", lambda *_: 130)
    with pytest.raises(semikit.RunError, match="interrupted; what was trained is kept") as stopped:
        semikit.budget("seg", **{**given, "labels": 4}, methods="unimatch_v2", gpus=2, out=tmp_path / "stopped")
    assert stopped.value.exit_code == 130


def test_several_seeds(small: Small, tmp_path: Path) -> None:
    module, yaml = small["cls"]
    raw = module.raw(yaml)
    settings = {f"{section}.{key}": value for section in ("model", "views") for key, value in raw[section].items()}
    run = semikit.train(
        "cls", data=yaml, labels=6, iterations=1, batch=raw["train"]["batch"], device="cpu", workers=0, seeds=(0, 1),
        out=tmp_path / "two", settings={**settings, "train.group": raw["train"]["group"]},
    )  # fmt: skip
    assert run.folder == tmp_path / "two"
    assert run.results["seeds"] == [0, 1]
    with pytest.raises(semikit.WeightsError, match=r"runs of several seeds; give one of them: .*seed-0, .*seed-1"):
        run.load()
    assert semikit.load(run.folder / "seed-0", "cpu").class_names
    assert run.scores.value == pytest.approx(run.results["test"]["mean"])
    with pytest.raises(semikit.InputError, match="both --seeds 0,1 and one seed, 3, were given"):
        semikit.train("cls", data=yaml, labels=6, seeds=(0, 1), seed=3)
    with pytest.raises(semikit.InputError, match="plan takes the keywords of train without resume"):
        semikit.plan("cls", data=yaml, epoch=3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": [0, 0]}, "each once"),
        ({"seeds": []}, "--seeds takes different whole numbers"),
        ({"seeds": "0,1"}, "--seeds takes different whole numbers"),
        ({"gpus": 0}, "--gpus takes a number of processes, 1 or more; got 0"),
        ({"gpus": "2"}, "--gpus takes a number of processes"),
        ({"data": 5}, "--data takes a path or a mapping"),
        ({"settings": ["optimizer.lr=1"]}, "settings takes a mapping"),
        ({"settings": {"train.iterations": np.ones(2)}}, r"settings hold text, numbers, .* \(ndarray\)"),
        ({"reporter": 5}, "reporter takes a semikit.Reporter"),
        ({"weights": Path("x.pth")}, "x.pth"),
        ({"unlabeled": [Path("nowhere")]}, "nowhere"),
    ],
)
def test_wrong_keywords_are_refused(wrong: dict[str, Any], message: str, small: Small, tmp_path: Path) -> None:
    given: dict[str, Any] = {"data": small["seg"][1], "labels": 2, "out": tmp_path / "run"}
    with pytest.raises(semikit.InputError, match=message):
        semikit.train("seg", **given | wrong)
    assert not (tmp_path / "run").exists()


def test_no_such_split(runs: dict[str, semikit.Run]) -> None:
    with pytest.raises(semikit.UnknownNameError, match=r"unknown --split 'train'\. Known: test, val"):
        semikit.evaluate(runs["seg"].folder, split="train")


def test_a_program_that_names_no_reporter_writes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = default_reporter()
    reporter.planned("semikit train seg", {"device": "CPU", "run": "runs/seed-1"})
    reporter.notice("why")
    assert capfd.readouterr() == ("", "semikit train seg: runs/seed-1\nnote: why\n")


def test_a_notebook_shows_a_run(runs: dict[str, semikit.Run]) -> None:
    for task, run in runs.items():
        card, shown = run._repr_html_(), (run.folder, f"{run.scores.value:.2f}", *run.results["per_class"])
        assert f"<b>semikit train {task}</b>" in card
        assert [text for text in shown if f">{text}</td>" not in card] == []
        assert not re.search("src=|href=|url|white|#[0-9a-f]{3}", card)


def test_a_card_escapes_names_and_leaves_out_what_is_not_defined(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("iteration,student_mIoU,teacher_mIoU\n10,40,nan\n20,50,60\n")
    best = {"value": 60.0, "split": "val", "model": "teacher", "iteration": 20}
    classes = {"<b>": 55.5, "car": None} | {f"class {k}": 1.0 for k in range(30)}
    found = {"task": "seg", "metric": "mIoU", "best": best, "per_class": classes, "protocol": "strict"}
    found |= {"dataset": "a & b", "method": "fixmatch", "iterations": 20, "seconds": 300.0}
    card = semikit.Run(tmp_path, found)._repr_html_()
    assert [text for text in (">&lt;b&gt;<", ">a &amp; b<", ">and 8 more<") if text not in card] == []
    assert re.findall('points="(.*?)"', card) == ["135.0,70.0 240.0,60.0 ", "240.0,50.0 "]
    seeds = {"metric": "mIoU", "seeds": [0, 1], "split": "val", "mean": 50.25, "std": 1.5, "values": [1, 2]}
    assert ">50.25 ± 1.50<" in semikit.Run(tmp_path, seeds)._repr_html_()


def test_a_map_is_plotted_as_the_overlay_of_the_command_line(
    runs: dict[str, semikit.Run], small: Small, tmp_path: Path
) -> None:
    path = small["seg"][1].parent / "val/images/val0.png"
    semikit.predict(runs["seg"].folder, path, out=tmp_path, device="cpu", overlay=True)
    (overlay,) = tmp_path.glob("**/*overlay*")
    model, image = runs["seg"].load("cpu"), Image.open(path)
    found = pickle.loads(pickle.dumps(model.predict(path)))
    for axes in (found.plot(), model.predict(image).plot(image), found.plot(np.asarray(image)), found.plot(path)):
        assert np.array_equal(axes.images[0].get_array(), np.asarray(Image.open(overlay)))
    numbers, counts = np.unique(found.classes, return_counts=True)
    shares = {f"{found.names[k]} {n / found.classes.size:.0%}" for k, n in zip(numbers, counts, strict=True)}
    assert {text.get_text() for text in axes.get_legend().get_texts()} == shares
    bare = model.predict(image).plot()  # no file and no image: the map alone
    assert np.array_equal(bare.images[0].get_array(), found.palette[found.classes])
    with pytest.raises(semikit.InputError, match=r"prediction has \(40, 48\) rows and columns, the image \[\(3, 4\)\]"):
        found.plot(np.zeros((3, 4, 3), np.uint8))
    pyplot.close("all")


def test_change_is_plotted_beside_the_date_before(runs: dict[str, semikit.Run], small: Small) -> None:
    dates = [sorted((small["cd"][1].parent / "val" / date).glob("*.png"))[0] for date in "AB"]
    found = runs["cd"].load("cpu").predict(*dates)
    found.classes[:20], found.classes[20:] = 0, 1
    axes = found.plot()
    shown, (before, after) = axes.images[0].get_array(), (np.asarray(Image.open(path)) for path in dates)
    there = shown[:, -after.shape[1] :]
    assert np.array_equal(shown[:, : before.shape[1]], before)
    assert np.array_equal(there[:20], after[:20])
    assert (there[20:] != after[20:]).mean() > 0.9
    assert np.array_equal(found.plot(dates).images[0].get_array(), shown)
    assert [text.get_text()[:7] for text in axes.get_legend().get_texts()] == ["changed"]
    pyplot.close("all")


def test_a_class_is_plotted_with_the_most_probable_ones(runs: dict[str, semikit.Run], small: Small) -> None:
    path = sorted((small["cls"][1].parent / "val").glob("*/*.png"))[0]
    found = runs["cls"].load("cpu").predict(path)
    axes, own = found.plot(), pyplot.figure().subplots()
    assert axes.get_title() == f"{found.names[found.classes]} {found.confidence:.0%}"
    assert np.array_equal(axes.images[0].get_array(), np.asarray(Image.open(path).convert("RGB")))
    assert [bar.get_width() for bar in axes.child_axes[0].patches] == sorted(found.probabilities, reverse=True)
    assert found.plot(ax=own) is own
    found, figures = replace(found, names=("$_a$",) * 3, pictures=list), pyplot.get_fignums()  # no mathematics
    assert Image.open(io.BytesIO(found._repr_png_())).format == "PNG"
    assert pyplot.get_fignums() == figures
    pyplot.close("all")
