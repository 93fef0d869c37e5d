from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from semikit.cli.train import parse_seeds
from semikit.registry import METHODS
from semikit.run.compose import compose
from semikit.run.recipes import read_recipe, read_yaml
from semikit.training.checkpoint import read_best, read_checkpoint
from semikit.training.step import Stepper
from semikit.training.tracking import read_rows
from tests.helpers import photos
from tests.helpers.equality import differences
from tests.helpers.tiny import one_run

Call = Callable[..., Any]

FILES = {
    *("config.yaml", "split.json", "labeled.txt", "unlabeled.txt", "log.txt", "results.csv", "results.json"),
    *("curves.png", "steps.csv", "images", "weights", "census.json"),
}


def test_a_run_folder_holds_everything(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events == FILES
    assert sorted(path.name for path in (trained / "weights").iterdir()) == [
        "best.safetensors",
        "last.ckpt",
        "previous.ckpt",
    ]
    for picture in (trained / "curves.png", *(trained / "images").iterdir()):
        with Image.open(picture) as image:
            image.load()
    assert read_checkpoint(trained / "weights/previous.ckpt")["step"] == 2
    assert "4/4 student mIoU" in (trained / "log.txt").read_text()


def test_what_the_data_hold(train: Call, trained: Path) -> None:
    census = json.loads((trained / "census.json").read_text())
    assert list(census) == ["labelled", "val", "test"]
    assert (census["labelled"]["images"], census["val"]["opened"], census["val"]["channels"]) == (4, 3, 3)
    assert list(census["val"]["classes"]) == ["sky", "road", "car"]
    pixels = sum(of["pixels"] for of in census["val"]["classes"].values())
    assert pixels + census["val"]["ignored_pixels"] == 3 * 40 * 48
    lines = (trained / "log.txt").read_text().splitlines()
    head = next(k for k, line in enumerate(lines) if line.startswith("class"))
    assert [line.split()[:2] for line in lines[head + 2 : head + 5]] == [["sky", "4"], ["road", "4"], ["car", "4"]]
    answer = train("--dry-run")
    table = [line.split() for line in answer.out.splitlines()]
    assert ["class", "labelled", "pixels", "val", "pixels", "test", "pixels"] in table
    assert ["all", "4", "3", "2"] in table


def test_results_hold_what_scripts_read(trained: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    wanted = "task dataset method metric best student teacher per_class iterations seconds images_per_second"
    assert set(wanted.split()) | {"semikit", "torch", "device"} <= results.keys()
    assert (results["task"], results["dataset"], results["method"]) == ("seg", "data", "unimatch_v2")
    assert (results["metric"], results["iterations"]) == ("mIoU", 4)
    assert {"model", "value", "iteration"} <= results["best"].keys()
    assert results["best"]["model"] in ("student", "teacher")
    assert list(results["per_class"]) == ["sky", "road", "car"]
    assert sum(results["per_class"].values()) / 3 == pytest.approx(results["best"]["value"])
    for name in ("student", "teacher", "test"):
        assert {"mIoU", "mIoU_paper", "mIoU_present", "pixel_accuracy", "per_class"} <= results[name].keys()
    rows = read_rows(trained)
    assert [row["iteration"] for row in rows] == [2, 4]
    best = max(row[f"{name}_mIoU"] for row in rows for name in ("student", "teacher"))
    assert results["best"]["value"] == pytest.approx(best, abs=1e-4)


def test_the_configuration_of_a_run_reproduces_it(trained: Path, semikit: Call, tmp_path: Path) -> None:
    answer = semikit("train", "seg", "--config", trained / "config.yaml", "--out", tmp_path / "again")
    assert answer.code == 0, answer.err
    first, again = (read_checkpoint(folder / "weights/last.ckpt") for folder in (trained, tmp_path / "again"))
    for part in ("method", "optimizer", "best", "config", "manifest"):
        assert not differences(first[part], again[part]), part
    assert (tmp_path / "again/config.yaml").read_text() == (trained / "config.yaml").read_text()
    assert (tmp_path / "again/labeled.txt").read_text() == (trained / "labeled.txt").read_text()


def test_flags_go_before_the_recipe(trained: Path, semikit: Call, tmp_path: Path) -> None:
    answer = semikit(
        "train",
        "seg",
        "--config",
        trained / "config.yaml",
        "--epochs",
        "3",
        "method.threshold=0.5",
        "--dry-run",
        "--show-config",
    )
    assert answer.code == 0, answer.err
    assert "threshold: 0.5" in answer.out
    assert "iterations: null\n  epochs: 3" in answer.out


@pytest.mark.parametrize("method", one_run(METHODS.names()))
def test_every_method(train: Call, tmp_path: Path, method: str) -> None:
    answer = train("--method", method, "--out", tmp_path / "run", "--iterations", "1")
    plugin = METHODS.get(method)
    if plugin.requirements(plugin.Config()).whole_images:
        assert answer.code == 2
        assert "classes of whole images only. For pixels use freematch or softmatch" in answer.err
        return
    assert answer.code == 0, answer.err
    assert json.loads((tmp_path / "run/results.json").read_text())["method"] == method


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(train: Call, tmp_path: Path, precision: str) -> None:
    answer = train("--precision", precision, "train.accumulate=2", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    weights, _ = read_best(tmp_path / "run/weights/best.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_a_compiled_run_is_the_same_run(train: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, but not translated to machine code, which takes minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    for name, flags in (("plain", ()), ("compiled", ("--compile",))):
        answer = train("--out", tmp_path / name, *flags)
        assert answer.code == 0, answer.err
    plain, compiled = (read_checkpoint(tmp_path / name / "weights/last.ckpt") for name in ("plain", "compiled"))
    assert plain["method"].keys() == compiled["method"].keys()
    torch.testing.assert_close(compiled["method"], plain["method"])


def test_what_a_person_sees(train: Call, tmp_path: Path) -> None:
    answer = train("--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    for words in (
        *("device", "CPU", "fp32", "4 labelled · 4 unlabelled · 3 validation · 2 test", "seen about 1 times"),
        *("test_vit", "parameters", "licence", "2 iterations of 2 + 2 images"),
        *("loss ", "confident ", "images/s", "waiting ", " left", "student mIoU", "teacher mIoU", "best mIoU"),
        "labelled images that hold each class: car 4, road 4, sky 4",
        f"run folder: {tmp_path}/run",
        f"next: semikit predict {tmp_path}/run IMAGES -o predictions --overlay",
    ):
        assert words in answer.out
    assert "\x1b" not in answer.out, "no bars and no colours without a terminal"


def test_quiet_prints_results_only(train: Call, tmp_path: Path) -> None:
    answer = train("--out", tmp_path / "run", "--quiet")
    lines = answer.out.splitlines()
    assert [line.split(" ")[:2] for line in lines] == [["best", "mIoU"], ["test", "mIoU"]]
    assert "student mIoU" in (tmp_path / "run/log.txt").read_text()


def test_a_dry_run_trains_and_writes_nothing(train: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_step(*args: object) -> None:
        raise AssertionError("a dry run must not train")

    monkeypatch.setattr(Stepper, "__call__", no_step)
    before = sorted(tmp_path.rglob("*"))
    answer = train("--dry-run", "--show-config", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "Nothing was trained or written." in answer.out
    assert "encoder: test_vit" in answer.out
    plain = train("--dry-run")
    assert "encoder: test_vit" not in plain.out
    assert plain.out.startswith("╭─ plan")
    assert "uint8" in plain.out
    assert "2 iterations of 2 + 2 images" in answer.out
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_are_numbered_and_never_overwritten(train: Call, tmp_path: Path) -> None:
    for _ in range(2):
        assert train("--iterations", "1", "--quiet").code == 0
    names = sorted(path.name for path in (tmp_path / "here/runs/seg").iterdir())
    assert names == ["data-unimatch_v2", "data-unimatch_v2-2"]


def test_several_seeds(train: Call, tmp_path: Path) -> None:
    answer = train("--seeds", "3,5", "--out", tmp_path / "runs", "--iterations", "1", "--quiet")
    assert answer.code == 0, answer.err
    results = [json.loads((tmp_path / f"runs/seed-{seed}/results.json").read_text()) for seed in (3, 5)]
    summary = json.loads((tmp_path / "runs/summary.json").read_text())
    values = [result["best"]["value"] for result in results]
    assert summary["values"] == values
    assert summary["mean"] == pytest.approx(sum(values) / 2)
    assert summary["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert f"mIoU over seeds [3, 5]: {summary['mean']:.2f} ± {summary['std']:.2f}" in answer.out
    splits = [(tmp_path / f"runs/seed-{seed}/labeled.txt").read_text() for seed in (3, 5)]
    assert splits[0] != splits[1]


def test_seeds_are_different_whole_numbers() -> None:
    assert parse_seeds("0, 1,2") == [0, 1, 2]


def test_more_unlabelled_images(train: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(3):
        photos.save(tmp_path / f"here/more/{k}.png", [[[k, 0, 0]] * 40] * 40)
    answer = train("--unlabeled", "more", "--dry-run", "--show-config")
    assert "4 labelled · 7 unlabelled" in answer.out
    assert f"- {tmp_path}/here/more" in answer.out, "paths are written so that they hold from any folder"


def test_a_list_of_labels_is_kept_as_an_absolute_path(train: Call, tmp_path: Path) -> None:
    (tmp_path / "here/list.txt").write_text("train2\ntrain3\n")
    answer = train("--labels", "list.txt", "--dry-run", "--show-config")
    assert "2 labelled · 6 unlabelled" in answer.out
    assert f"labels: {tmp_path}/here/list.txt" in answer.out


def test_a_fold_is_trained_on_recorded_and_evaluated(semikit: Call, photo_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "here/folds.yaml"
    data.write_text(f"train: {photo_data.parent / 'train'}\nfolds: 3\nclasses: [sky, road, car]\nignore: [9]\n")
    flags = ("--data", data, *photos.FLAGS, "--iterations", "1")
    assert semikit("train", "seg", *flags, "--dry-run").err.startswith("error: folds: 3: which of them")
    answer = semikit("train", "seg", *flags, "--fold", "1", "--dry-run")
    assert answer.code == 0, answer.err
    assert "4 labelled · 2 unlabelled · 2 validation" in answer.out
    assert answer.out.replace("\n", " ").count("2 of 6 images of train with a mask are held out as val") == 1
    run = tmp_path / "run"
    split = ("data", "split", "seg", "--data", data, "--labels", "50%", "-o", "list.txt")
    assert semikit(*split).err.startswith("error: folds: 3: which of them")
    assert semikit(*split, "--fold", "1").code == 0
    assert semikit("train", "seg", *flags, "--fold", "1", "--labels", "list.txt", "--dry-run").code == 0
    assert semikit("train", "seg", *flags, "--fold", "1", "--out", run, "--quiet").code == 0
    held = json.loads((run / "split.json").read_text())["held_out"]["val"]
    assert len(held) == 2
    assert not set(held) & set((run / "labeled.txt").read_text().split())
    assert "\n  fold: 1\n" in (run / "config.yaml").read_text()
    answer = semikit("evaluate", run)
    assert answer.code == 0, answer.err
    assert semikit("evaluate", run, "--data", data).out == answer.out, "by the fold of the run"
    assert semikit("train", "seg", "--resume", run, "--fold", "2").code == 2


def test_only_own_data_are_in_folds(semikit: Call) -> None:
    answer = semikit("train", "seg", "--dataset", "pascal", "--fold", "0", "--dry-run")
    assert answer.code == 2
    assert "only one's own data are in folds" in answer.err


def test_a_fault_of_ours_is_told_in_a_line_and_logged(
    train: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(Stepper, "__call__", broken)
    answer = train("--out", tmp_path / "run")
    assert answer.code == 1
    assert answer.err.strip() == f"a fault in semikit: KeyError: 'lost'. The traceback is in {tmp_path}/run/log.txt."
    assert "Traceback" in (tmp_path / "run/log.txt").read_text()
    shown = train("--out", tmp_path / "other", "--verbose")
    assert shown.code == 1
    assert "Traceback" in shown.err


def test_a_run_that_cannot_go_on(train: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Stepper, "__call__", no_space)
    answer = train("--out", tmp_path / "run")
    assert answer.code == 3
    assert "No space left on device" in answer.err
    assert "go on with --resume" in answer.err


def test_too_little_memory(train: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Stepper, "__call__", full)
    answer = train("--out", tmp_path / "run")
    assert answer.code == 3
    assert answer.err.startswith("error: the memory of cpu does not suffice. Begin again with a smaller --batch")
    assert "train.accumulate=2" in answer.err
    assert "--precision bf16" in answer.err


def test_labelled_images_alone_are_counted_alone(train: Call) -> None:
    answer = train("--method", "supervised", "--dry-run")
    assert "2 iterations of 2 images" in answer.out


def test_a_loss_that_is_not_finite(train: Call, tmp_path: Path) -> None:
    answer = train("--out", tmp_path / "run", "optimizer.lr=1.0e+30", "--iterations", "4", "train.log_every=1")
    assert answer.code == 3
    assert "was not finite at iteration" in answer.err
    assert list((tmp_path / "run").glob("nonfinite-iteration-*.safetensors"))


def test_an_interruption_before_anything_was_written_leaves_no_folder(
    train: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("semikit.run.build.build_run", interrupted)
    assert train("--out", tmp_path / "run").code == 130
    assert not (tmp_path / "run").exists()


def test_best_weights_say_how_they_came_about(trained: Path) -> None:
    _, metadata = read_best(trained / "weights/best.safetensors")
    assert metadata["task"] == "seg"
    assert metadata["model"]["encoder"] == "test_vit"
    assert metadata["class_names"] == ["sky", "road", "car"]


# ----------------------------------------------------------------------------------------------------------- layers


def test_the_data_named_take_the_place_of_a_recipes_own(trained: Path, photo_data: Path) -> None:
    config = trained / "config.yaml"
    whole = compose("seg", config=config, above={})
    assert {key: value for key, value in whole.items() if key != "about"} == read_yaml(config)
    made = compose("seg", dataset="shapes", config=config, above={})
    assert (made["name"], made["data"]["folders"]) == ("shapes", None)
    assert made["data"]["shapes"] == read_recipe("datasets", "shapes")["data"]["shapes"]
    assert made["data"]["labels"] == "4"
    own = compose("seg", data=photo_data, above={"data": {"labels": "2"}})
    assert own["name"] == "data"
    assert own["data"]["folders"]["train"]["images"] == str(photo_data.parent / "train/images")


def test_a_recipe_with_folders_and_a_data_set_named(tmp_path: Path, photo_data: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(photos.raw(photo_data)))
    made = compose("seg", dataset="shapes", config=tmp_path / "recipe.yaml", above={})
    assert made["data"]["folders"] is None
    assert made["data"]["shapes"] is not None
    assert made["data"]["labels"] == "4"
    assert made["model"]["encoder"] == "test_vit"


def test_a_dry_run_asks_for_no_weights(train: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_weights(*args: object) -> None:
        raise AssertionError("a dry run must not load weights")

    monkeypatch.setattr("semikit.models.weights.pretrained._from_timm", no_weights)
    answer = train("--dry-run", "--weights", "pretrained")
    assert answer.code == 0, answer.err
    assert "pretrained · licence" in answer.out


def test_a_dry_run_may_time_the_run(train: Call, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    answer = train("--dry-run", "--time", "--iterations", "7000")
    assert answer.code == 0, answer.err
    assert "here for 7000 steps of" in " ".join(answer.out.replace("│", " ").split())
    assert sorted(tmp_path.rglob("*")) == before
    assert "--time goes with --dry-run" in train("--time").err
    assert "leave out --gpus 2" in train("--dry-run", "--time", "--gpus", "2").err


def test_batch_norm_of_one_value_is_no_fault_of_semikit(semikit: Call, photo_data: Path) -> None:
    network = ("--encoder", "resnet10t", "--weights", "none", "model.decoder_channels=8", "--device", "cpu")
    network += ("model.encoder_args={channels: [8, 8, 8, 8], stem_width: 8}", "--crop", "16", "--workers", "0")
    single = ("--labels", "4", "--batch", "1", "train.group=1", "--iterations", "1")
    answer = semikit("train", "seg", "--data", photo_data, *network, *single)
    assert answer.code == 2, answer.err
    assert "batch norm needs more than one value of each channel" in answer.err
    assert "a larger --batch" in answer.err


def test_random_weights_and_the_rates_of_fine_tuning(train: Call) -> None:
    slow = train("--dry-run", "optimizer.encoder_lr=5.0e-6", "optimizer.lr=2.0e-4")
    assert "--preset small-from-scratch is made for random weights" in slow.out
    assert "small-from-scratch" not in train("--dry-run", "optimizer.encoder_lr=null").out


def test_pretrained_weights_and_the_rates_of_another_kind_of_encoder(semikit: Call, photo_data: Path) -> None:
    plan = ("train", "seg", "--data", photo_data, "--labels", "4", "--dry-run", "--crop", "32")
    network = ("--encoder", "efficientnet-lite0")
    told = semikit(*plan, *network).out
    assert "--preset small-pretrained is made for such networks" in told
    assert "one for large transformers (optimizer.encoder_lr=5e-06)" in told
    transformer = ("--encoder", "vit-tiny", "optimizer.lr=1.0e-3", "optimizer.encoder_lr=1.0e-3")
    assert "--preset foundation is made for such networks" in semikit(*plan, *transformer).out
    assert "layer_decay=null" in semikit("train", "seg", *plan[2:], *network, "optimizer.layer_decay=0.5").err
    for right in (
        ("--preset", "small-pretrained"),
        ("--preset", "small-pretrained", *network[:1], "efficientnet-lite2"),
        (*network, "model.freeze=true"),
        ("--encoder", "vit-tiny"),
    ):
        answer = semikit(*plan, *right)
        assert answer.code == 0, answer.err
        assert "--preset" not in answer.out


def test_a_guard_that_has_nothing_to_do_is_told_of(train: Call) -> None:
    told = "note: train.guard=act does nothing: supervised learns from labelled images alone"
    assert told in train("--dry-run", "--method", "supervised", "train.guard=act").out
    assert "does nothing" not in train("--dry-run", "train.guard=act").out


def test_a_run_whose_unlabelled_images_taught_nothing_says_so(train: Call, tmp_path: Path) -> None:
    answer = train("--out", tmp_path / "run", "method.threshold=1.0")
    assert answer.code == 0, answer.err
    notice = "no unlabelled image has taught anything yet after"
    assert answer.out.count(notice) == 2
    assert answer.out.index(notice, answer.out.index(notice) + 1) < answer.out.index("best mIoU")
    assert notice in json.loads((tmp_path / "run/results.json").read_text())["notices"][0]
