"""Every shipped YAML is a recipe that resolves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from semikit.core.batch_norm import has_batch_norm
from semikit.data.masked_images import load_spec
from semikit.data.pair_spec import load_pairs
from semikit.data.published.catalogue import published_names, read_published
from semikit.data.published.prepare import prepare
from semikit.models.encoders.create import TRANSFORMERS, check_encoder, family
from semikit.models.encoders.names import WIDE
from semikit.models.segmenter import build_segmenter
from semikit.registry import TASKS
from semikit.run.build import build_run
from semikit.run.compose import compose
from semikit.run.config import resolve
from semikit.run.recipes import RECIPES, merge, read_recipe, read_yaml, recipe_names
from semikit.training.reporter import Reporter
from tests.helpers import photos

ROOT = Path(__file__).parents[2]
TASK_RECIPES = [RECIPES / "seg.yaml", RECIPES / "cd.yaml", RECIPES / "cls.yaml"]
ALL = sorted([*TASK_RECIPES, *(RECIPES / "datasets").glob("*.yaml"), *(RECIPES / "presets").glob("*.yaml")])


def test_all_of_them_are_found_by_name() -> None:
    named = {RECIPES / folder / f"{name}.yaml" for folder in ("datasets", "presets") for name in recipe_names(folder)}
    assert {path for path in named if path.is_file()} | {RECIPES / f"{task}.yaml" for task in TASKS.names()} == set(ALL)


def test_every_official_split_and_size_has_a_preset() -> None:
    generated = {name for name in recipe_names("presets") if not (RECIPES / "presets" / f"{name}.yaml").is_file()}
    assert {name for name in generated if not name.startswith("usb-")} == {
        f"{name}-{split.replace('/', '_')}-{size}"
        for name in published_names()
        for split in read_published(name).splits
        for size in ("dinov2-s", "dinov2-b", "dinov2-l")
    }
    for name in ("pascal-92-dinov2-s", "cityscapes-1_16-dinov2-b"):
        raw = compose("seg", preset=name, above={})
        dataset, split, size = name.split("-", 2)
        assert raw["data"]["labels"] == f"official:{split.replace('_', '/')}"
        assert raw["data"]["published"] == {"name": dataset}
        assert resolve(raw).model.encoder == {"dinov2-s": "dinov2-small", "dinov2-b": "dinov2-base"}[size]


def composed(path: Path, made: Mapping[str, Path]) -> dict[str, Any]:
    """The configuration of a run by a shipped recipe, on small data of its task where it has none of its own."""
    raw = read_yaml(path)
    task = raw.get("task", "seg")
    folder = path.parent.name
    dataset = path.stem if folder == "datasets" else None
    preset = path.stem if folder == "presets" else None
    has_data = dataset or (raw.get("data") or {}).keys() & {"folders", "shapes", "scenes", "published"}
    return compose(task, dataset=dataset, data=None if has_data else made[task], preset=preset, above={})


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_it_resolves(path: Path, made: Mapping[str, Path]) -> None:
    config = resolve(composed(path, made))
    again = resolve(config.to_raw())
    assert again == config
    assert config.name


@pytest.fixture(scope="session")
def made(photo_data: Path, pair_data: Path, icon_data: Path) -> Mapping[str, Path]:
    """Task -> small data of one's own."""
    return {"seg": photo_data, "cd": pair_data, "cls": icon_data}


NARROW_RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_width": 8}
FEW = {"size": 32, "train": 6, "val": 2, "test": 1}


def shrunk(raw: dict[str, Any], root: Path) -> dict[str, Any]:
    """The same recipe for two steps with few narrow blocks of the same kind of encoder, on small crops.

    `root` is where a published data set lies.
    """
    kind = family(check_encoder(raw["model"]["encoder"]))
    args = photos.ENCODER_ARGS if kind in TRANSFORMERS else NARROW_RESNET if kind == "resnet" else {}
    model = {"weights": "none", "decoder_channels": 8, "encoder_args": args}
    train = {"iterations": 2, "batch": 2, "group": 2, "workers": 0, "device": "cpu"}
    above: dict[str, Any] = {"model": model, "train": train, "data": {"labels": "2"}}
    above["data"] |= {kind: FEW for kind in ("shapes", "scenes") if raw["data"].get(kind) is not None}
    if raw["data"].get("published") is not None:
        above["data"]["published"] = {"root": str(root)}
    small = merge(raw, above)
    patch = build_segmenter(resolve(small).model, 3).multiple
    return merge(small, {"views": {"weak": {"crop": patch if patch > 1 else 32}}})


def shrunk_classes(raw: dict[str, Any], root: Path) -> dict[str, Any]:
    """The same for whole images."""
    encoder = raw["model"]["encoder"]
    kind = "wide" if encoder in WIDE else family(check_encoder(encoder))
    args = {"wide": {"blocks": 1}, "resnet": NARROW_RESNET}.get(kind, photos.ENCODER_ARGS)
    train = {"iterations": 2, "batch": 3, "ratio": 1, "group": 3, "workers": 0, "device": "cpu"}
    above: dict[str, Any] = {
        "model": {"weights": "none", "encoder_args": args},
        "train": train,
        "data": {"labels": "3"},
    }
    if raw["data"].get("shapes") is not None:
        above["data"] = {"labels": "8", "shapes": {"train": 64, "val": 8, "test": 8}}
    if raw["data"].get("published") is not None:
        above["data"]["published"] = {"root": str(root)}
    if (raw["views"] or {}).get("size"):
        above["views"] = {"size": 28 if kind == "vision_transformer" else 32}
    return merge(raw, above)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_two_steps_are_learned_and_scored(
    path: Path, made: Mapping[str, Path], miniature: Callable[[str], Path], tmp_path: Path
) -> None:
    raw = composed(path, made)
    root = made["cls"].parent if raw["task"] == "cls" else tmp_path / "root"
    if raw["data"].get("published") is not None and raw["task"] != "cls":
        prepare(raw["name"], miniature(raw["name"]), root, lambda what, done, total: None)
    config = resolve((shrunk_classes if raw["task"] == "cls" else shrunk)(raw, root))
    assert config.model.encoder == raw["model"]["encoder"]
    assert config.optimizer.lr == raw["optimizer"]["lr"]
    trainer = build_run(config, tmp_path, Reporter()).trainer
    trainer.method.train()
    for step, batch in enumerate(trainer.task.batches(range(2), 0, False)):
        labeled, unlabeled = trainer.task.views(batch, step, torch.device("cpu"))
        assert trainer.stepper(labeled, unlabeled, step)["loss"].isfinite()
    trainer.method.eval()
    assert 0 <= trainer.task.evaluate({"it": trainer.method.student}, "val", trainer.inference)["it"].value <= 100


SMALL = ("small-from-scratch", "small-pretrained")


@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
@pytest.mark.parametrize("preset", SMALL)
def test_a_preset_of_small_networks_is_for_every_task(
    preset: str, task: str, made: Mapping[str, Path], tmp_path: Path
) -> None:
    above = {"data": {"labels": "3"}, "train": {"iterations": 2, "batch": 3, "group": 3, "device": "cpu"}}
    config = resolve(compose(task, data=made[task], preset=preset, above=above))
    pretrained = preset == "small-pretrained"
    rate = read_recipe("presets", preset, task)["optimizer"]["encoder_lr"]
    weights = "pretrained" if pretrained else "none"
    assert (config.model.weights, config.optimizer.encoder_lr, config.optimizer.layer_decay) == (weights, rate, None)
    config = replace(config, model=config.model.model_copy(update={"weights": "none"}))
    run = build_run(config, tmp_path, Reporter())
    assert has_batch_norm(run.network)
    run.trainer.method.train()
    labeled, unlabeled = run.task.views(next(iter(run.task.batches(range(1), 0, False))), 0, torch.device("cpu"))
    assert run.trainer.stepper(labeled, unlabeled, 0)["loss"].isfinite()


@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
def test_the_preset_of_foundation_models_has_the_released_values(task: str, made: Mapping[str, Path]) -> None:
    """Those of the task's recipe, which are the released ones; of DINOv3 another crop, a multiple of its patch."""
    preset = resolve(compose(task, data=made[task], preset="foundation", above={"data": {"labels": "3"}}))
    default = resolve(compose(task, data=made[task], above={"data": {"labels": "3"}}))
    assert preset == default
    for name in ("dinov3-small", "dinov3-b", "vit_large_patch16_dinov3.sat493m"):
        above = {"data": {"labels": "3"}, "model": {"encoder": name}}
        views = compose(task, data=made[task], preset="foundation", above=above)["views"]
        side = views["size"] if task == "cls" else views["weak"]["crop"]
        assert side % 16 == 0
    above["views"] = {"size": 96} if task == "cls" else {"weak": {"crop": 96}}
    views = compose(task, data=made[task], preset="foundation", above=above)["views"]
    assert (views["size"] if task == "cls" else views["weak"]["crop"]) == 96


@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
def test_a_preset_takes_another_encoder_of_its_kind(task: str, made: Mapping[str, Path]) -> None:
    above = {"data": {"labels": "3"}, "model": {"encoder": "efficientnet-lite2"}}
    config = resolve(compose(task, data=made[task], preset="small-pretrained", above=above))
    assert (config.model.encoder, config.model.weights) == ("efficientnet-lite2", "pretrained")


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_it_says_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert read_yaml(path)["about"]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_examples_of_data_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEMIKIT_TEST_DATA", str(tmp_path))
    raw = read_yaml(path)
    if "train" in raw and "images" in (raw["train"] or {}):
        assert load_spec(path).num_classes >= 2
    elif "train" in raw and "images_a" in (raw["train"] or {}):
        assert load_pairs(path).num_classes >= 2
    else:
        assert raw["task"] in TASKS.names()


def test_a_configuration_survives_its_own_yaml(photo_data: Path, tmp_path: Path) -> None:
    config = resolve(photos.raw(photo_data, data={"split_seed": 3}))
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert resolve(read_yaml(tmp_path / "config.yaml")) == config
