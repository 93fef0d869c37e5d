"""Every shipped YAML is a recipe that resolves."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from semikit.cli.run import start_run
from semikit.cli.train import compose
from semikit.config import resolve
from semikit.data.spec import load_spec
from semikit.models.backbone import TRANSFORMERS, check_encoder, family
from semikit.models.segmenter import build_segmenter
from semikit.recipes import RECIPES, merge, read_yaml, recipe_names
from semikit.registry import TASKS
from semikit.training import tracking
from semikit.training.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[2]
ALL = sorted(path for folder in ("", "datasets", "presets") for path in (RECIPES / folder).glob("*.yaml"))


def test_all_of_them_are_found_by_name() -> None:
    named = {RECIPES / folder / f"{name}.yaml" for folder in ("datasets", "presets") for name in recipe_names(folder)}
    assert named | {RECIPES / f"{task}.yaml" for task in TASKS.names()} == set(ALL)


def composed(path: Path, photo_data: Path) -> dict[str, Any]:
    """The configuration of a run by a shipped recipe, on photographs where it has no data of its own."""
    raw = read_yaml(path)
    folder = path.parent.name
    dataset = path.stem if folder == "datasets" else None
    preset = path.stem if folder == "presets" else None
    has_data = dataset or (raw.get("data") or {}).keys() & {"folders", "shapes"}
    return compose(raw["task"], dataset, None if has_data else photo_data, None, None, preset, {})


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_it_resolves(path: Path, photo_data: Path) -> None:
    config = resolve(composed(path, photo_data))
    again = resolve(config.to_raw())
    assert again == config
    assert config.name


NARROW_RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_width": 8}
FEW = {"size": 32, "train": 6, "val": 2, "test": 1}


def shrunk(raw: dict[str, Any], photos: ModuleType) -> dict[str, Any]:
    """The same recipe for two steps with few narrow blocks of the same kind of encoder, on small crops."""
    kind = family(check_encoder(raw["model"]["encoder"]))
    args = photos.ENCODER_ARGS if kind in TRANSFORMERS else NARROW_RESNET
    model = {"weights": "none", "decoder_channels": 8, "encoder_args": args}
    train = {"iterations": 2, "batch": 2, "group": 2, "workers": 0, "device": "cpu"}
    above: dict[str, Any] = {"model": model, "train": train, "data": {"labels": "2"}}
    if raw["data"].get("shapes") is not None:
        above["data"]["shapes"] = FEW
    small = merge(raw, above)
    patch = build_segmenter(resolve(small).model, 3).multiple
    return merge(small, {"views": {"weak": {"crop": patch if patch > 1 else 32}}})


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_it_trains(
    path: Path, photos: ModuleType, photo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "draw_curves", lambda rows, path: Image.new("L", (1, 1)).save(path))
    raw = composed(path, photo_data)
    results = start_run(shrunk(raw, photos), tmp_path, Console(file=io.StringIO()), quiet=True)
    assert results["iterations"] == 2
    settings = read_checkpoint(tmp_path / "weights/last.ckpt")["config"]
    assert settings["model"]["encoder"] == raw["model"]["encoder"]
    assert settings["optimizer"]["lr"] == raw["optimizer"]["lr"]


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
    else:
        assert raw["task"] in TASKS.names()


def test_a_configuration_survives_its_own_yaml(photos: ModuleType, photo_data: Path, tmp_path: Path) -> None:
    config = resolve(photos.raw(photo_data, data={"split_seed": 3}))
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert resolve(read_yaml(tmp_path / "config.yaml")) == config
