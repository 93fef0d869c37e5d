from __future__ import annotations

from pathlib import Path

import pytest

from semikit.errors import ConfigError, UnknownNameError
from semikit.run.config import resolve
from semikit.run.recipes import (
    compose,
    difference,
    lay_over,
    merge,
    parse_overrides,
    read_recipe,
    read_yaml,
    task_recipe,
)


def test_mappings_are_laid_over_one_another() -> None:
    below = {"a": {"x": 1, "y": {"p": 1}}, "b": [1, 2]}
    assert merge(below, {"a": {"y": {"q": 2}}, "b": [3]}) == {"a": {"x": 1, "y": {"p": 1, "q": 2}}, "b": [3]}
    assert below == {"a": {"x": 1, "y": {"p": 1}}, "b": [1, 2]}, "nothing is changed in place"


def test_another_method_drops_the_settings_of_the_former() -> None:
    below = {"method": {"name": "unimatch_v2", "dropout": "none"}}
    assert merge(below, {"method": {"name": "supervised"}}) == {"method": {"name": "supervised"}}
    assert merge(below, {"method": {"threshold": 0.5}})["method"] == {**below["method"], "threshold": 0.5}
    assert merge(below, {"method": {"name": "unimatch_v2"}}) == below


def test_another_encoder_drops_the_arguments_of_the_former() -> None:
    below = {"model": {"encoder": "resnet10t", "encoder_args": {"stem_width": 16}, "decoder": "dpt"}}
    assert merge(below, {"model": {"encoder": "resnet18"}}) == {"model": {"encoder": "resnet18", "decoder": "dpt"}}
    assert merge(below, {"model": {"encoder": "resnet10t"}}) == below
    assert merge(below, {"model": {"weights": "none"}})["model"]["encoder_args"] == {"stem_width": 16}


def test_a_recipe_stands_on_the_preset_it_names() -> None:
    shapes, preset = read_recipe("datasets", "shapes"), read_recipe("presets", "small-from-scratch")
    assert shapes["model"] == preset["model"]
    assert shapes["name"] == "shapes"
    assert "based_on" not in shapes


def test_one_length_drops_the_other() -> None:
    below = {"train": {"iterations": 100, "batch": 4}}
    assert merge(below, {"train": {"epochs": 3}})["train"] == {"iterations": None, "batch": 4, "epochs": 3}
    assert merge({"train": {"epochs": 3}}, below)["train"] == {"epochs": None, "iterations": 100, "batch": 4}
    assert merge(below, {"train": {"epochs": None}})["train"]["iterations"] == 100


def test_other_folders_take_the_place_of_the_former() -> None:
    below = {"data": {"folders": {"train": {"images": "a"}, "ignore": [1]}, "labels": "4"}}
    above = {"data": {"folders": {"train": {"images": "b"}}}}
    assert merge(below, above)["data"] == {"folders": {"train": {"images": "b"}}, "labels": "4"}


def test_overrides_are_read_as_yaml() -> None:
    found = parse_overrides(["train.batch=4", "method.levels=[0, 1]", "method.threshold=0.5", "name=a=b", "x.y="])
    assert found == {
        "train": {"batch": 4},
        "method": {"levels": [0, 1], "threshold": 0.5},
        "name": "a=b",
        "x": {"y": None},
    }


@pytest.mark.parametrize("item", ["threshold", "=3", "a..b=1", "train.batch =4", "a.b=[1"])
def test_overrides_that_cannot_be_read(item: str) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        parse_overrides([item])


def test_differences_are_lines() -> None:
    old = {"train": {"seed": 0, "batch": 4}, "name": "a"}
    new = {"train": {"seed": 1, "batch": 4}, "name": "a", "more": [1]}
    assert difference(old, new) == ["train.seed: 0 -> 1", "more: None -> [1]"]
    assert difference(old, old) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[1, 2]", "must hold `key: value` lines, not list"),
        (b"a: [", "not valid YAML"),
        (b"\xff\xfe", "not valid YAML"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        read_yaml(tmp_path / "x.yaml")


def test_names() -> None:
    assert task_recipe("seg")["task"] == "seg"
    assert task_recipe("no-such") == {"task": "no-such"}
    with pytest.raises(UnknownNameError, match="Did you mean 'shapes'"):
        read_recipe("datasets", "shaeps")


def test_what_a_recipe_changes_for_a_method_lies_just_above_it(tmp_path: Path) -> None:
    raw = compose("seg", "pascal", above={"method": {"name": "supervised"}})
    assert raw["train"]["batch"] == 32
    assert compose("seg", "pascal")["train"]["batch"] == 16
    assert "by_method" not in raw
    above = {"method": {"name": "supervised"}, "train": {"batch": 8}}
    assert compose("seg", "pascal", above=above)["train"]["batch"] == 8
    own = tmp_path / "own.yaml"
    own.write_text("method: {name: supervised, ohem: null}\ntrain: {batch: 4}")
    raw = compose("seg", "cityscapes", config=own)
    assert (raw["train"]["batch"], raw["train"]["group"], raw["method"]["ohem"]) == (4, 4, None)


def test_what_a_recipe_says_of_all_methods_is_for_those_that_have_it(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("methods: {all: {ema_decay: 0.9, threshold: 0.8}, fixmatch: {ema_decay: 0.7}}")
    for name, found in {
        "supervised": {"ema_decay": 0.9},
        "fixmatch": {"ema_decay": 0.7, "threshold": 0.8},
        "softmatch": {"ema_decay": 0.9},
    }.items():
        assert compose("seg", config=own, above={"method": {"name": name}})["methods"][name] == found
    raw = compose(
        "cls", config=own, above={"method": {"name": "fixmatch"}, "methods": {"all": {"forward": "separate"}}}
    )
    assert raw["method"]["forward"] == "separate", "over what the recipe of the task says of one"
    with pytest.raises(ConfigError, match=r"methods\.all: .*'treshold'.*threshold"):
        compose("seg", above={"methods": {"all": {"treshold": 0.8}}})


def test_another_method_than_a_recipe_was_composed_for_has_what_is_for_all() -> None:
    """The demo composes once, and trains two methods."""
    raw = merge(compose("cls", "shapes-cls"), {"method": {"name": "supervised"}})
    assert resolve(raw).method.ema_decay == 0.99


def test_settings_by_method_in_key_value_lie_over_every_recipe_and_a_run(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("method: {name: fixmatch, threshold: 0.7}\nby_method: {fix*: {methods: {all: {ema_decay: 0.9}}}}")
    raw = compose("seg", config=own)
    assert raw["methods"]["fixmatch"]["ema_decay"] == 0.9
    for name in ("all", "fixmatch"):
        above = {"methods": {name: {"threshold": 0.8}, "supervised": {"ema_decay": 0.5}}}
        for made in (compose("seg", config=own, above=above), lay_over(raw, above)):
            assert made["method"] == {"name": "fixmatch", "threshold": 0.8}
        assert lay_over(raw, {**above, "method": {"threshold": 0.6}})["method"]["threshold"] == 0.6


def test_a_data_set_and_a_recipe_of_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--dataset cityscapes, but the recipe is one of pascal"):
        compose("seg", "cityscapes", preset="pascal-92-dinov2-s")
    assert compose("seg", "pascal", preset="pascal-92-dinov2-s")["data"]["labels"] == "official:92"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data: shapes\n", "data: expected a mapping .*got 'shapes'"),
        ("by_method: [1]\n", "by_method: expected a mapping"),
        ("by_method: {fixmatch: 3}\n", "by_method.fixmatch: expected a mapping .*got 3"),
        ("by_method: {all: {train: {batch: 4}}}\n", r"by_method: unknown method 'all'.*Known: \*, adamatch"),
        ("methods: {all: 3}\n", r"methods\.all: expected a mapping .*got 3"),
        ("methods: {all: {weight: 1}, unimatch_v2: [1]}\n", r"methods\.unimatch_v2: expected a mapping .*got \[1\]"),
        ("methods: {fixmach: {}}\n", "methods: unknown method 'fixmach'. Did you mean 'fixmatch'"),
        ("by_encoder: dinov3\n", "by_encoder: expected a mapping .*got 'dinov3'"),
    ],
)
def test_shapes_that_are_no_mappings(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        compose("seg", config=tmp_path / "x.yaml")


def test_what_a_recipe_changes_for_an_encoder_lies_just_above_it(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("by_encoder: {'*dinov3*': {views: {weak: {crop: 64}}}, resnet18: {}}\nviews: {weak: {crop: 70}}")
    assert compose("seg", "pascal", config=own)["views"]["weak"]["crop"] == 70
    dinov3 = {"model": {"encoder": "dinov3-small"}}
    assert compose("seg", "pascal", config=own, above=dinov3)["views"]["weak"]["crop"] == 64
    assert "by_encoder" not in compose("seg", "pascal", config=own)
    above = {**dinov3, "views": {"weak": {"crop": 32}}}
    assert compose("seg", "pascal", config=own, above=above)["views"]["weak"]["crop"] == 32
