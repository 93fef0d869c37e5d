"""Every shipped YAML is a recipe that resolves."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from semikit.cli.train import compose
from semikit.config import resolve
from semikit.data.spec import load_spec
from semikit.recipes import RECIPES, read_yaml, recipe_names
from semikit.registry import TASKS

ROOT = Path(__file__).parents[2]
ALL = sorted(RECIPES.rglob("*.yaml"))


def test_all_of_them_are_found_by_name() -> None:
    named = {RECIPES / folder / f"{name}.yaml" for folder in ("datasets", "presets") for name in recipe_names(folder)}
    assert named | {RECIPES / f"{task}.yaml" for task in TASKS.names()} == set(ALL)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_it_resolves(path: Path, photo_data: Path) -> None:
    raw = read_yaml(path)
    folder = path.parent.name
    dataset = path.stem if folder == "datasets" else None
    preset = path.stem if folder == "presets" else None
    has_data = dataset or (raw.get("data") or {}).keys() & {"folders", "shapes"}
    config = resolve(compose(raw["task"], dataset, None if has_data else photo_data, None, None, preset, {}))
    again = resolve(config.to_raw())
    assert again == config
    assert config.name


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
