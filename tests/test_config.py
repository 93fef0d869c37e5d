from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from semikit.errors import ConfigError, UnknownNameError
from semikit.methods.fixmatch import plugin as fixmatch
from semikit.run.config import resolve
from tests.helpers import photos


@pytest.fixture
def raw(photo_data: Path) -> dict[str, Any]:
    made: dict[str, Any] = photos.raw(photo_data)
    return made


def test_each_section_is_validated_by_its_owner(raw: dict[str, Any]) -> None:
    config = resolve({**raw, "method": {"name": "fixmatch", "threshold": 0.7}})
    assert isinstance(config.method, fixmatch.Config)
    assert (config.task, config.name, config.method_name) == ("seg", "photos", "fixmatch")
    assert config.train.iterations == 6


def test_plain_values_and_back(raw: dict[str, Any]) -> None:
    config = resolve(raw)
    assert resolve(config.to_raw()) == config


def test_settings_kept_for_several_methods(raw: dict[str, Any]) -> None:
    methods = {"fixmatch": {"threshold": 0.7, "weight": 2.0}, "unimatch_v2": {"threshold": 0.6}}
    config: Any = resolve({**raw, "methods": methods, "method": {"name": "fixmatch", "weight": 3.0}})
    assert (config.method.threshold, config.method.weight) == (0.7, 3.0)


def test_everything_wrong_is_told_at_once(raw: dict[str, Any]) -> None:
    wrong = {**raw, "trian": {}, "evaluate": {"windw": 1}, "optimizer": {"lr": -1.0}}
    with pytest.raises(ConfigError) as caught:
        resolve(wrong)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("unknown section of the configuration 'trian'. Did you mean 'train'")
    assert lines[1].startswith("evaluate: unknown key 'windw'. Did you mean 'window'")
    assert lines[2].startswith("optimizer: invalid value for key 'lr'")


def test_unknown_names(raw: dict[str, Any]) -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'segm'"):
        resolve({**raw, "task": "segm"})
    with pytest.raises(UnknownNameError, match="unknown method 'x'"):
        resolve({**raw, "method": {"name": "x"}})


@pytest.mark.parametrize("key", ["method", "methods"])
def test_a_name_where_settings_belong(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: expected a mapping"):
        resolve({**raw, key: "fixmatch"})


@pytest.mark.parametrize("section", ["data", "model", "views", "train"])
def test_a_section_that_is_no_mapping(raw: dict[str, Any], section: str) -> None:
    with pytest.raises(ConfigError, match=f"{section}: expected a mapping"):
        resolve({**raw, section: 5})


def test_variables_of_the_environment(raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "/somewhere")
    config: Any = resolve({**raw, "data": {**raw["data"], "unlabeled": ["${WHERE}/more"]}})
    assert config.data.unlabeled == ("/somewhere/more",)
    monkeypatch.delenv("WHERE")
    with pytest.raises(ConfigError, match=r"uses \$\{WHERE\}, but the environment variable WHERE is not set"):
        resolve({**raw, "name": "${WHERE}"})


def test_labels_may_be_a_number(raw: dict[str, Any]) -> None:
    config: Any = resolve({**raw, "data": {**raw["data"], "labels": 3}})
    assert config.data.labels == "3"


def test_one_length(raw: dict[str, Any]) -> None:
    for train, told in (({"iterations": None}, "give train.iterations or train.epochs"), ({"epochs": 2}, "keep one")):
        with pytest.raises(ConfigError, match=told):
            resolve({**raw, "train": {**raw["train"], **train}})


@pytest.mark.parametrize("name", ["\n ", "a\x85b", "two\nlines", "\u2028", " a", "#", "é", "null"])
def test_texts_come_back_from_the_file(raw: dict[str, Any], name: str) -> None:
    config = resolve({**raw, "name": name})
    assert yaml.safe_load(config.to_yaml())["name"] == name


def test_names_and_keys_that_are_no_texts(raw: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"name: expected a text, got \['a'\]"):
        resolve({**raw, "name": ["a"]})
    model = {**raw["model"], "encoder_args": {"\ud800": 1}}
    with pytest.raises(ConfigError, match=r"the key '\\ud800', which is no text"):
        resolve({**raw, "model": model})
